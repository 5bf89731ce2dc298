"""Whether the first weights can start a training."""

import math
from collections.abc import Iterator

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.statistics import ATTENTION
from keras_ext.callbacks.monitor.snapshot import Activation, Snapshot, Weight
from keras_ext.remedies.advice import advice

_BIASES = ("bias", "beta")


def poor_initializations(snapshot: Snapshot, limits: Limits) -> Iterator[State]:
    """Yield each layer that starts with a kernel of zeros, of numbers all alike or of a scale far off, or with a bias that drowns it.

    The last layer may start with a kernel of zeros, as it gets a gradient all the same, and with any bias, which may be the targets' mean.
    Normalization that follows at once takes out the kernel's scale, and a kernel that is too small has steps so long that they fix it
    (van Laarhoven 2017): its scale is judged by what the first `limits.settled` steps have left of it.
    """
    if not snapshot.kernels:
        return
    last = snapshot.kernels[-1].layer
    reported = set()
    for activation in snapshot.activations if snapshot.step == 0 else ():
        poor = _poor_choice(activation, limits)
        if poor is not None and activation.layer not in reported:
            reported.add(activation.layer)
            yield State("poor_initialization", activation.layer, *poor, needs_others=True)
    for weight in snapshot.weights:
        poor = None
        if snapshot.step == 0:
            poor = _poor(weight, weight.layer == last, limits)
        elif weight.normalized and snapshot.step >= limits.settled and snapshot.epoch <= 1:
            poor = _far_off(weight, limits)
        if poor is not None and weight.layer not in reported:
            reported.add(weight.layer)
            yield State("poor_initialization", weight.layer, *poor, needs_others=True)


def is_closed(a: Activation, limits: Limits) -> bool:
    """Return whether this is a gate that keeps a recurrent layer's state, and keeps almost nothing of it."""
    return a.part in ("forget gate", "update gate") and a.rms < limits.forget_gate


def _poor_choice(a: Activation, limits: Limits) -> tuple[float, float, str] | None:
    """Return the value, the limit and the advice of a gate or an attention that starts closed."""
    if is_closed(a, limits):
        own = "leave unit_forget_bias=True and the bias alone" if a.part == "forget gate" else "leave its bias at zero"
        seen = f"Its {a.part} starts at {a.rms:.2g}: ten steps later {a.rms**10:.0e} of what it had is left"
        return a.rms, limits.forget_gate, f"{seen}. To remember, {own}, or start the gate's bias at 1."
    if a.part == ATTENTION and a.saturated > limits.attention_one_hot:
        seen = f"{a.saturated:.0%} of its attention's rows choose one place alone, so that query and key get no gradient"
        return a.saturated, limits.attention_one_hot, f"{seen}. {advice('saturated', 'attention')}"
    return None


def _poor(weight: Weight, is_last: bool, limits: Limits) -> tuple[float, float, str] | None:
    """Return the value, the limit and the advice of a weight that cannot start a training."""
    if weight.path.endswith(_BIASES):
        if is_last or weight.largest <= limits.initial_bias:
            return None
        seen = f"Its bias starts at up to {weight.largest:.3g}, which leaves relu dead and sigmoid saturated"
        return weight.largest, limits.initial_bias, f"{seen}. Start it at zero."
    if math.isnan(weight.scale):  # no kernel, or one of a layer that is not known
        return None
    drawn = advice("poor_initialization")
    if weight.scale == 0.0:
        return None if is_last else (0.0, 0.0, f"Its kernel starts at zero. Draw it at random: {drawn}")
    if weight.deviation < limits.equal_weights:
        return (
            weight.deviation,
            limits.equal_weights,
            f"All numbers of its kernel start alike, so that its units stay alike. Draw them: {drawn}",
        )
    return None if weight.normalized else _far_off(weight, limits)


def _far_off(kernel: Weight, limits: Limits) -> tuple[float, float, str] | None:
    over, under = kernel.scale / kernel.most_scale, kernel.least_scale / kernel.scale if kernel.scale else 0.0
    drawn = advice("poor_initialization")
    if over > limits.initial_scale:
        return over, limits.initial_scale, f"Its kernel is {over:.3g} times as large as its fans ask for. {drawn}"
    if under > limits.initial_scale:
        return (
            under,
            limits.initial_scale,
            f"Its kernel is {under:.3g} times smaller than its fans ask for. {drawn}",
        )
    return None
