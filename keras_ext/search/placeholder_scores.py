"""Placeholders for the scores of trials that never had a finite one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_ext.search.objectives import check_objective, parts
from keras_ext.search.records import PLACEHOLDER, trials_of
from keras_ext.search.trial_report import reported_of


class PlaceholderScores:
    """Gives the trials of a `tuner` that had no finite score the worst of the others: KerasTuner records no NaN, and its samplers learn.

    Once a trial scores worse still, all placeholders become its score.
    """

    def __init__(self, tuner: Any) -> None:
        self._tuner = tuner
        # Names of the trials that have one, read from their folders when they are first asked for.
        self._known: set[str] | None = None

    def finite(self, trial: Any, found: Any) -> tuple[Any, bool]:
        """Return the results of a trial with finite scores, and whether its score is a placeholder.

        Raises:
            FatalValueError: the results do not have the objective.
        """
        executions = found if isinstance(found, list) else [found]
        for each in executions:
            if isinstance(each, keras.callbacks.History):
                check_objective(self._tuner.oracle.objective, each.history)
        objectives = parts(self._tuner.oracle.objective)
        has_none = not all(has_score(each, part.name) for each in executions for part in objectives)
        for part in objectives:
            worst = self._worst(part) if has_none else None
            if worst is None:
                worst = -PLACEHOLDER if part.direction == "max" else PLACEHOLDER
            # A mean with what other trainings or objectives scored would be a score that nothing had.
            executions = [with_score(each, part.name, worst) if has_none else with_finite(each, part) for each in executions]
        if has_none:
            self._names().add(trial.trial_id)
        return executions if isinstance(found, list) else executions[0], has_none

    def renew(self) -> None:
        """Give the trials with a placeholder the worst score that there is now."""
        oracle = self._tuner.oracle
        if not isinstance(oracle, keras_tuner.Oracle):
            return  # a worker's: the trials are its chief's
        without = [t for name in self._names() if (t := oracle.trials.get(name)) is not None and t.status == "COMPLETED"]
        worst = {part.name: self._worst(part) for part in parts(oracle.objective)} if without else {}
        if not worst or any(value is None for value in worst.values()):
            return
        score = oracle.objective.get_value(worst)
        for trial in without:
            if trial.score == score:
                continue
            for name, value in {**worst, oracle.objective.name: score}.items():
                direction = trial.metrics.get_direction(name)
                del trial.metrics.metrics[name]
                trial.metrics.register(name, direction)
                trial.metrics.update(name, value)
            oracle.score_trial(trial)
            trial.save(str(Path(self._tuner.get_trial_dir(trial.trial_id)) / "trial.json"))

    def _names(self) -> set[str]:
        if self._known is None:
            trials = trials_of(self._tuner)
            self._known = {name for name, t in trials.items() if t.status == "COMPLETED" and reported_of(self._tuner, t)["stands_in"]}
        return self._known

    def _worst(self, objective: Any) -> float | None:
        """Return the worst value of `objective` among the completed trials with a score of their own; None if there is none."""
        values = [
            trial.metrics.get_best_value(objective.name)
            for name, trial in trials_of(self._tuner).items()
            if trial.status == "COMPLETED" and trial.metrics.exists(objective.name) and name not in self._names()
        ]
        return (min if objective.direction == "max" else max)(values, default=None)


def has_score(found: Any, name: str) -> bool:
    """Return whether one result of a trial has a finite score of that name; True for one that KerasTuner itself refuses."""
    scores = _scores(found, name)
    return not scores or any(map(math.isfinite, scores))


def with_score(found: Any, name: str, score: float) -> Any:
    """Return one result of a trial with this score in place of its own."""
    return _replaced(found, name, lambda _: score)


def with_finite(found: Any, objective: Any) -> Any:
    """Return one result of a trial that has a finite value of `objective`, with such values alone."""
    # Never better than what was measured.
    worst = (min if objective.direction == "max" else max)(filter(math.isfinite, _scores(found, objective.name)), default=math.nan)
    return _replaced(found, objective.name, lambda score: score if math.isfinite(score) else worst)


def _scores(found: Any, name: str) -> list[float]:
    """Return the scores of a result in the forms that KerasTuner takes: a History, a dict of them, or one score."""
    if isinstance(found, keras.callbacks.History):
        return found.history.get(name, [])
    if isinstance(found, dict):
        return [found[name]] if name in found else []
    return [found] if isinstance(found, float) else []


def _replaced(found: Any, name: str, new: Callable[[float], float]) -> Any:
    scores = [new(score) for score in _scores(found, name)]
    if isinstance(found, keras.callbacks.History):
        found.history[name] = scores
        return found
    if not scores:
        return found
    return {**found, name: scores[0]} if isinstance(found, dict) else scores[0]
