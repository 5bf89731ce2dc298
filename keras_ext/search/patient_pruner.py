"""The pruner that knows the diagnosis: a trial that is healthy and still improves gets more epochs than one that is not."""

from typing import Any

from optuna.pruners import BasePruner, MedianPruner, PatientPruner

from keras_ext.search.samplers import quiet

# The user attribute of a trial in a study that has what the monitor found.
FINDINGS = "findings"
# A score of this epoch or the one before that is the best so far counts as an improvement.
_PATIENCE = 1


class PatientMedianPruner(BasePruner):
    """Ends a trial that is worse than the median, unless the monitor found nothing in it and its score still improves.

    The median is Optuna's `MedianPruner`, and an improvement what its `PatientPruner` takes for one.
    """

    def __init__(self) -> None:
        with quiet():
            self._median, self._patient = MedianPruner(), PatientPruner(MedianPruner(), patience=_PATIENCE)

    def prune(self, study: Any, trial: Any) -> bool:
        """Return whether the trial is to end now."""
        return (self._median if trial.user_attrs.get(FINDINGS) else self._patient).prune(study, trial)
