"""The arithmetic of batch normalization: one pass for the moments, one for the output, and a gradient derived by hand.

Both work on a view of the input with its channels in one axis and everything else in at most two: `(n, channels)`, or
`(outer, channels, inner)`. Derived by hand, the gradient needs two sums over the batch and no copies of what lies between; what the
frameworks derive from the formulas reads and writes the activations several times more.
"""

import math
from typing import Any

from keras import ops

# Values a channel whose mean is the shift; a few keep the shift within the data's own spread, whatever a single value is.
_SHIFT_VALUES = 16


def channel_view(x: Any, axis: int) -> Any:
    """Return `x` as `(n, channels)` if its channels are last, else as `(outer, channels, inner)`."""
    rank = len(x.shape)
    axis %= rank
    if axis == rank - 1:
        return ops.reshape(x, (-1, x.shape[axis]))
    outer, inner = ops.shape(x)[:axis], ops.shape(x)[axis + 1 :]
    return ops.reshape(x, (math.prod(outer), x.shape[axis], math.prod(inner)))


def _axes(view: Any) -> tuple[int, ...]:
    return (0,) if len(view.shape) == 2 else (0, 2)


def _along(statistic: Any, view: Any) -> Any:
    """Return a statistic of shape (channels,) so that it broadcasts against `view`."""
    return statistic if len(view.shape) == 2 else ops.reshape(statistic, (1, -1, 1))


def moments(view: Any) -> tuple[Any, Any]:
    """Return mean and biased variance of each channel, in one pass over the data.

    Both are taken of `x - shift` with a shift inside the data, so that an offset does not cancel the digits of the variance, which is
    E[d^2] - E[d]^2 of the shifted values and never negative (Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance).
    """
    first = view[:_SHIFT_VALUES] if len(view.shape) == 2 else view[:_SHIFT_VALUES, :, :1]
    shift = ops.mean(first, axis=_axes(view))
    shifted = view - _along(shift, view)
    mean = ops.mean(shifted, axis=_axes(view))
    variance = ops.mean(ops.square(shifted), axis=_axes(view)) - ops.square(mean)
    return shift + mean, ops.maximum(variance, 0.0)


@ops.custom_gradient
def normalize(view: Any, mean: Any, inverse: Any, gamma: Any, beta: Any) -> Any:
    """Return `(view - mean) * inverse * gamma + beta`, with the gradient of batch normalization.

    The gradient by `view` is the total one, in which `mean` and `inverse = 1 / sqrt(variance + epsilon)` move with the batch (Ioffe and
    Szegedy 2015, section 3); they themselves get none. All four are of shape (channels,).
    """
    y = (view - _along(mean, view)) * _along(inverse * gamma, view) + _along(beta, view)

    def gradient(*arguments: Any, upstream: Any = None) -> tuple[Any, ...]:
        g = arguments[0] if upstream is None else upstream
        axes = _axes(view)
        n = ops.cast(ops.size(view) // view.shape[1], view.dtype)
        x_hat = (view - _along(mean, view)) * _along(inverse, view)
        g_beta = ops.sum(g, axis=axes)
        g_gamma = ops.sum(g * x_hat, axis=axes)
        g_view = _along(inverse * gamma, view) * (g - _along(g_beta / n, view) - x_hat * _along(g_gamma / n, view))
        return g_view, ops.zeros_like(mean), ops.zeros_like(inverse), g_gamma, g_beta

    return y, gradient
