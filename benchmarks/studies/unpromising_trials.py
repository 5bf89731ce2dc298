"""What a search saves by stopping unpromising trials: the same trials with the monitor and without."""

import functools
import time
from typing import Any

import keras
import keras_tuner
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from benchmarks import apart, searching
from benchmarks.figure import Spread
from benchmarks.store import Table
from keras_ext import initializers
from keras_ext.callbacks import SaturationMonitor
from keras_ext.optimizers import GradientClipping
from keras_ext.search import results, watch
from keras_ext.search.trial_run import seed_of_trial
from keras_ext.tables.data.table import Split

ALONE, MONITOR = "alone", "monitor"
# The share of the trials alone that count as the best.
BEST, BEST_STOPPED = 0.1, "of the best tenth stopped"
# A trial is unpromising if, trained to its end, it is better than always the same class by less than this.
MARGIN = 0.05
INITIALIZERS = ("XavierNormal", "XavierUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform", "Orthogonal")


@functools.cache
def data_of(name: str, seed: int) -> Split:
    """Return the digits or the breast cancer data of scikit-learn, split by `seed`."""
    x, y = (load_digits if name == "digits" else load_breast_cancer)(return_X_y=True)
    x, xv, y, yv = train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    return Split((x - mean) / deviation, y.astype("int32"), (xv - mean) / deviation, yv.astype("int32"))


def build(hp: Any, features: int, classes: int) -> keras.Model:
    """Return a network of the whole space, of which a good part cannot learn."""
    values = {"activation": hp.Choice("activation", ["sigmoid", "tanh", "relu"])}
    initializer, values["normalization"] = hp.Choice("initializer", list(INITIALIZERS)), hp.Choice("normalization", ["none", "batch"])
    values["layers"] = hp.Int("layers", 1, 20)
    optimizer = searching.optimizer(hp.Choice("optimizer", ["sgd", "adam"]), hp.Float("rate", 1e-4, 10.0, sampling="log"))
    if hp.Choice("clipping", ["none", "global_norm"]) == "global_norm":
        optimizer = GradientClipping(optimizer, threshold=1.0)
    return searching.network(features, classes, 64, values, getattr(initializers, initializer), optimizer)


# One trial by name: "score" is its best validation accuracy, "cpu_seconds" the work of all cores; and the trials of a search by number.
FIELDS = ("score", "seconds", "cpu_seconds", "epochs", "stopped", "hyperparameters")
Trials = dict[str, dict[str, Any]]


def search(name: str, seed: int, way: str, trials: int, epochs: int) -> Trials:
    """Return the trials of one search by their numbers."""
    data = data_of(name, seed)
    space = functools.partial(build, features=data.x.shape[1], classes=int(data.y.max()) + 1)
    fit = {"batch_size": 32, "epochs": epochs, "validation_data": (data.x_validation, data.y_validation), "verbose": 0}
    limits = {"max_trials": trials, "max_consecutive_failed_trials": searching.NEVER}
    objective = keras_tuner.Objective("val_accuracy", "max")
    took: dict[str, tuple[float, float, int]] = {}
    with searching.quiet_tuner(keras_tuner.RandomSearch, space, objective=objective, seed=seed + 1, **limits) as tuner:
        if way == MONITOR:
            watch(tuner, SaturationMonitor(data.x, data.y, on_critical="stop"), seed=seed)
        run = tuner.run_trial

        def timed(trial: Any, *args: Any, **kwargs: Any) -> Any:
            # As `watch` does, so that all begin alike.
            keras.utils.set_random_seed(seed_of_trial(seed, trial.trial_id))
            begin, begin_cpu = time.perf_counter(), time.process_time()
            found = run(trial, *args, **kwargs)
            took[trial.trial_id] = time.perf_counter() - begin, time.process_time() - begin_cpu, len(found[0].history["loss"])
            return found

        tuner.run_trial = timed
        tuner.search(data.x, data.y, **fit)
        found = sorted(results(tuner), key=lambda r: r.trial)
    rows = [(r.score or 0.0, *took.get(r.trial, (0.0, 0.0, 0)), r.ended if r.symptoms else "", r.hyperparameters) for r in found]
    return {r.trial: dict(zip(FIELDS, row, strict=True)) for r, row in zip(found, rows, strict=True)}


def measure(data: str, seeds: int, trials: int, epochs: int) -> dict[str, Any]:
    """Return the trials of each search; each runs in a new process, and odd seeds reverse the order."""
    kept = []
    for seed in range(seeds):
        found = {way: apart.run(search, data, seed, way, trials, epochs) for way in ((ALONE, MONITOR), (MONITOR, ALONE))[seed % 2]}
        kept.append({"data": data, "seed": seed, **found})
    return {"searches": kept}


def compare(alone: Trials, watched: Trials, y_validation: np.ndarray) -> dict[str, float]:
    """Return what the watched search saved and lost against the same trials alone."""

    def total(name: str, trials: Trials = alone) -> float:
        return sum(trial[name] for trial in trials.values())

    best_alone, best = (max(t["score"] for t in trials.values()) for trials in (alone, watched))
    commonest = float(np.bincount(y_validation).max() / len(y_validation))
    promising = {number: trial for number, trial in alone.items() if trial["score"] >= commonest + MARGIN}
    ranked = sorted(alone, key=lambda number: -alone[number]["score"])[: max(1, round(BEST * len(alone)))]
    return {
        "time": total("seconds", watched) / total("seconds"),
        "CPU time": total("cpu_seconds", watched) / total("cpu_seconds"),
        # Who knows beforehand which trials are unpromising leaves them out.
        "with foresight": total("cpu_seconds", promising) / total("cpu_seconds"),
        "epochs": total("epochs", watched) / total("epochs"),
        "best alone": best_alone,
        "best": best,
        "samples lost": round((best_alone - best) * len(y_validation)),
        "unpromising": 1 - len(promising) / len(alone),
        "stopped": sum(bool(t["stopped"]) for t in watched.values()) / len(watched),
        BEST_STOPPED: sum(bool(watched[number]["stopped"]) for number in ranked),
    }


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each watched search, against the one alone, and one of all: spreads, largest loss, sum of the best stopped."""
    searches = kept["searches"]
    rows = [compare(s[ALONE], s[MONITOR], data_of(s["data"], s["seed"]).y_validation) for s in searches]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    spreads = {name: Spread.of(columns[name]) for name in ("time", "CPU time", "with foresight", "epochs")}
    every = {**spreads, "samples lost": max(columns["samples lost"]), BEST_STOPPED: sum(columns[BEST_STOPPED])}
    return {**{f"monitor, seed {s['seed']}": {**row} for s, row in zip(searches, rows, strict=True)}, "monitor, all seeds": every}
