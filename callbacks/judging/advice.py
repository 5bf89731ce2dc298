"""What mends a layer, by what this look shows of where its illness comes from."""

from keras_ext.callbacks.limits import Limits
from keras_ext.callbacks.look import Look

# A kernel of so many times the largest usual scale drives its layer out of range by itself.
_LARGE = 3.0
# A kernel that goes this share of its own length from look to look forgets what it had learned.
_FAR = 0.5


def advice_for(look: Look, layer: str, usual: str, limits: Limits) -> str:
    """Return what mends an activation of `layer` that is out of range: what its inputs, its kernel or its steps ask for, else the `usual`.

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
            f"Its kernel has gone {own.update_ratio:.0%} of its own length since the last look: lower the learning rate, or put "
            f"GradientClipping around the optimizer. {usual}"
        )
    if own.scale > _LARGE * own.most_scale:
        return f"Its kernel is {own.scale / own.most_scale:.3g} times as large as its fans ask for: start it smaller. {usual}"
    return usual
