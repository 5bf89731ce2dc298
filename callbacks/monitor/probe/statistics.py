"""Numbers that say how a layer is: pure functions from tensors to a few floats, traced into the compiled snapshot."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from keras import ops


def slope_share(y: Any, kind: str) -> Any:
    """Return the slope of a saturating activation at the points where its value is `y`, over its steepest slope."""
    if kind in ("sigmoid", "softmax"):  # sigmoid' = y (1 - y), at most 1/4
        return 4.0 * y * (1.0 - y)
    if kind == "tanh":  # tanh' = 1 - y^2, at most 1
        return 1.0 - ops.square(y)
    if kind == "softsign":  # softsign' = (1 - |y|)^2, at most 1
        return ops.square(1.0 - ops.abs(y))
    # The hard forms have a slope of 1 inside and 0 at their ends.
    low = -1.0 if kind == "hard_tanh" else 0.0
    return ops.cast(ops.logical_and(y > low, y < 1.0), y.dtype)


SATURATING = ("sigmoid", "tanh", "softsign", "hard_sigmoid", "sparse_sigmoid", "hard_tanh")
RECTIFYING = ("relu", "relu6")
# Measured, but its saturation is no symptom: a sure choice is what it is for.
CHOOSING = ("softmax",)
# The part of an attention layer whose softmax is measured.
ATTENTION = "attention"

ACTIVATION_FIELDS = ("saturated", "saturated_units", "dead", "zeros", "rms", "rank")
WEIGHT_FIELDS = ("gradient_norm", "weight_norm", "largest", "zero_gradients", "update", "deviation")
OUTPUT_FIELDS = ("low", "high", "sum_off", "spread", "deviation")
NORMALIZATION_FIELDS = ("shift", "ratio")
ID_FIELDS = ("fractions", "outside")
# So many of a weight's numbers are kept until the next snapshot, to tell how far it went.
KEPT = 4096


def activation_statistics(values: Sequence[Any], kind: str, channel_axis: int = -1, rank: bool = False, slope: float = 0.05) -> Any:
    """Return `ACTIVATION_FIELDS` of activations of one kind and shape, as a matrix of one row each.

    `values` have the shape (samples, ..., units), or the units on `channel_axis`. `kind` is the activation's name: only `SATURATING` ones
    and softmax can be saturated, only `RECTIFYING` ones dead. A unit is saturated where its slope is under the share `slope` of the
    steepest.

    Returns:
        saturated: share of saturated (sample, unit) pairs; of a softmax, share of rows with one value near 1.
        saturated_units: share of units saturated on all samples. dead: share of units that are zero on all samples. zeros: share of zeros.
        rms: root mean square, not finite if a value is not. rank: the effective rank, or 0.
    """
    # All at once: a compiler takes as long for one as for many.
    y = ops.cast(ops.stack(list(values)), "float32")
    axes = len(y.shape)
    channel_axis = channel_axis % (axes - 1) + 1
    others = [i for i in range(1, axes) if i != channel_axis]
    nothing = ops.zeros((len(values),), "float32")
    zero = ops.cast(ops.equal(y, 0.0), "float32")
    saturated = saturated_units = dead = ranks = nothing
    if kind in CHOOSING:
        most = ops.max(y, axis=channel_axis)
        # A small largest value has a small slope too, and is no choice.
        saturated = _mean(ops.cast(ops.logical_and(slope_share(most, kind) < slope, most > 0.5), "float32"))
    elif kind in SATURATING:
        flat = ops.cast(slope_share(y, kind) < slope, "float32")
        saturated, saturated_units = _mean(flat), ops.mean(ops.min(flat, axis=others), axis=1)
    elif kind in RECTIFYING and math.prod(y.shape[i] for i in others) > 1:  # one value reports nothing
        dead = ops.mean(ops.min(zero, axis=others), axis=1)
    if rank:
        ranks = ops.stack([effective_rank(v, channel_axis - 1) for v in values])
    return ops.stack([saturated, saturated_units, dead, _mean(zero), _rms(ops.reshape(y, (len(values), -1))), ranks], axis=1)


def effective_rank(y: Any, channel_axis: int = -1) -> Any:
    """Return the exponential of the entropy of the normalised singular values of samples by units (Roy and Vetterli 2007, section 3).

    Axes between are averaged. 1 where all samples give multiples of one vector, at most the smaller of samples and units.
    """
    y = ops.cast(y, "float32")
    channel_axis %= len(y.shape)
    between = [i for i in range(1, len(y.shape)) if i != channel_axis]
    flat = ops.mean(y, axis=between) if between else y
    flat = flat / ops.maximum(ops.max(ops.abs(flat)), 1e-30)
    # The smaller of both products has the same eigenvalues but for zeros.
    turned = ops.transpose(flat)
    gram = ops.matmul(flat, turned) if flat.shape[0] <= flat.shape[1] else ops.matmul(turned, flat)
    squares = ops.linalg.eigh(gram)[0]
    # What float32 makes of eigenvalues of 0.
    values = ops.sqrt(ops.where(squares > 1.2e-7 * gram.shape[0] * ops.max(squares), squares, 0.0))
    share = values / (ops.sum(values) + 1e-30)
    return ops.exp(-ops.sum(share * ops.log(share + 1e-30)))


def weight_statistics(weights: Sequence[Any], gradients: Sequence[Any], before: Any) -> tuple[Any, Any]:
    """Return `WEIGHT_FIELDS` of weights, as a matrix of one row each, and the numbers that the next snapshot compares with.

    The largest weight comes first, those of one size are side by side, and `before` is the second result of the snapshot before.

    Returns:
        gradient_norm and weight_norm: L2 norms, not finite if a number is not. largest: largest absolute weight. zero_gradients: share of
        gradients that are exactly zero. update: L2 norm of the change since the snapshot before, by `KEPT` of its numbers, evenly spaced,
        where there are more. deviation: standard deviation of the numbers over their root mean square; 0 where all are the same.
    """
    # All at once, in rows filled up with zeros: tracing and compiling take as long for one as for many.
    sizes = [math.prod(each.shape) for each in weights]
    n, width = len(weights), sizes[0]
    if n == 1:  # which may be large, and is not copied
        w, g = (ops.reshape(ops.cast(each[0], "float32"), (1, width)) for each in (weights, gradients))
        blocks, kept = (w, g), w[:, :: _stride(width)]
    else:
        parts = []  # of each size, weights and gradients in a tensor of shape (2, weights, size)
        for size, pairs in itertools.groupby(zip(weights, gradients, strict=True), lambda pair: math.prod(pair[0].shape)):
            flat = [ops.reshape(t, (size,)) for each in zip(*pairs, strict=True) for t in each]
            parts.append(ops.reshape(ops.cast(ops.stack(flat), "float32"), (2, len(flat) // 2, size)))
        rows = ops.reshape(_side_by_side(parts, width), (2 * n, width))
        blocks, w, g = (rows,), rows[:n], rows[n:]
        every = [part[:1, :, :: _stride(part.shape[2])] for part in parts]
        kept = _side_by_side(every, max(map(kept_of, sizes)))[0] if width > KEPT else w
    counts, kept_counts = (ops.convert_to_tensor([float(max(c, 1)) for c in each], "float32") for each in (sizes, map(kept_of, sizes)))
    scaled = [_scaled(block) for block in blocks]
    largest = ops.concatenate([most for most, _ in scaled])
    norms = ops.concatenate([ops.sqrt(ops.sum(ops.square(unit), axis=1)) * most for most, unit in scaled])
    update = ops.sqrt(ops.sum(ops.square(kept - before), axis=1) * (counts / kept_counts))
    zeros = ops.sum(ops.cast(ops.equal(g, 0.0), "float32"), axis=1) - (width - counts)
    deviation = _deviation(w / largest[:n, None], counts, min(sizes) < width)
    return ops.stack([norms[n:], norms[:n], largest[:n], zeros / counts, update, deviation], axis=1), kept


def _deviation(rows: Any, counts: Any, is_filled: bool) -> Any:
    """Return the standard deviation of each row's first `counts` numbers over their root mean square."""
    apart = rows - (ops.sum(rows, axis=1) / counts)[:, None]
    if is_filled:
        apart = ops.where(ops.arange(rows.shape[1], dtype="float32")[None] < counts[:, None], apart, 0.0)
    return ops.sqrt(ops.sum(ops.square(apart), axis=1) / (ops.sum(ops.square(rows), axis=1) + 1e-30))


def _side_by_side(parts: Sequence[Any], width: int) -> Any:
    """Return the parts as one, each row filled up with zeros to `width`."""
    full = [ops.pad(p, ((0, 0), (0, 0), (0, width - p.shape[2]))) if p.shape[2] < width else p for p in parts]
    return ops.concatenate(full, axis=1) if len(full) > 1 else full[0]


def kept_of(size: int) -> int:
    """Return how many numbers of a weight of that size are kept for the next snapshot."""
    return len(range(0, size, _stride(size)))


def output_statistics(predictions: Any) -> Any:
    """Return `OUTPUT_FIELDS` of one output's predictions, shape (samples, ..., units), as a vector.

    Returns:
        low and high: the smallest and the largest. sum_off: how far sums over the units are from 1 at most. spread: the standard deviation
        over the samples, over the root mean square; NaN of one sample. deviation: that standard deviation itself.
    """
    p = ops.cast(predictions, "float32")
    p = p if len(p.shape) > 1 else p[:, None]
    deviation = ops.sqrt(ops.mean(ops.var(p, axis=0))) if p.shape[0] != 1 else ops.full((), math.nan, "float32")
    return ops.stack([ops.min(p), ops.max(p), ops.max(ops.abs(ops.sum(p, axis=-1) - 1.0)), deviation / (rms(p) + 1e-30), deviation])


def normalization_statistics(x: Any, mean: Any, variance: Any, axis: int, epsilon: float) -> Any:
    """Return `NORMALIZATION_FIELDS`: how far the moving statistics of a batch normalization are from those of its input `x`, as a vector.

    `mean` and `variance` have the shape (channels,), and the channels of `x` are on `axis`.

    Returns:
        shift: root mean square over the channels of the means' difference in standard deviations of `x`. ratio: the larger of the variances
        over the smaller, in the geometric mean over the channels; both variances with `epsilon` added.
    """
    x = ops.cast(x, "float32")
    axis %= len(x.shape)
    axes = [i for i in range(len(x.shape)) if i != axis]
    own_mean, own_variance = ops.mean(x, axis=axes), ops.var(x, axis=axes) + epsilon
    shift = ops.sqrt(ops.mean(ops.square(own_mean - ops.cast(mean, "float32")) / own_variance))
    ratio = ops.exp(ops.mean(ops.abs(ops.log(own_variance) - ops.log(ops.cast(variance, "float32") + epsilon))))
    return ops.stack([shift, ratio])


def id_statistics(ids: Any, rows: int) -> Any:
    """Return `ID_FIELDS` of what an embedding of so many rows is given, as a vector.

    Returns:
        fractions: share of numbers that are not whole. outside: share of those that are no row.
    """
    ids = ops.cast(ids, "float32")
    fractions = ops.not_equal(ids, ops.round(ids))
    outside = ops.logical_or(ids < 0.0, ids >= float(rows))
    return ops.stack([ops.mean(ops.cast(each, "float32")) for each in (fractions, outside)])


def penalties(variables: Sequence[Any]) -> list[Any]:
    """Return what the regularizer of each variable that has one makes of it, a float32 scalar."""
    regularized = [v for v in variables if getattr(v, "regularizer", None) is not None]
    return [ops.cast(v.regularizer(v), "float32") for v in regularized]


def rms(x: Any) -> Any:
    """Return the root mean square of all numbers of `x`."""
    return _rms(ops.reshape(ops.cast(x, "float32"), (1, -1)))[0]


def _stride(size: int) -> int:
    return max(-(-size // KEPT), 1)


def _mean(x: Any) -> Any:
    return ops.mean(ops.reshape(x, (x.shape[0], -1)), axis=1)


def _rms(rows: Any) -> Any:
    largest, unit = _scaled(rows)
    return ops.sqrt(ops.mean(ops.square(unit), axis=1)) * largest


def _scaled(rows: Any) -> tuple[Any, Any]:
    """Return the largest absolute value of each row, and the rows over it, as a float32 sum of squares overflows at 1.8e19."""
    largest = ops.maximum(ops.max(ops.abs(rows), axis=1, initial=0.0), 1e-30)
    return largest, rows / largest[:, None]
