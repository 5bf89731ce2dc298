"""The fix for a layer, by the cause of its symptom in this snapshot."""

import math

from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.snapshot import Snapshot

# A kernel of so many times the largest usual scale drives its layer out of range by itself.
_LARGE = 3.0
# A kernel that goes this share of its own length from snapshot to snapshot forgets what it had learned.
_FAR = 0.5


def clipping(snapshot: Snapshot) -> str:
    """Return what gradients that are too long ask for: a `GradientClipping`, or a lower threshold of the one that is there.

    Examples:
        >>> clipping(Snapshot(0, 0, 1.0, 1.0, (), ()))
        'put GradientClipping around the optimizer'
    """
    if math.isnan(snapshot.clipped):
        return "put GradientClipping around the optimizer"
    return f"lower the threshold of its GradientClipping, which changed {snapshot.clipped:.0%} of the last steps"


def advice_for(snapshot: Snapshot, layer: str, usual: str, limits: Limits, first: Snapshot | None = None) -> str:
    """Return what fixes an activation of `layer` that is out of range: what its inputs, its kernel or its steps ask for, else the `usual`.

    `first` is the first snapshot, by which a kernel that was drawn too large is reported from one that has grown.

    Examples:
        >>> advice_for(Snapshot(0, 0, 1.0, 1.0, (), ()), "h1", "Use leaky_relu.", Limits())
        'Use leaky_relu.'
    """
    kernels = snapshot.kernels
    own = next((w for w in kernels if w.layer == layer), None)
    if own is None:
        return usual
    if own is kernels[0] and snapshot.input_rms > limits.unscaled_input:
        scale = f"The root mean square of its inputs is {snapshot.input_rms:.3g}"
        return f"{scale}: scale them to unit variance (keras.layers.Normalization). {usual}"
    if own.update_ratio > _FAR:
        return (
            f"Its kernel has gone {own.update_ratio:.0%} of its own length since the last snapshot: lower the learning rate, or "
            f"{clipping(snapshot)}. {usual}"
        )
    if own.scale > _LARGE * own.most_scale:
        times = f"Its kernel is {own.scale / own.most_scale:.3g} times as large as its fans ask for"
        drawn = next((w.scale for w in first.kernels if w.layer == layer), math.nan) if first is not None else math.nan
        if drawn <= _LARGE * own.most_scale:
            return f"{times}, and has grown to that in training: lower the learning rate, or {clipping(snapshot)}. {usual}"
        return f"{times}: start it smaller. {usual}"
    return usual
