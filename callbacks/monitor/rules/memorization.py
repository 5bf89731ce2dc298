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
    trained, least, lately = logged_loss(regular[-1]), min(costs), limits.window // 2
    is_late = regular[-1].step >= max(limits.late_steps * training.planned, limits.lasting_steps)
    # Late in a training, less shows it, unless a validation is better than all before: the network may leave a plateau.
    stands = is_late and len(costs) > lately and min(costs[-lately:]) > least
    enough = 1.0 if stands else limits.begun if is_late else limits.learned
    # A loss of 0 from the start has left out all samples.
    if 0 < trained < enough * baseline and least >= limits.late_loss * baseline:
        seen = f"The loss has fallen to {trained:.3g}, and in validation it was never below {least:.3g}; a constant costs {baseline:.3g}"
        said = f"{seen}. It learns the samples by heart. {advice('memorization')}"
        yield State("memorization", None, least / baseline, limits.late_loss, said, ignores_loss=True, late=stands)
