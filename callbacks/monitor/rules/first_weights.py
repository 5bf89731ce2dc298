"""Whether the first weights can start a training."""

import math
from collections.abc import Iterator

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.snapshot import Snapshot, Weight

_BIASES = ("bias", "beta")
# Steps after which the scale of a normalized kernel is judged.
_SETTLED = 10
_MEND = (
    "initializers.HeNormal suits relu, initializers.GlorotUniform tanh, initializers.FanInUniform sigmoid; "
    "initializers.initialize(model, 'auto') draws all again."
)


def poor_initializations(snapshot: Snapshot, limits: Limits) -> Iterator[State]:
    """Yield each layer that starts with a kernel of zeros, of numbers all alike or of a scale far off, or with a bias that drowns it.

    The last layer may start with a kernel of zeros, as it gets a gradient all the same, and with any bias, which may be the targets' mean.
    Normalization that follows at once takes out the kernel's scale, and a kernel that is too small has steps so long that they fix it
    (van Laarhoven 2017): its scale is judged by what the first ten steps have left of it.
    """
    if not snapshot.kernels:
        return
    last = snapshot.kernels[-1].layer
    reported = set()
    for weight in snapshot.weights:
        poor = None
        if snapshot.step == 0:
            poor = _poor(weight, weight.layer == last, limits)
        elif weight.normalized and snapshot.step >= _SETTLED and snapshot.epoch <= 1:
            poor = _far_off(weight, limits)
        if poor is not None and weight.layer not in reported:
            reported.add(weight.layer)
            yield State("poor_initialization", weight.layer, *poor)


def _poor(weight: Weight, is_last: bool, limits: Limits) -> tuple[float, float, str] | None:
    """Return the value, the limit and the advice of a weight that cannot start a training."""
    if weight.path.endswith(_BIASES):
        if is_last or weight.largest <= limits.initial_bias:
            return None
        advice = f"Its bias starts at up to {weight.largest:.3g}, which leaves relu dead and sigmoid saturated. Start it at zero."
        return weight.largest, limits.initial_bias, advice
    if math.isnan(weight.scale):  # no kernel, or one of a layer that is not known
        return None
    if weight.scale == 0.0:
        return None if is_last else (0.0, 0.0, f"Its kernel starts at zero. Draw it at random: {_MEND}")
    if weight.deviation < limits.alike:
        return weight.deviation, limits.alike, f"All numbers of its kernel start alike, so that its units stay alike. Draw them: {_MEND}"
    return None if weight.normalized else _far_off(weight, limits)


def _far_off(kernel: Weight, limits: Limits) -> tuple[float, float, str] | None:
    over, under = kernel.scale / kernel.most_scale, kernel.least_scale / kernel.scale if kernel.scale else 0.0
    if over > limits.initial_scale:
        return over, limits.initial_scale, f"Its kernel is {over:.3g} times as large as its fans ask for. {_MEND}"
    if under > limits.initial_scale:
        return under, limits.initial_scale, f"Its kernel is {under:.3g} times smaller than its fans ask for. {_MEND}"
    return None
