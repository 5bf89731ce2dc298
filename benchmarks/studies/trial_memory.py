"""How the memory of a search's process grows with its trials: KerasTuner alone, watched, and watched with trials in another process.

`python -m benchmarks.studies.trial_memory` searches small networks for scikit-learn's digits, each way in a process of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
from rich.console import Console

from benchmarks.measuring import machine
from benchmarks.studies import frame
from benchmarks.studies.hopeless_trials import data_of
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import watch
from keras_ext.search.view import View
from keras_ext.search.workers.job import resident
from keras_ext.search.workers.placement import Placement
from keras_ext.search.workers.search_at import search_at

ALONE, WATCHED, ISOLATED = "alone", "watched", "isolated"
WAYS = (ALONE, WATCHED, ISOLATED)
# What a process needs once, it has taken by then.
FIRST = 5
TRIALS_OF_A_PROCESS = 10
# Whole batches of 32: JAX compiles a model anew for what is left over, which takes longer than the training.
SAMPLES, HELD_OUT = 1024, 320
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


class Noting(keras_tuner.RandomSearch):
    """Notes the resident bytes of its process before the first trial and after each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.resident: list[int] = []

    # Where the next trial begins, all is over that is done after a trial; and no way of searching takes the place of these two.
    def on_trial_begin(self, trial: Any) -> None:
        """Note what the trials before left."""
        self.resident.append(resident())
        super().on_trial_begin(trial)

    def on_search_end(self) -> None:
        """Note what the last trial left."""
        self.resident.append(resident())
        super().on_search_end()


def build(hp: Any) -> keras.Model:
    """Return a small network; hardly two trials have the same shapes, so that each is compiled anew."""
    hidden = [
        keras.layers.Dense(hp.Int(f"units_{i}", 8, 64), hp.Choice("activation", ["relu", "tanh"])) for i in range(hp.Int("layers", 1, 2))
    ]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax")])
    rate = hp.Float("rate", 1e-3, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_tuner(folder: str, trials: int) -> Noting:
    """Return the tuner whose project lies in `folder`."""
    return Noting(build, objective=OBJECTIVE, max_trials=trials, seed=1, directory=folder, project_name="trials")


def search(way: str, trials: int) -> list[int]:
    """Search in this process and return its resident bytes, before the first trial and after each."""
    data = data_of("digits", 0)
    x, y, held_out = data.x[:SAMPLES], data.y[:SAMPLES], (data.x_validation[:HELD_OUT], data.y_validation[:HELD_OUT])
    fit: dict[str, Any] = {"x": x, "y": y, "validation_data": held_out, "epochs": 1, "verbose": 0}
    monitor = SaturationMonitor(x, y, on_critical="stop")
    with tempfile.TemporaryDirectory() as folder:
        if way == ISOLATED:
            view = View(Console(quiet=True), OBJECTIVE.name, trials)
            place, make = Placement(isolate=TRIALS_OF_A_PROCESS), partial(make_tuner, trials=trials)
            return search_at(place, make, Path(folder), monitor, seed=0, view=view, **fit).resident
        tuner = make_tuner(folder, trials)
        if way == WATCHED:
            watch(tuner, monitor, seed=0)
        tuner.search(**fit)
        return tuner.resident


@dataclass(frozen=True)
class Growth:
    """How the resident memory of a search's process grew.

    Args:
        first: MiB after the fifth trial.
        last: MiB after the last.
        percent: growth from the one to the other.
        a_trial: MiB that each trial between them added.
        all: MiB before the first trial and after each.
    """

    first: float
    last: float
    percent: float
    a_trial: float
    all: list[float]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "Growth":
        """Return that of these bytes, before the first trial and after each."""
        mib = [size / 2**20 for size in sizes]
        first, last = mib[FIRST], mib[-1]
        a_trial = (last - first) / (len(mib) - 1 - FIRST)
        return cls(round(first, 1), round(last, 1), round(100 * (last / first - 1), 2), round(a_trial, 3), [round(m, 1) for m in mib])


def measure(way: str, trials: int) -> Growth:
    """Return the growth of one way, searched in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.studies.trial_memory", "--trials", str(trials), "--way", way]
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    # KerasTuner prints, too.
    return Growth.of(json.loads(told.splitlines()[-1]))


def section(kept: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    found = {way: Growth(**growth) for way, growth in kept["ways"].items()}
    trials = max(len(growth.all) for growth in found.values()) - 1
    head = ["way", f"MiB after trial {FIRST}", f"MiB after trial {trials}", "growth", "MiB a trial"]
    return frame.markdown(
        head, [[way, f"{g.first:,.1f}", f"{g.last:,.1f}", f"{g.percent:+.1f} %", f"{g.a_trial:+.2f}"] for way, g in found.items()]
    )


@click.command()
@click.option("--trials", type=click.IntRange(min=FIRST + 1), default=50, show_default=True)
@click.option("--ways", default=",".join(WAYS), show_default=True, help="Any of them, with commas.")
@frame.json_option
@click.option("--way", type=click.Choice(WAYS), hidden=True)
def main(trials: int, ways: str, out: Path | None, way: str | None) -> None:
    """Measure how a search's process grows with its trials."""
    if way is not None:
        click.echo(json.dumps(search(way, trials)))
        return
    header = machine.header(f"python -m benchmarks.studies.trial_memory --trials {trials}")
    found = {name.strip(): measure(name.strip(), trials) for name in ways.split(",")}
    kept = {"header": header, "ways": {name: asdict(growth) for name, growth in found.items()}}
    frame.finish(kept, section(kept), out)


if __name__ == "__main__":
    # What goes to the trials' processes is found there by this module's name, which here is `__main__`.
    from benchmarks.studies import trial_memory

    trial_memory.main(prog_name="python -m benchmarks.studies.trial_memory")
