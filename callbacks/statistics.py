"""Numbers that say how a layer is: pure functions from tensors to a few floats, traced into the compiled look."""

from collections.abc import Sequence
from typing import Any

from keras import ops

# A unit is saturated where its slope is under this share of the steepest slope.
SLOPE_SHARE = 0.05


def slope_share(y: Any, kind: str) -> Any:
    """Return the slope of a saturating activation at the points where its value is `y`, over its steepest slope.

    sigmoid' = y (1 - y), at most 1/4; tanh' = 1 - y^2, at most 1; softsign' = (1 - |y|)^2, at most 1; the hard forms have a slope of 1
    inside and 0 at their ends.

    >>> [round(float(slope_share(ops.convert_to_tensor(v), "sigmoid")), 4) for v in (0.5, 0.99)]
    [1.0, 0.0396]
    """
    if kind in ("sigmoid", "softmax"):
        return 4.0 * y * (1.0 - y)
    if kind == "tanh":
        return 1.0 - ops.square(y)
    if kind == "softsign":
        return ops.square(1.0 - ops.abs(y))
    if kind in ("hard_sigmoid", "sparse_sigmoid"):
        return ops.cast(ops.logical_and(y > 0.0, y < 1.0), y.dtype)
    return ops.cast(ops.abs(y) < 1.0, y.dtype)  # hard_tanh


SATURATING = ("sigmoid", "tanh", "softsign", "hard_sigmoid", "sparse_sigmoid", "hard_tanh")
RECTIFYING = ("relu", "relu6")
# Measured, but its saturation is no illness: a sure choice is what it is for.
CHOOSING = ("softmax",)

ACTIVATION_FIELDS = ("saturated", "saturated_units", "dead", "zeros", "rms", "rank")
WEIGHT_FIELDS = ("gradient_norm", "weight_norm", "largest", "zero_gradients", "update")
# So many of a weight's numbers are kept until the next look, to tell how far it went.
KEPT = 4096


def activation_statistics(y: Any, kind: str, channel_axis: int = -1, rank: bool = False) -> Any:
    """Return `ACTIVATION_FIELDS` of one activation's values as a vector.

    Args:
        y: shape (samples, ..., units).
        kind: the activation's name; only `SATURATING` ones and softmax can be saturated, only `RECTIFYING` ones dead.
        channel_axis: the axis of the units.
        rank: whether to compute the effective rank.

    Returns:
        saturated: share of (sample, unit) pairs under `SLOPE_SHARE`; of a softmax, share of choices whose largest value is.
        saturated_units: share of units saturated on all samples. dead: share of units that are zero on all samples. zeros: share of zeros.
        rms: root mean square, not finite if a value is not. rank: the effective rank, or 0.
    """
    y = ops.cast(y, "float32")
    channel_axis %= len(y.shape)
    axes = [i for i in range(len(y.shape)) if i != channel_axis]
    nothing = ops.zeros((), "float32")
    zero = ops.cast(ops.equal(y, 0.0), "float32")
    saturated = saturated_units = dead = nothing
    if kind in CHOOSING:
        saturated = ops.mean(ops.cast(slope_share(ops.max(y, axis=channel_axis), kind) < SLOPE_SHARE, "float32"))
    elif kind in SATURATING:
        flat = ops.cast(slope_share(y, kind) < SLOPE_SHARE, "float32")
        saturated, saturated_units = ops.mean(flat), ops.mean(ops.min(flat, axis=axes))
    elif kind in RECTIFYING:
        dead = ops.mean(ops.min(zero, axis=axes))
    largest, squares = _scaled_squares(y)
    rms = ops.sqrt(squares / ops.cast(ops.size(y), "float32")) * largest
    return ops.stack([saturated, saturated_units, dead, ops.mean(zero), rms, effective_rank(y, channel_axis) if rank else nothing])


def effective_rank(y: Any, channel_axis: int = -1) -> Any:
    """Return the exponential of the entropy of the normalised singular values of samples by units (Roy and Vetterli 2007, section 3).

    Axes between are averaged. 1 where all samples give multiples of one vector, at most the smaller of samples and units.

    >>> round(float(effective_rank(ops.eye(5))), 4)
    5.0
    """
    y = ops.cast(y, "float32")
    channel_axis %= len(y.shape)
    between = [i for i in range(1, len(y.shape)) if i != channel_axis]
    flat = ops.mean(y, axis=between) if between else y
    largest = ops.maximum(ops.max(ops.abs(flat)), 1e-30)
    flat = flat / largest
    # The smaller of both products has the same eigenvalues but for zeros.
    turned = ops.transpose(flat)
    gram = ops.matmul(flat, turned) if flat.shape[0] <= flat.shape[1] else ops.matmul(turned, flat)
    squares = ops.linalg.eigh(gram)[0]
    # What float32 makes of eigenvalues of 0.
    values = ops.sqrt(ops.where(squares > 1.2e-7 * gram.shape[0] * ops.max(squares), squares, 0.0))
    share = values / (ops.sum(values) + 1e-30)
    return ops.exp(-ops.sum(share * ops.log(share + 1e-30)))


def weight_statistics(weights: Sequence[Any], gradients: Sequence[Any], before: Any) -> tuple[Any, Any]:
    """Return `WEIGHT_FIELDS` of each weight, and the numbers of each that the next look compares with, all in one vector.

    Args:
        weights: tensors.
        gradients: tensors of the same shapes.
        before: the second result of the look before.

    Returns:
        A matrix of one row a weight. gradient_norm and weight_norm: L2 norms, NaN if a number is not finite. largest: largest absolute
        weight. zero_gradients: share of gradients that are exactly zero. update: L2 norm of the change since the look before, by
        `KEPT` of its numbers, evenly spaced, where there are more.
    """
    columns: list[list[Any]] = [[] for _ in range(6)]
    kept, place = [], 0
    for weight, gradient in zip(weights, gradients, strict=True):
        w, g = ops.cast(weight, "float32"), ops.cast(gradient, "float32")
        some = numbers_kept(w)
        way = ops.sum(ops.square(some - before[place : place + some.shape[0]])) * (_size(w) / max(some.shape[0], 1))
        place += some.shape[0]
        kept.append(some)
        for column, number in zip(
            columns, [*_scaled_squares(g), *_scaled_squares(w), ops.mean(ops.cast(ops.equal(g, 0.0), "float32")), way], strict=True
        ):
            column.append(number)
    largest_g, squares_g, largest_w, squares_w, zeros, way = (ops.stack(column) for column in columns)
    fields = [ops.sqrt(squares_g) * largest_g, ops.sqrt(squares_w) * largest_w, largest_w, zeros, ops.sqrt(way)]
    return ops.stack(fields, axis=1), ops.concatenate(kept)


def numbers_kept(weight: Any) -> Any:
    """Return at most `KEPT` numbers of a weight, evenly spaced, as a vector."""
    flat = ops.reshape(weight, (-1,))
    return flat[:: -(-_size(weight) // KEPT)] if _size(weight) > KEPT else flat


def spread(predictions: Any) -> Any:
    """Return how much a prediction depends on the sample: the standard deviation over the samples, over the root mean square."""
    p = ops.cast(predictions, "float32")
    largest, squares = _scaled_squares(p)
    rms = ops.sqrt(squares / ops.cast(ops.size(p), "float32")) * largest
    return ops.sqrt(ops.mean(ops.var(p, axis=0))) / (rms + 1e-30)


def _size(tensor: Any) -> int:
    size = 1
    for n in tensor.shape:
        size *= n
    return size


def _scaled_squares(x: Any) -> tuple[Any, Any]:
    # Scaled first: a float32 sum of squares overflows at 1.8e19.
    largest = ops.maximum(ops.max(ops.abs(x)), 1e-30)
    return largest, ops.sum(ops.square(x / largest))
