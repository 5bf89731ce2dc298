"""Whether the network learns anything that holds for other samples."""

import math
from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.rules.loss_course import logged_loss
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.remedies.advice import advice

# Penalties on the weights are in both losses; where they are more of it, the losses do not show what is learned.
_PENALTY = 0.05


def memorization_states(regular: Sequence[Snapshot], limits: Limits, training: Training, baseline: float) -> Iterator[State]:
    """Yield that the loss in training has fallen, while no validation has ever cost less than the best constant prediction.

    Networks learn random labels by heart (Zhang et al. 2017, section 2); a network that overfits has first learned something. Validations
    by moving statistics that do not fit yet are left out.

    `regular` are the snapshots of the rhythm; `baseline` is what the best constant prediction costs.
    """
    momentum = max((momentum for _, momentum in training.moving), default=0.0)
    costs = [s.validation for s in regular if not math.isnan(s.validation) and momentum**s.step < limits.settled_statistics]
    if not costs or not baseline > 0 or training.penalty > _PENALTY * baseline:
        return
    trained, least = logged_loss(regular[-1]), min(costs)
    # Late in a training, less shows it.
    enough = limits.begun if regular[-1].step >= limits.late_steps * training.planned else limits.learned
    if trained < enough * baseline and least >= baseline:
        seen = f"The loss has fallen to {trained:.3g}, and in validation it was never below {least:.3g}; a constant costs {baseline:.3g}"
        said = f"{seen}. It learns the samples by heart. {advice('memorization')}"
        yield State("memorization", None, least / baseline, 1.0, said, ignores_loss=True)
