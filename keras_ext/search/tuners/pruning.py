"""Pruners: trials that do worse than the others so far end early."""

import math
from collections.abc import Sequence
from typing import Any

import keras_tuner

from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument, one_of
from keras_ext.search.records import PRUNED
from keras_ext.search.tuners.execution_pruning import ExecutionPruning, compares_executions, wilcoxon

PRUNERS = ("none", "median", "patient", "halving", "hyperband", "wilcoxon")


def checked(pruner: Any) -> Any:
    """Return the Optuna pruner that a name or an Optuna pruner stands for; None for none."""
    if pruner is None or (isinstance(pruner, str) and pruner == "none"):
        return None
    from optuna import pruners

    if isinstance(pruner, str):
        from keras_ext.search.tuners.halving_pruner import HalvingPruner
        from keras_ext.search.tuners.patient_pruner import PatientMedianPruner

        one_of("pruner", pruner, PRUNERS)
        kinds = {
            "median": pruners.MedianPruner,
            "patient": PatientMedianPruner,
            "halving": HalvingPruner,
            "hyperband": pruners.HyperbandPruner,
        }
        return wilcoxon() if pruner == "wilcoxon" else kinds[pruner]()
    if not isinstance(pruner, pruners.BasePruner):
        rule = f"one of {', '.join(map(repr, PRUNERS))}, or an Optuna pruner"
        raise bad_argument("pruner", rule, pruner, error=TypeError)
    return pruner


def pruner_for(tuner: Any, pruner: Any) -> Any:
    """Return the Optuna pruner of a KerasTuner tuner: the given one, or its own.

    Raises:
        ValueError: the tuner is Hyperband, which ends trials itself, or KerasTuner's distributed search has workers that do not see each
            other's epochs; or Wilcoxon's test has a single score of each trial.
    """
    found = checked(pruner)
    if found is not None and isinstance(tuner.oracle, keras_tuner.oracles.HyperbandOracle):
        raise bad_argument("pruner", "None with Hyperband, which gives poor trials few epochs itself", pruner, "Leave it out.")
    if found is not None and keras_private.is_distributed():
        fix = "Its workers do not see each other's epochs. Leave it out, or take the workers of `keras-ext search`."
        raise bad_argument("pruner", "None in a distributed search of KerasTuner", pruner, fix)
    found = getattr(tuner.oracle, "pruner", None) if pruner is None else found
    if compares_executions(found) and getattr(tuner, "executions_per_trial", 1) < 2:
        fix = "It compares the trainings of a trial: give the tuner several, executions_per_trial=5, or search with --folds 5."
        raise bad_argument("pruner", "another one for trials of one training", "wilcoxon", fix)
    return found


class Pruning:
    """Follows the trials of a tuner in its Optuna study, epoch by epoch, and says which are to end.

    Args:
        study: the `TunerStudy`.
        pruner: of Optuna; None lets every trial train to its end.
        between: decides between the trainings of a trial, if anything does.
    """

    def __init__(self, study: Any, pruner: Any, between: ExecutionPruning | None = None) -> None:
        self.study, self._pruner, self._between = study, pruner, between

    def epoch_ends(self, trial: Any, epoch: int, score: float | None) -> str | None:
        """Return why a trial is to end now, or None."""
        if score is None or not math.isfinite(score):
            return None
        known = self.study.report(trial, epoch, float(score))
        if known.state.is_finished():  # it runs again, as a kill came before KerasTuner had written that it ended
            ended = known.user_attrs.get("ended", "")
            return ended if ended.startswith(PRUNED) and epoch >= (known.last_step or 0) else None
        if self._pruner is None or not self._pruner.prune(self.study.study, known):
            return None
        return f"{PRUNED} {epoch}: {self._why(epoch, known)}"

    def execution_ends(self, scores: Sequence[float | None]) -> str | None:
        """Return why the further trainings of a trial are left out, or None; `scores` are the best of those so far."""
        return None if self._between is None else self._between.reason(scores)

    def _why(self, epoch: int, trial: Any) -> str:
        from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
        from optuna.trial import TrialState

        from keras_ext.search.tuners.patient_pruner import PatientMedianPruner
        from keras_ext.search.tuners.study import FINDINGS

        study = self.study.study
        others = sum(epoch in t.intermediate_values for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        if isinstance(self._pruner, HyperbandPruner | SuccessiveHalvingPruner):
            return "not among the best of the trials that came as far"
        if not isinstance(self._pruner, MedianPruner | PatientMedianPruner):
            return f"by {type(self._pruner).__name__}"
        side = "below" if study.direction.name == "MAXIMIZE" else "above"
        median = f"{side} the median of {others} trial{'s' * (others != 1)}"
        if isinstance(self._pruner, MedianPruner):
            return median
        return f"{median}, {'and unhealthy' if trial.user_attrs.get(FINDINGS) else 'and no longer improving'}"


def pruning_of(tuner: Any, pruner: Any) -> Pruning | None:
    """Return what follows the trials of a tuner; None where nothing asks for it. Optuna's tuners have a study to follow them in."""
    study = getattr(tuner.oracle, "trial_study", None)
    if study is None and pruner is None:
        return None
    if study is None:
        from keras_ext.search.tuners.study import TunerStudy

        study = TunerStudy(tuner, in_memory=True)
    if compares_executions(pruner):
        return Pruning(study, None, ExecutionPruning(tuner, pruner))
    return Pruning(study, pruner)
