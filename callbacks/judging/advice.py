"""What mends a layer, by what this look shows of where its illness comes from."""

import math

from keras_ext.callbacks.limits import Limits
from keras_ext.callbacks.look import Look

# A kernel of so many times the largest usual scale drives its layer out of range by itself.
_LARGE = 3.0
# A kernel that goes this share of its own length from look to look forgets what it had learned.
_FAR = 0.5


def clipping(look: Look) -> str:
    """Return what gradients that are too long ask for: a `GradientClipping`, or a lower threshold of the one that is there.

    Examples:
        >>> clipping(Look(0, 0, 1.0, 1.0, (), ()))
        'put GradientClipping around the optimizer'
    """
    if math.isnan(look.clipped):
        return "put GradientClipping around the optimizer"
    return f"lower the threshold of its GradientClipping, which changed {look.clipped:.0%} of the last steps"


def advice_for(look: Look, layer: str, usual: str, limits: Limits, first: Look | None = None) -> str:
    """Return what mends an activation of `layer` that is out of range: what its inputs, its kernel or its steps ask for, else the `usual`.

    `first` is the first look, by which a kernel that was drawn too large is told from one that has grown.

    Examples:
        >>> advice_for(Look(0, 0, 1.0, 1.0, (), ()), "h1", "Use leaky_relu.", Limits())
        'Use leaky_relu.'
    """
    kernels = look.kernels
    own = next((w for w in kernels if w.layer == layer), None)
    if own is None:
        return usual
    if own is kernels[0] and look.input_rms > limits.unscaled_input:
        return (
            f"The root mean square of its inputs is {look.input_rms:.3g}: scale them to unit variance (keras.layers.Normalization). {usual}"
        )
    if own.update_ratio > _FAR:
        return (
            f"Its kernel has gone {own.update_ratio:.0%} of its own length since the last look: lower the learning rate, or "
            f"{clipping(look)}. {usual}"
        )
    if own.scale > _LARGE * own.most_scale:
        times = f"Its kernel is {own.scale / own.most_scale:.3g} times as large as its fans ask for"
        drawn = next((w.scale for w in first.kernels if w.layer == layer), math.nan) if first is not None else math.nan
        if drawn <= _LARGE * own.most_scale:
            return f"{times}, and has grown to that in training: lower the learning rate, or {clipping(look)}. {usual}"
        return f"{times}: start it smaller. {usual}"
    return usual
