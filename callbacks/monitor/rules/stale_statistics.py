"""Whether inference will use the network that was trained."""

import math
from collections.abc import Iterator

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.snapshot import Snapshot


def mode_states(snapshot: Snapshot, limits: Limits, training: Training, baseline: float = math.nan) -> Iterator[State]:
    """Yield each batch normalization whose moving statistics will not follow: a loss that falls in training is none in inference.

    Of the first statistics, `momentum` to the power of the planned steps is left at the end (Ioffe and Szegedy 2015, section 3.1). Where
    they fit the data all the same, as in a network that was trained before, nothing is wrong. A variance that is far too large takes
    longer: a hundredth of the first one is still as large as that of data of a variance of .01. That is critical where a good part of the
    first one is left, and the network has learned, and in inference has not, by the loss of the same samples. A constant prediction costs
    `baseline`.
    """
    if not snapshot.step or math.isnan(training.planned):
        return
    momenta = dict(training.moving)
    for n in snapshot.normalizations:
        momentum = momenta.get(n.layer, 0.0)
        left = momentum**training.planned
        # One that is too small is within a factor of 2 as soon as half of the first statistics are gone.
        at_the_end = (
            n.ratio * momentum ** max(training.planned - snapshot.step, 0.0) if momentum**snapshot.step < limits.stale_statistics else 0.0
        )
        if at_the_end > limits.statistics_ratio:
            seen = f"Its moving variance is a factor of {n.ratio:.3g} from the data, and will be {at_the_end:.3g} at the end"
            # Layers behind it may do well with a smaller signal: the loss in inference shows whether these do.
            is_lost = left > limits.lost_statistics and snapshot.loss <= limits.learned * baseline < snapshot.inference
            costs = f"by the same samples the loss is {snapshot.loss:.2g}, and in inference {snapshot.inference:.3g}"
            said = f"{seen}. Inference uses it: {costs if is_lost else 'compare the validation'}. {_cure(training.planned)}"
            yield State("stale_statistics", n.layer, at_the_end, limits.statistics_ratio, said, can_be_critical=is_lost, ignores_loss=True)
        elif left > limits.stale_statistics and (n.ratio > limits.statistics_ratio or n.shift > limits.statistics_shift):
            seen = f"{left:.0%} of its moving statistics will be those of its start, and inference uses them"
            apart = f"Now they are {n.shift:.2g} standard deviations and a factor of {n.ratio:.3g} in variance from the data"
            said = f"{seen}. {apart}. {_cure(training.planned)}"
            yield State("stale_statistics", n.layer, left, limits.stale_statistics, said, quiet=True, ignores_loss=True)


def _cure(planned: float) -> str:
    return f"Set momentum to {forgetting_momentum(planned):g}, or train longer."


def forgetting_momentum(planned: float) -> float:
    """Return the momentum of a moving average of which after the planned steps a hundredth of the first value is left."""
    return max(0.0, round(0.01 ** (1 / planned), 3))
