"""The pruner that knows the diagnosis: a trial that is healthy and still improves gets more epochs than one that is not."""

from typing import Any

from optuna.pruners import BasePruner, MedianPruner, PatientPruner

from keras_ext.search.tuners.samplers import quiet
from keras_ext.search.tuners.study import FINDINGS

# A score of this epoch or the one before that is the best so far counts as an improvement.
_PATIENCE = 1


class PatientMedianPruner(BasePruner):
    """Ends a trial that is worse than the median, unless the monitor found nothing in it and its score still improves.

    The median is Optuna's `MedianPruner`, and an improvement what its `PatientPruner` takes for one.
    """

    def __init__(self) -> None:
        self._median = MedianPruner()
        with quiet():
            self._patient = PatientPruner(self._median, patience=_PATIENCE)

    def prune(self, study: Any, trial: Any) -> bool:
        """Return whether the trial is to end now."""
        return (self._median if trial.user_attrs.get(FINDINGS) else self._patient).prune(study, trial)
