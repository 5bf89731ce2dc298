"""What a trial costs beyond its training: building, checkpoints and records, with `watch` and with KerasTuner alone.

python -m benchmarks.trial_overhead
"""

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner

from benchmarks import machine
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import load_digits, watch
from keras_ext.search.spaces import MLP


class Timed(MLP):
    """A space whose fits are timed."""

    seconds = 0.0

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any = None, **kwargs: Any) -> Any:
        """Train, and count the time."""
        begin = time.perf_counter()
        found = super().fit(hp, model, x, y, **kwargs)
        self.seconds += time.perf_counter() - begin
        return found


def beyond_training(is_watched: bool, trials: int, seed: int) -> float:
    """Return the seconds of a trial of a search that are not its fit."""
    split = load_digits().split(0.2, 0)
    space = Timed((64,), classes=10, mean=split.x.mean(axis=0), variance=split.x.var(axis=0), samples=len(split.x))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        tuner: Any = keras_tuner.RandomSearch(space, space.objective, max_trials=trials, seed=seed, directory=folder, project_name="t")
        if is_watched:
            watch(tuner, SaturationMonitor(split.x, split.y, on_critical=None))
        begin = time.perf_counter()
        tuner.search(split.x, split.y, validation_data=(split.x_validation, split.y_validation), epochs=2, verbose=0)
        return (time.perf_counter() - begin - space.seconds) / trials


@click.command()
@click.option("--trials", default=8, show_default=True, help="Of each search.")
@click.option("--rounds", default=5, show_default=True, help="Searches of each kind, in turn.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the figures.")
def main(trials: int, rounds: int, out: Path | None) -> None:
    """Compare what a trial costs beyond its training."""
    header = machine.header(f"python -m benchmarks.trial_overhead --trials {trials} --rounds {rounds}")
    seconds: dict[str, list[float]] = {"KerasTuner alone": [], "watched": []}
    beyond_training(True, 1, 1)  # imports and first calls
    for i in range(rounds):
        for name in sorted(seconds, reverse=bool(i % 2)):
            seconds[name].append(beyond_training(name == "watched", trials, i + 1))
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    click.echo("\n".join(f"{key}: {value}" for key, value in header.items()))
    for name, values in seconds.items():
        click.echo(f"{name}: {1e3 * statistics.median(values):.0f} ms a trial beyond its training (median of {rounds} searches)")
    click.echo(f"ratio {ratio:.2f}")
    if out is not None:
        out.write_text(json.dumps({"header": header, "trials": trials, "seconds": seconds, "ratio": ratio}, indent=1) + "\n")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.trial_overhead")
