"""How the memory of a search's process grows with its trials: KerasTuner alone, watched, and watched with trials in another process."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from rich.console import Console

from benchmarks import apart, searching
from benchmarks.store import Table
from benchmarks.studies.unpromising_trials import data_of
from keras_ext.callbacks import SaturationMonitor
from keras_ext.parallel.memory_limit import resident
from keras_ext.parallel.placement import Placement
from keras_ext.parallel.search_at import search_at
from keras_ext.search import watch
from keras_ext.search.report.view import View

ALONE, WATCHED, ISOLATED = WAYS = ("alone", "watched", "isolated")
# By the end of this trial a process has taken what it needs once.
FIRST = 5
# Whole batches of 32: JAX compiles a model again for what is left over, which takes longer than the training.
SAMPLES, HELD_OUT = 1024, 320


class Noting(keras_tuner.RandomSearch):
    """Notes the resident bytes of its process before the first trial and after each."""

    resident: list[int]

    # All that is done after a trial is over where the next one begins, and no way of searching replaces these two.
    def on_trial_begin(self, trial: Any) -> None:
        """Note what the trials before left."""
        self.resident = [*getattr(self, "resident", []), resident()]
        super().on_trial_begin(trial)

    def on_search_end(self) -> None:
        """Note what the last trial left."""
        self.resident.append(resident())
        super().on_search_end()


def build(hp: Any) -> keras.Model:
    """Return a small network; hardly two trials have the same shapes, so that each is compiled again."""
    sizes = [(hp.Int(f"units_{i}", 8, 64), hp.Choice("activation", ["relu", "tanh"])) for i in range(hp.Int("layers", 1, 2))]
    model = keras.Sequential([keras.Input((64,)), *(keras.layers.Dense(*size) for size in sizes), keras.layers.Dense(10, "softmax")])
    rate = hp.Float("rate", 1e-3, 1e-2, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def make_tuner(folder: str, **arguments: Any) -> Noting:
    """Return the tuner whose project lies in `folder`."""
    return Noting(build, directory=folder, project_name="trials", **arguments)


def search(way: str, trials: int) -> list[int]:
    """Search in this process and return its resident bytes, before the first trial and after each."""
    data = data_of("digits", 0)
    x, y, held_out = data.x[:SAMPLES], data.y[:SAMPLES], (data.x_validation[:HELD_OUT], data.y_validation[:HELD_OUT])
    fit: dict[str, Any] = {"x": x, "y": y, "validation_data": held_out, "epochs": 1, "verbose": 0}
    monitor = SaturationMonitor(x, y, on_critical="stop")
    arguments = {"objective": keras_tuner.Objective("val_accuracy", "max"), "max_trials": trials, "seed": 1}
    if way == ISOLATED:
        view, place = View(Console(quiet=True), "val_accuracy", trials), Placement(isolate=10)
        with tempfile.TemporaryDirectory() as folder:
            return search_at(place, partial(make_tuner, **arguments), Path(folder), monitor, seed=0, view=view, **fit).resident
    with searching.quiet_tuner(Noting, build, **arguments) as tuner:
        if way == WATCHED:
            watch(tuner, monitor, seed=0)
        tuner.search(**fit)
        return tuner.resident


def measure(trials: int) -> dict[str, Any]:
    """Return, for each way, MiB after the fifth trial and the last, the growth between in percent and by trial, and all of them."""
    ways = {}
    for way in WAYS:
        mib = [size / 2**20 for size in apart.run(search, way, trials)]
        first, last = mib[FIRST], mib[-1]
        numbers = (first, last, 100 * (last / first - 1), (last - first) / (trials - FIRST), mib)
        ways[way] = dict(zip(("first", "last", "percent", "a_trial", "all"), numbers, strict=True))
    return {"ways": ways}


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each way."""
    names = {"first": f"MiB after trial {FIRST}", "last": "MiB after the last", "percent": "growth, %", "a_trial": "MiB a trial"}
    return {way: {text: found[name] for name, text in names.items()} for way, found in kept["ways"].items()}
