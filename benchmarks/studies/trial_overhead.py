"""What a trial costs beyond its training: building, checkpoints and records, with `watch` and with KerasTuner alone.

`python -m benchmarks.studies.trial_overhead` runs each search in a process of its own: what one leaves in memory would slow the next.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner

from benchmarks.measuring import machine, measure
from benchmarks.studies import frame
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import load_digits, watch
from keras_ext.search.spaces import MLP

ALONE, WATCHED = KINDS = ("KerasTuner alone", "watched")


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


def ratios(kept: dict[str, Any]) -> dict[str, list[float]]:
    """Return, by what is compared, the ratio of each round."""
    pairs = zip(kept["seconds"][ALONE], kept["seconds"][WATCHED], strict=True)
    return {"a trial beyond its training, watched over KerasTuner alone": [b / a for a, b in pairs]}


def section(kept: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    (ratio,) = map(measure.spread, ratios(kept).values())
    head = ["search", "ms a trial beyond its training", "lowest", "highest", "rounds"]
    rows = []
    for kind, seconds in kept["seconds"].items():
        shown = (measure.spread(seconds).median, min(seconds), max(seconds))
        rows.append([kind, *(f"{1e3 * s:,.0f}" for s in shown), str(len(seconds))])
    return f"{frame.markdown(head, rows)}\n\nWatched over KerasTuner alone, median of the rounds' ratios: {ratio}."


@click.command()
@click.option("--trials", default=8, show_default=True, help="Of each search.")
@click.option("--rounds", default=5, show_default=True, help="Searches of each kind, in turn.")
@frame.json_option
@click.option("--one", type=click.Choice(KINDS), help="Run one search of this kind, and print its seconds a trial.")
@click.option("--seed", default=1, show_default=True, help="Of that one.")
def main(trials: int, rounds: int, out: Path | None, one: str | None, seed: int) -> None:
    """Compare what a trial costs beyond its training."""
    if one is not None:
        is_watched = one == WATCHED
        beyond_training(is_watched, 1, seed)  # imports and first calls
        click.echo(beyond_training(is_watched, trials, seed))
        return
    header = machine.header(f"python -m benchmarks.studies.trial_overhead --trials {trials} --rounds {rounds}")
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for i in range(rounds):
        for kind in KINDS if i % 2 == 0 else reversed(KINDS):
            command = [
                sys.executable,
                "-m",
                "benchmarks.studies.trial_overhead",
                "--one",
                kind,
                "--trials",
                str(trials),
                "--seed",
                str(i + 1),
            ]
            seconds[kind].append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]))
    kept = {"header": header, "trials": trials, "seconds": seconds}
    frame.finish(kept, section(kept), out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.trial_overhead")
