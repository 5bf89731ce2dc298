"""Pruning between the trainings of a trial, such as those of the folds: by Wilcoxon's test against the best trial."""

import warnings
from collections.abc import Sequence
from typing import Any

from keras_ext.search.records import PRUNED_AFTER, Record, record_of
from keras_ext.search.tuners.samplers import quiet

# A trial that is worse in each of three trainings has a chance of an eighth where it is no worse than the best one.
_CHANCE = 0.2


def wilcoxon() -> Any:
    """Return the Optuna pruner that is called `"wilcoxon"`."""
    from optuna.pruners import WilcoxonPruner

    with quiet():
        return WilcoxonPruner(p_threshold=_CHANCE)


def compares_executions(pruner: Any) -> bool:
    """Return whether an Optuna pruner compares the trainings of trials, not the epochs of one."""
    return type(pruner).__name__ == "WilcoxonPruner"


class ExecutionPruning:
    """Compares the trainings of a trial with those of the best complete one, the n-th with the n-th.

    What it decides depends on KerasTuner's record of the trials alone.

    Args:
        tuner: a KerasTuner tuner, watched.
        pruner: Optuna's `WilcoxonPruner`.
    """

    def __init__(self, tuner: Any, pruner: Any) -> None:
        self._tuner, self._pruner = tuner, pruner

    def reason(self, scores: Sequence[float | None]) -> str | None:
        """Return why a trial with these scores trains no further, or None."""
        mine, best = [score for score in scores if score is not None], self._best()
        if best is None or len(mine) < len(scores) or not self._is_worse(best, mine):
            return None
        is_max = self._tuner.oracle.objective.direction == "max"
        theirs = [score for score in best.executions if score is not None]
        worse = sum(a < b if is_max else a > b for a, b in zip(mine, theirs, strict=False))
        folds = getattr(self._tuner.hypermodel, "folds", None)
        part = "fold" if folds is not None and len(mine) <= folds.count else "training"
        where = f"each {part}" if worse == len(mine) else f"{worse} of {len(mine)} {part}s"
        return f"{PRUNED_AFTER} {part} {len(mine)}: worse than the best trial in {where} so far (Wilcoxon)"

    def _best(self) -> Record | None:
        """Return the best trial that was not pruned and has a score of each training."""
        oracle = self._tuner.oracle
        known = [trial for trial in oracle.trials.values() if trial.status == "COMPLETED" and trial.score is not None]
        for trial in sorted(known, key=lambda each: each.score, reverse=oracle.objective.direction == "max"):
            record = record_of(self._tuner, trial)
            if record.score is not None and not record.is_pruned and record.executions and None not in record.executions:
                return record
        return None

    def _is_worse(self, best: Record, scores: Sequence[float]) -> bool:
        import optuna

        from keras_ext.search.tuners.study import new_study

        study = new_study(self._tuner.oracle.objective.direction)
        study.add_trial(optuna.trial.create_trial(value=best.score, intermediate_values=_steps(best.executions)))
        running = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=_steps(scores))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's of few scores, and of equal ones
            return self._pruner.prune(study, running)


def _steps(scores: Sequence[Any]) -> dict[int, float]:
    return {number: float(score) for number, score in enumerate(scores, start=1)}
