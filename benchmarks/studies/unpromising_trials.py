"""What a search saves by stopping unpromising trials: the same trials with the monitor and without, beside other ways to stop early."""

import functools
import importlib
import time
from collections.abc import Sequence
from types import SimpleNamespace
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

ALONE, MONITOR, PATIENCE, HYPERBAND = "alone", "monitor", "early stopping", "hyperband"
BAYESIAN, BAYESIAN_MONITOR = "bayesian", "bayesian with monitor"
PRUNERS = ("optuna median", "optuna hyperband")
# In the others scores steer what is tried, so that they have no trials in common with the search alone.
SAME_TRIALS = (MONITOR, PATIENCE, *PRUNERS)
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


def search(name: str, seed: int, way: str, trials: int, epochs: int, alone: Trials) -> Trials:
    """Return the trials of one search by their numbers; a pruner repeats the trials `alone`."""
    data = data_of(name, seed)
    space = functools.partial(build, features=data.x.shape[1], classes=int(data.y.max()) + 1)
    fit = {"batch_size": 32, "epochs": epochs, "validation_data": (data.x_validation, data.y_validation), "verbose": 0}
    if way in PRUNERS:
        return pruned(way, space, data, fit, seed, alone)
    kind, limits = keras_tuner.RandomSearch, {"max_trials": trials}
    if way == HYPERBAND:
        kind, limits = keras_tuner.Hyperband, {"max_epochs": epochs}
    elif way in (BAYESIAN, BAYESIAN_MONITOR):
        kind = keras_tuner.BayesianOptimization
    objective = keras_tuner.Objective("val_accuracy", "max")
    callbacks = [keras.callbacks.EarlyStopping("val_accuracy", patience=3)] if way == PATIENCE else []
    took: dict[str, tuple[float, float, int]] = {}
    with searching.quiet_tuner(kind, space, objective=objective, seed=seed + 1, max_consecutive_failed_trials=10**9, **limits) as tuner:
        if way in (MONITOR, BAYESIAN_MONITOR):
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
        tuner.search(data.x, data.y, callbacks=callbacks, **fit)
        found = sorted(results(tuner), key=lambda r: r.trial)
    rows = [(r.score or 0.0, *took.get(r.trial, (0.0, 0.0, 0)), r.ended if r.symptoms else "", r.hyperparameters) for r in found]
    return {r.trial: dict(zip(FIELDS, row, strict=True)) for r, row in zip(found, rows, strict=True)}


def pruned(way: str, space: Any, data: Split, fit: dict[str, Any], seed: int, alone: Trials) -> Trials:
    """Return the trials `alone` again, each ended as one of Optuna's pruners says."""
    # By name: neither is among the package's dependencies.
    optuna, integration = map(importlib.import_module, ("optuna", "optuna_integration"))
    pruner = optuna.pruners.MedianPruner() if way == PRUNERS[0] else optuna.pruners.HyperbandPruner(max_resource=fit["epochs"])
    study, numbers = optuna.create_study(direction="maximize", pruner=pruner), list(alone)
    trials: Trials = {}

    def train(trial: Any) -> float:
        number, scores = numbers[trial.number], list[float]()
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed_of_trial(seed, number))
        hp = SimpleNamespace(Choice=trial.suggest_categorical, Int=trial.suggest_int)
        hp.Float = lambda name, low, high, sampling: trial.suggest_float(name, low, high, log=sampling == "log")
        noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: scores.append(logs["val_accuracy"]))
        begin, begin_cpu, why = time.perf_counter(), time.process_time(), "pruned"
        try:
            space(hp).fit(data.x, data.y, callbacks=[noted, integration.KerasPruningCallback(trial, "val_accuracy")], **fit)
            why = ""
        finally:
            took = time.perf_counter() - begin, time.process_time() - begin_cpu
            row = (max(scores), *took, len(scores), why, alone[number]["hyperparameters"])
            trials[number] = dict(zip(FIELDS, row, strict=True))
        return max(scores)

    for trial in alone.values():
        study.enqueue_trial(trial["hyperparameters"])
    study.optimize(train, n_trials=len(numbers))
    return trials


def measure(data: str, seeds: int, trials: int, epochs: int, ways: Sequence[str]) -> dict[str, Any]:
    """Return the trials of each search; each runs in a new process, and odd seeds reverse the order of those that do not repeat others."""
    kept = []
    for seed in range(seeds):
        first = [ALONE, *(way for way in ways if way not in PRUNERS)]
        found: dict[str, Trials] = {}
        for way in [*(first if seed % 2 == 0 else first[::-1]), *(way for way in ways if way in PRUNERS)]:
            found[way] = apart.run(search, data, seed, way, trials, epochs, found.get(ALONE, {}))
        kept.append({"data": data, "seed": seed, **found})
    return {"searches": kept}


def compare(alone: Trials, other: Trials, way: str, y_validation: np.ndarray) -> dict[str, float]:
    """Return what the search `other` saved and lost against the trials `alone`."""

    def total(name: str, trials: Trials = alone) -> float:
        return sum(trial[name] for trial in trials.values())

    best_alone, best = (max(t["score"] for t in trials.values()) for trials in (alone, other))
    commonest = float(np.bincount(y_validation).max() / len(y_validation))
    promising = {number: trial for number, trial in alone.items() if trial["score"] >= commonest + MARGIN}
    row = {
        "time": total("seconds", other) / total("seconds"),
        "CPU time": total("cpu_seconds", other) / total("cpu_seconds"),
        # Who knows beforehand which trials are unpromising leaves them out.
        "with foresight": total("cpu_seconds", promising) / total("cpu_seconds"),
        "epochs": total("epochs", other) / total("epochs"),
        "best alone": best_alone,
        "best": best,
        "samples lost": round((best_alone - best) * len(y_validation)),
        "unpromising": 1 - len(promising) / len(alone),
        "stopped": sum(bool(t["stopped"]) for t in other.values()) / len(other),
    }
    if way in SAME_TRIALS:
        ranked = sorted(alone, key=lambda number: -alone[number]["score"])[: max(1, round(BEST * len(alone)))]
        row[BEST_STOPPED] = sum(bool(other[number]["stopped"]) for number in ranked)
    return row


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each search, against that of the same tuner alone, and one for each way: spreads, largest loss, sum of the best."""
    by_way: dict[str, dict[int, dict[str, float]]] = {}
    for search in kept["searches"]:
        y_validation = data_of(search["data"], search["seed"]).y_validation
        for way in [way for way in search if way not in ("data", "seed", ALONE)]:
            alone = search[BAYESIAN if way == BAYESIAN_MONITOR else ALONE]
            by_way.setdefault(way, {})[search["seed"]] = compare(alone, search[way], way, y_validation)
    rows: Table = {f"{way}, seed {seed}": {**row} for way, seeds in by_way.items() for seed, row in seeds.items()}
    for way, seeds in by_way.items():
        columns = {name: [row[name] for row in seeds.values()] for name in next(iter(seeds.values()))}
        spreads = {name: Spread.of(columns[name]) for name in ("time", "CPU time", "with foresight", "epochs")}
        stopped = {name: sum(values) for name, values in columns.items() if name == BEST_STOPPED}
        rows[f"{way}, all seeds"] = {**spreads, "samples lost": max(columns["samples lost"]), **stopped}
    return rows
