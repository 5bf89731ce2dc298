"""The arithmetic of batch normalization: statistics, output, a gradient derived by hand, and the correction of renormalization.

Where the framework has a kernel that is right, it does it all. Elsewhere the mean is taken in one pass of the values less a shift inside
the data, and the variance in a second. One pass for both is as exact, and slower under XLA on images, whose plain sums become vector code;
for inputs of two axes the number of passes counts for more. The gradient by hand needs two sums over the batch and no copies of what lies
between; what the frameworks derive goes through the activations several times more.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._checks import bad_argument, is_number, plain
from keras_ext.layers import _channels


def normalize(x: Any, gamma: Any, beta: Any, axis: int, epsilon: float) -> tuple[Any, Any, Any]:
    """Return `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, and the mean and biased variance of each channel of `x`.

    `gamma` and `beta` are of shape (channels,), float32 at least, as are the statistics; the output has the dtype of `x`. Its gradients are
    the total ones, in which the statistics move with the batch (Ioffe and Szegedy 2015, section 3), and have gradients themselves; the
    statistics have none.
    """
    fused = _backend.fused_batch_norm(x, gamma, beta, axis, epsilon)
    if fused is not None:
        return fused
    rounded = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    view, axis = _few_axes(ops.cast(x, gamma.dtype), axis)
    axes = [i for i in range(len(view.shape)) if i != axis]

    def along(statistic: Any) -> Any:
        return _channels.along(statistic, axis, len(view.shape))

    @ops.custom_gradient
    def normalized(view: Any, gamma: Any, beta: Any) -> Any:
        shift = ops.stop_gradient(_shift(view, axis))
        shifted = view - along(shift)
        shifted_mean = ops.mean(shifted, axes)
        mean = shift + shifted_mean
        if len(x.shape) == 2:
            # Of n equal values but one, and that one the shift, n rounding errors remain; they must not make it negative.
            variance = ops.maximum(ops.mean(ops.square(shifted), axes) - ops.square(shifted_mean), 0.0)
        else:
            variance = ops.mean(ops.square(view - along(mean)), axes)
        inverse = ops.rsqrt(variance + epsilon)
        y = (view - along(mean)) * along(inverse * gamma) + along(beta)

        def gradient(*upstream: Any, **_: Any) -> tuple[Any, Any, Any]:
            g, *_statistics = upstream[0] if len(upstream) == 1 else upstream
            count = ops.cast(ops.size(view) // view.shape[axis], view.dtype)
            g_beta = ops.sum(g, axes)
            g_gamma = _centred_sum(view, along(mean), along(variance), g, axes, rounded) * inverse
            # In this form XLA merges it with what comes before and after; others it does not.
            of_batch = along(g_beta) + (view - along(mean)) * along(inverse * g_gamma)
            return along(gamma * inverse) * g - along(gamma * inverse / count) * of_batch, g_gamma, g_beta

        return (y, mean, variance), gradient

    y, mean, variance = normalized(view, gamma, beta)
    return ops.cast(ops.reshape(y, ops.shape(x)), x.dtype), mean, variance


def _shift(view: Any, axis: int) -> Any:
    """Return the value in the middle of each channel.

    Any value of the channel's own will do: one that is far from the rest makes the spread as wide. It is one, not a mean of several,
    because XLA computes it twice, and two means would be rounded differently; from the middle, because images may begin in a frame.
    """
    for i in reversed(range(len(view.shape))):
        if i != axis:
            view = view[(slice(None),) * i + (ops.shape(view)[i] // 2,)]
    return view


def _few_axes(x: Any, axis: int) -> tuple[Any, int]:
    """Return `x` and `axis` in a shape in which sums are fast; TensorFlow wants what lies before `axis` in one, and what is after it."""
    rank = len(x.shape)
    if keras.backend.backend() != "tensorflow" or rank == 2:
        return x, axis
    after = math.prod(ops.shape(x)[axis + 1 :])
    return ops.reshape(x, (-1, x.shape[axis]) if axis == rank - 1 else (-1, x.shape[axis], after)), 1


def _centred_sum(x: Any, mean: Any, variance: Any, weights: Any, axes: list[int], rounded: bool) -> Any:
    """Return the sum of `(x - mean) * weights` over `axes`; `mean` and `variance` are those of `x`, with `axes` kept.

    XLA sums plain products faster, by a fifth of the layer on JAX. That is as exact where the mean is within 8 standard deviations, and
    where `x` comes from half precision, `rounded`: it lost more then.
    """

    def centred() -> Any:
        return ops.sum((x - mean) * weights, axes)

    def plain() -> Any:
        return ops.sum(x * weights, axes) - ops.squeeze(mean, tuple(axes)) * ops.sum(weights, axes)

    if keras.backend.backend() != "jax":
        return centred()
    return plain() if rounded else ops.cond(ops.any(ops.square(mean) > 64.0 * variance), centred, plain)


def normalize_counted(x: Any, keep: Any, axes: list[int], epsilon: float, total: Callable[[Any], Any]) -> tuple[Any, Any, Any, Any]:
    """Return `x` normalised by its values that `keep` keeps (None: all), and their mean, biased variance and number, `axes` kept.

    It takes two passes. `total` adds what the replicas of a distribution strategy have. Gradients are the frameworks' own.
    """
    keep = ops.ones_like(x, dtype="bool") if keep is None else keep

    def sums(values: Any) -> Any:
        return total(ops.sum(values, axes, keepdims=True))

    count = sums(ops.cast(keep, x.dtype))
    divisor = ops.maximum(count, 1.0)
    mean = sums(ops.where(keep, x, 0.0)) / divisor
    variance = sums(ops.square(ops.where(keep, x - mean, 0.0))) / divisor
    return (x - mean) * ops.rsqrt(variance + epsilon), mean, variance, count


def checked_clipping(limits: Any, renorm: bool) -> dict[str, float] | None:
    """Return the limits of the correction; Keras's wording where they are refused."""
    if limits is None and not renorm:
        return None
    if limits is not None and not isinstance(limits, Mapping):
        raise bad_argument("renorm_clipping", "a dict of limits, or None", limits, 'Such as {"rmax": 3.0, "dmax": 5.0}.')
    limits = {name: plain(limit) if is_number(limit) else limit for name, limit in (limits or {}).items()}
    names = ["rmax", "rmin", "dmax"]
    if set(limits) - set(names):
        raise ValueError(f"Received invalid keys for `renorm_clipping` argument: {limits}. Supported values: {names}.")
    for name, limit in limits.items():
        if limit is not None and not (is_number(limit) and math.isfinite(limit)):
            raise bad_argument(f"renorm_clipping[{name!r}]", "a finite number, or None", limit)
    rmax, rmin, dmax = (limits.get(name) for name in names)
    if rmax is not None and rmin is not None and rmax < rmin:
        raise ValueError(f"rmax should be greater than rmin in the `renorm_clipping` argument. Received: rmax={rmax}, rmin={rmin}.")
    if dmax is not None and dmax < 0:
        raise ValueError(f"dmax should be non-negative in the `renorm_clipping` argument. Received: dmax={dmax}.")
    return limits


def correction(
    mean: Any, variance: Any, wanted_mean: Any, wanted_stddev: Any, epsilon: float, limits: Mapping[str, float | None]
) -> tuple[Any, Any]:
    """Return r and d of Ioffe (2017), arXiv:1702.03275, algorithm 1: what is normalised becomes `r * y + d`. They have no gradients."""
    # The floor keeps the first steps from dividing by a stddev of 0.
    wanted_stddev = ops.maximum(wanted_stddev, epsilon**0.5)
    r = ops.sqrt(variance + epsilon) / wanted_stddev
    d = (mean - wanted_mean) / wanted_stddev
    if limits.get("rmin") is not None:
        r = ops.maximum(r, limits["rmin"])
    if limits.get("rmax") is not None:
        r = ops.minimum(r, limits["rmax"])
    dmax = limits.get("dmax")
    if dmax is not None:
        d = ops.clip(d, -dmax, dmax)
    return ops.stop_gradient(r), ops.stop_gradient(d)
