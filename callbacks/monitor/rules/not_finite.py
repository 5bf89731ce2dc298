"""The origin of a value that is NaN or infinite."""

import math
from collections.abc import Sequence

from keras_ext._wording import sentence
from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.snapshot import Snapshot

# A gradient norm of this share of the limit was on its way there.
_NEAR = 0.1


def not_finite(snapshot: Snapshot, before: Snapshot | None, clipping: str, limits: Limits, broken: Sequence[str] = ()) -> State:
    """Return what is not finite in `snapshot`, blamed on what comes first: inputs, weights, the way forward, the loss, the gradient.

    Once weights are NaN everything is: then `before`, the snapshot before, shows what had grown. `clipping` is advice on long gradients,
    `broken` says where the data have such values.
    """
    if broken:
        layer, advice = None, f"{sentence('; '.join(broken))}. Drop or fill these samples."
    else:
        layer, advice = _origin(snapshot, before, clipping, limits)
    return State("non_finite", layer, math.nan, math.inf, f"A value is NaN or infinite. {advice}", fatal=True)


def _origin(snapshot: Snapshot, before: Snapshot | None, clipping: str, limits: Limits) -> tuple[str | None, str]:
    if not math.isfinite(snapshot.input_rms):
        return None, "The inputs have NaN or infinity: numpy.isfinite(x).all(axis=0) shows in which column. Drop or fill these samples."
    broken = next((w.layer for w in snapshot.weights if not math.isfinite(w.weight_norm)), None)
    if broken is not None:
        return _of_weights(broken, before, clipping, limits)
    activation = next((a for a in snapshot.activations if not a.finite), None)
    if activation is not None:
        fix = "Scale the inputs to unit variance, start from initializers.HeNormal, and lower the learning rate"
        return activation.layer, f"Its weights are finite, and its output is not: it overflows. {fix}, and {clipping}."
    begins = [w.layer for w in snapshot.weights if not w.finite]
    if not begins or not math.isfinite(snapshot.loss):
        seen = "All activations are finite, and the loss is not"
        fix = "Add an epsilon, use Keras's loss"
        causes = "it takes the logarithm or the root of 0 or less, divides by 0, or the targets have NaN"
        return None, f"{seen}: {causes}. {fix}."
    # The gradient comes from the loss: the last layer that has it is where it begins.
    fix = "A root or a power at 0 has an infinite slope: add an epsilon under it"
    return begins[-1], f"Loss and activations are finite, and its gradient is not. {fix}, or {clipping}."


def _of_weights(broken: str, before: Snapshot | None, clipping: str, limits: Limits) -> tuple[str | None, str]:
    largest = _largest(before, limits) if before is not None else None
    if largest is not None:
        layer, seen = largest
        return layer, f"In the snapshot before {seen}. Lower the learning rate, scale inputs and targets to unit variance, and {clipping}."
    seen = "The weights are NaN, and nothing was large in the snapshot before: a step was NaN or far too long"
    fix = f"Check the data for NaN (numpy.isfinite(x).all()) and the loss for log(0), lower the learning rate, and {clipping}"
    return broken, f"{seen}. {fix}."


def _largest(before: Snapshot, limits: Limits) -> tuple[str, str] | None:
    """Return the layer that had grown most, the nearest to the input of several, and its number in words."""
    for a in before.activations:
        if a.rms > limits.exploding_activation:
            return a.layer, f"the root mean square of its output was {a.rms:.1e}"
    steepest = max(before.weights, key=lambda w: w.gradient_norm if math.isfinite(w.gradient_norm) else -1.0, default=None)
    if steepest is not None and steepest.gradient_norm > _NEAR * limits.exploding_gradient:
        return steepest.layer, f"its gradient norm was {steepest.gradient_norm:.1e}"
    for w in before.weights:
        if w.largest > limits.exploding_weight:
            return w.layer, f"its largest weight was {w.largest:.1e}"
    return None
