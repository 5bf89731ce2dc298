"""The gain of an activation: the factor that its weights need so that a signal neither fades nor grows from layer to layer."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from keras_ext._checks import bad_argument, is_number, one_of, plain

# keras.activations.leaky_relu's default.
_NEGATIVE_SLOPE = 0.2
# Klambauer et al. (2017), equation 14.
_SELU = (1.6732632423543772, 1.0507009873554805)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _selu(z: np.ndarray) -> np.ndarray:
    alpha, scale = _SELU
    return scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def _gelu(z: np.ndarray) -> np.ndarray:
    return z * np.array([math.erfc(-v / math.sqrt(2)) for v in z]) / 2


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, _NEGATIVE_SLOPE * z),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "selu": _selu,
    "gelu": _gelu,
    "silu": lambda z: z * _sigmoid(z),
}


def calculate_gain(activation: str, negative_slope: float | None = None) -> float:
    """Return `1 / sqrt(E[f(z)^2])` for the activation `f` and a standard normal `z`.

    Weights of variance `gain^2 / fan_in` behind that activation then give sums of variance 1 again, whatever the width: with `n` inputs
    `f(z)` of mean square `1 / gain^2` each, the sum has variance `n * gain^2 / n * 1 / gain^2`.

        linear 1      relu sqrt(2)    leaky_relu sqrt(2 / (1 + slope^2))    selu 1
        tanh 1.5927   sigmoid 1.8463  gelu 1.5335                           silu 1.6765

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
    one_of("activation", activation, _ACTIVATIONS)
    if negative_slope is None:
        return _calculate(activation)
    if activation != "leaky_relu" or not is_number(negative_slope) or not math.isfinite(negative_slope):
        raise bad_argument("negative_slope", "a finite number for leaky_relu, None for others", negative_slope)
    return math.sqrt(2 / (1 + negative_slope**2))


@cache
def _calculate(activation: str) -> float:
    # The trapezoid rule: the density is 1e-32 at the ends. Kinks lie on a point of the grid.
    z, step = np.linspace(-12.0, 12.0, 24001, retstep=True)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(1 / math.sqrt(step * np.sum(density * _ACTIVATIONS[activation](z) ** 2)))


def checked_gain(gain: Any, *, positive: bool = True) -> Any:
    """Return `gain` if it is a finite number (above 0, if `positive`) or an activation's name."""
    if isinstance(gain, str):
        fits = gain in _ACTIVATIONS
    else:
        fits = is_number(gain) and math.isfinite(gain) and (gain > 0 or not positive)
    if fits:
        return gain if isinstance(gain, str) else plain(gain)
    number = "a finite number above 0" if positive else "a finite number"
    raise bad_argument("gain", f"{number}, or one of {', '.join(map(repr, _ACTIVATIONS))}", gain)


def as_number(gain: Any) -> float:
    """Return the gain that `checked_gain` let through as a number."""
    return calculate_gain(gain) if isinstance(gain, str) else float(gain)
