"""Successive halving of trials that train at once: each waits for the others at the same epoch."""

from typing import Any

from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import StudyDirection

from keras_ext.search.together.trial_thread import Rung, TrialThread

# As Optuna's pruner: from the first epoch on, a quarter goes on to four times as many.
_FACTOR = 4


class HalvingPruner(SuccessiveHalvingPruner):
    """Ends the trials that are not in the best quarter at 1, 4, 16, ... epochs.

    Trials that run one after another are judged as they come, by Optuna's pruner (asynchronous successive halving, Li et al. 2020). Trials
    under way at once wait until all that began as early have come as far, and are judged together (Jamieson and Talwalkar 2016), among
    all trials that have been there.
    """

    def prune(self, study: Any, trial: Any) -> bool:
        """Return whether the trial is to end now."""
        thread, epoch = TrialThread.current(), trial.last_step
        if thread is None or epoch is None:
            return super().prune(study, trial)
        thread.epoch = epoch
        if not _is_rung(epoch):
            return False
        thread.pause(Rung(epoch))
        scores = [t.intermediate_values[epoch] for t in study.get_trials(deepcopy=False) if epoch in t.intermediate_values]
        is_best_first = study.direction == StudyDirection.MAXIMIZE
        last = sorted(scores, reverse=is_best_first)[max(1, len(scores) // _FACTOR) - 1]
        score = trial.intermediate_values[epoch]
        return score < last if is_best_first else score > last


def _is_rung(epoch: int) -> bool:
    while epoch > 1 and epoch % _FACTOR == 0:
        epoch //= _FACTOR
    return epoch == 1
