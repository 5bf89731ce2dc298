"""How soon searches reach the score of KerasTuner's random search, and how much better they are after its time.

`python -m benchmarks.studies.time_to_score` draws docs/pictures/tuners.png of the kept results.
"""

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import optuna

from benchmarks import apart, searching, store
from benchmarks.registry import BENCHMARKS
from benchmarks.store import Table
from keras_ext.automl.preparation import Preparation
from keras_ext.automl.settings import Settings, complete
from keras_ext.automl.tuners import make_tuner
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import watch
from keras_ext.search.tuners.distributions import asked
from keras_ext.tables import make_table

ROOT = Path(__file__).parents[2]
RANDOM, HYPERBAND, OPTUNA, OURS = "KerasTuner random", "KerasTuner Hyperband", "Optuna TPE, Hyperband pruner", "keras-ext search"
# How the picture draws each.
STYLES = {RANDOM: ("-", "#7f7f7f"), HYPERBAND: ("-.", "#9467bd"), OPTUNA: ("--", "#1f77b4"), OURS: ("-", "#d62728")}
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
# Seconds since the beginning and best score so far, at each epoch that is better than those before.
Course = list[tuple[float, float]]


class _TimeIsUp(KeyboardInterrupt):
    """Ends a search: KerasTuner goes on after an exception of a trial."""


class _Search:
    """The space, the data and the clock of one search."""

    def __init__(self, data: str, seed: int, epochs: int, budget: float) -> None:
        table = make_table(*searching.samples(data), data)
        split = table.split(0.2, seed)
        prepared = Preparation.of(split.x, split.y, table.classes)
        self.x, self.y = prepared.inputs(split.x), prepared.targets(split.y)
        self.space = prepared.space_for(complete(Settings(seed=seed), len(self.y)), len(self.y))
        held_out = (prepared.inputs(split.x_validation), prepared.targets(split.y_validation))
        self.fit = {"epochs": epochs, "validation_data": held_out, "verbose": 0}
        self.seed, self.epochs, self._budget = seed, epochs, budget
        self.course: Course = []
        self._began = time.perf_counter()

    def notes(self, then: Callable[[int, float], None] = lambda epoch, score: None) -> Any:
        """Return a callback that notes the score of each epoch, and calls `then`."""

        def note(epoch: int, logs: Any) -> None:
            spent, score = time.perf_counter() - self._began, float(logs[OBJECTIVE.name])
            if not self.course or score > self.course[-1][1]:
                self.course.append((spent, score))
            if spent > self._budget:
                raise _TimeIsUp
            then(epoch, score)

        return keras.callbacks.LambdaCallback(on_epoch_end=note)


def searched(way: str, data: str, seed: int, trials: int, epochs: int, budget: float) -> tuple[Course, float]:
    """Return the course of one search, and the seconds that it took."""
    search = _Search(data, seed, epochs, budget)
    with contextlib.suppress(_TimeIsUp):
        {RANDOM: _with_keras_tuner, HYPERBAND: _with_keras_tuner, OPTUNA: _with_optuna, OURS: _with_ours}[way](search, way, trials)
    return search.course, time.perf_counter() - search._began


def _with_keras_tuner(search: _Search, way: str, trials: int) -> None:
    kind: Any = partial(keras_tuner.RandomSearch, max_trials=trials)
    if way == HYPERBAND:
        kind = partial(keras_tuner.Hyperband, max_epochs=search.epochs, hyperband_iterations=searching.NEVER)
    with searching.quiet_tuner(kind, search.space, objective=OBJECTIVE, seed=search.seed + 1) as tuner:
        tuner.search(search.x, search.y, callbacks=[search.notes()], **search.fit)


def _with_optuna(search: _Search, way: str, trials: int) -> None:
    """Search as Optuna's page on Keras shows it: a new model for each trial, pruned after each epoch."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = keras_tuner.HyperParameters()
    search.space.build(known)
    pruner = optuna.pruners.HyperbandPruner(max_resource=search.epochs)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed), pruner=pruner)

    def train(trial: Any) -> float:
        hp, scores = keras_tuner.HyperParameters(), list[float]()
        hp.values = asked(trial, known.space)
        keras.utils.clear_session()

        def then(epoch: int, score: float) -> None:
            scores.append(score)
            trial.report(score, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        search.space.fit(hp, search.space.build(hp), search.x, search.y, callbacks=[search.notes(then)], **search.fit)
        return max(scores)

    study.optimize(train)


def _with_ours(search: _Search, way: str, trials: int) -> None:
    settings = complete(Settings(seed=search.seed), len(search.y))
    kept = {"trials": searching.NEVER, "epochs": search.epochs, "trials_per_structure": settings.trials_per_structure or 1}
    make = partial(make_tuner, kind=settings.tuner, space=search.space, objective=OBJECTIVE, **kept)
    with tempfile.TemporaryDirectory() as folder:
        tuner = make(folder, seed=settings.seed)
        tuner.oracle.verbose = 0
        watch(tuner, SaturationMonitor(search.x, search.y, on_critical="stop"), seed=search.seed, pruner=settings.pruner)
        tuner.search(search.x, search.y, callbacks=[search.notes()], **search.fit)


def measure(data: list[str], seeds: int, trials: int, epochs: int) -> dict[str, Any]:
    """Return the courses; each search runs in a new process, for as long as the random one of its seed took."""
    found: dict[str, Any] = {}
    for seed in range(seeds):
        for name in data:
            course, seconds = apart.run(searched, RANDOM, name, seed, trials, epochs, math.inf)
            others = {way: apart.run(searched, way, name, seed, trials, epochs, seconds)[0] for way in (HYPERBAND, OPTUNA, OURS)}
            found.setdefault(name, []).append({"seconds": seconds, RANDOM: course, **others})
    return {"trials": trials, "epochs": epochs, "searches": found}


def best_at(course: Course, when: float) -> float:
    """Return the best score so far at a time."""
    return max((score for spent, score in course if spent <= when), default=0.0)


def reached(course: Course, score: float) -> float:
    """Return when a search had reached a score; infinity where it never did."""
    return min((spent for spent, best in course if best >= score), default=math.inf)


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each data set and way: medians over the seeds."""
    rows: Table = {}
    for name, searches in kept["searches"].items():
        for way in STYLES:
            shares = [reached(each[way], each[RANDOM][-1][1]) / each["seconds"] for each in searches]
            rows[f"{name}, {way}"] = {
                "share of the time to the score of the random search": statistics.median(shares),
                "best score after its time": statistics.median(each[way][-1][1] for each in searches),
            } | {f"after {share:.0%}": statistics.median(best_at(e[way], share * e["seconds"]) for e in searches) for share in (0.1, 0.25)}
    return rows


def draw(kept: dict[str, Any], path: Path) -> None:
    """Draw the median best score by the share of the random search's time, a panel for each data set."""
    from matplotlib.figure import Figure

    figure, shares = Figure(figsize=(8.0, 2.9), layout="constrained"), np.linspace(0.01, 1.0, 200)
    panels = figure.subplots(1, len(kept["searches"]), squeeze=False)[0]
    for axes, (name, searches) in zip(panels, kept["searches"].items(), strict=True):
        for way, (line, colour) in STYLES.items():
            scores = [statistics.median(best_at(each[way], share * each["seconds"]) for each in searches) for share in shares]
            axes.plot(shares, scores, line, color=colour, label=way, linewidth=1.4)
        top = max(each[way][-1][1] for each in searches for way in STYLES)
        axes.set(title=name.replace("_", " "), xlabel="share of the time", ylim=(top - 0.06, top + 0.005))
    panels[0].set_ylabel("median best validation accuracy")
    panels[-1].legend(frameon=False, fontsize=7, loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(store.load(ROOT / "benchmarks" / "results", BENCHMARKS["time_to_score"], "jax") or {}, ROOT / "docs" / "pictures" / "tuners.png")
