"""The gain of an activation: the factor that its weights need so that a signal neither fades nor grows from layer to layer."""

import math
from typing import Any

from keras_ext._checks import bad_argument, is_number, one_of, plain

# Those without a closed form by quadrature; leaky_relu's for the default slope of Keras's function.
_GAINS = {
    "linear": 1.0,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.2**2)),
    "tanh": 1.5925374197228312,
    "sigmoid": 1.8462285453386054,
    "selu": 1.0,
    "gelu": 1 / math.sqrt(1 / 3 + 1 / (2 * math.pi * math.sqrt(3))),
    "silu": 1.6765324703310913,
}


def calculate_gain(activation: str, negative_slope: float | None = None) -> float:
    """Return `1 / sqrt(E[f(z)^2])` for the activation `f` and a standard normal `z`.

    Weights of variance `gain^2 / fan_in` behind that activation then give sums of variance 1 again, whatever the width.

        linear 1      relu sqrt(2)    leaky_relu sqrt(2 / (1 + slope^2))    selu 1
        tanh 1.5925   sigmoid 1.8462  gelu 1.5335                           silu 1.6765

    PyTorch's function of this name has 5/3 for tanh, found by trial, and 1 for sigmoid. A gain keeps the forward signal; for tanh and
    sigmoid the gradient does not keep its scale at the same time.

    Args:
        activation: one of the names above.
        negative_slope: for leaky_relu, a finite number; Keras's function has 0.2, its layer 0.3, He et al. 0.25.

    Raises:
        ValueError: another name, or a slope for another activation.

    Examples:
        >>> round(calculate_gain("relu"), 4), round(calculate_gain("leaky_relu", 0.3), 4)
        (1.4142, 1.3546)

    References:
        He, Zhang, Ren and Sun (2015), arXiv:1502.01852, equations 7 and 14, for the ReLU family; Poole et al. (2016), arXiv:1606.05340,
        equation 3, for any activation: the length map has its fixed point at 1; Klambauer et al. (2017), arXiv:1706.02515, for selu.
    """
    one_of("activation", activation, _GAINS)
    if negative_slope is None:
        return _GAINS[activation]
    if activation != "leaky_relu" or not is_number(negative_slope) or not math.isfinite(negative_slope):
        raise bad_argument("negative_slope", "a finite number for leaky_relu, None for others", negative_slope)
    return math.sqrt(2 / (1 + negative_slope**2))


def checked_gain(gain: Any, *, positive: bool = True) -> Any:
    """Return `gain` if it is a finite number (above 0, if `positive`) or an activation's name."""
    if isinstance(gain, str):
        if gain in _GAINS:
            return gain
    elif is_number(gain) and math.isfinite(gain) and (gain > 0 or not positive):
        return plain(gain)
    number = "a finite number above 0" if positive else "a finite number"
    raise bad_argument("gain", f"{number}, or one of {', '.join(map(repr, _GAINS))}", gain)


def as_number(gain: Any) -> float:
    """Return the gain that `checked_gain` let through as a number."""
    return calculate_gain(gain) if isinstance(gain, str) else float(gain)
