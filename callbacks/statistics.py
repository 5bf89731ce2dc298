"""Numbers that say how a layer is: pure functions from tensors to a few floats, traced into the compiled look."""

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
    if kind == "sigmoid":
        return 4.0 * y * (1.0 - y)
    if kind == "tanh":
        return 1.0 - ops.square(y)
    if kind == "softsign":
        return ops.square(1.0 - ops.abs(y))
    if kind == "hard_sigmoid":
        return ops.cast(ops.logical_and(y > 0.0, y < 1.0), y.dtype)
    return ops.cast(ops.abs(y) < 1.0, y.dtype)  # hard_tanh


SATURATING = ("sigmoid", "tanh", "softsign", "hard_sigmoid", "hard_tanh")
RECTIFYING = ("relu", "relu6")

ACTIVATION_FIELDS = ("saturated", "saturated_units", "dead", "zeros", "rms", "finite")
WEIGHT_FIELDS = ("gradient_norm", "weight_norm", "largest", "zero_gradients", "finite")


def activation_statistics(y: Any, kind: str, channel_axis: int = -1) -> Any:
    """Return `ACTIVATION_FIELDS` of one layer's output as a vector.

    Args:
        y: shape (samples, ..., units).
        kind: the activation's name; only `SATURATING` ones can be saturated, only `RECTIFYING` ones dead.
        channel_axis: the axis of the units.

    Returns:
        saturated: share of (sample, unit) pairs under `SLOPE_SHARE`. saturated_units: share of units saturated on all samples.
        dead: share of units that are zero on all samples. zeros: share of zeros. rms: root mean square. finite: 1 or 0.
    """
    y = ops.cast(y, "float32")
    axes = [i for i in range(len(y.shape)) if i != channel_axis % len(y.shape)]
    nothing = ops.zeros((), "float32")
    zero = ops.cast(y == 0.0, "float32")
    if kind in SATURATING:
        flat = ops.cast(slope_share(y, kind) < SLOPE_SHARE, "float32")
        saturated, saturated_units = ops.mean(flat), ops.mean(ops.min(flat, axis=axes))
    else:
        saturated = saturated_units = nothing
    dead = ops.mean(ops.min(zero, axis=axes)) if kind in RECTIFYING else nothing
    finite = ops.cast(ops.all(ops.isfinite(y)), "float32")
    return ops.stack([saturated, saturated_units, dead, ops.mean(zero), _rms(y), finite])


def weight_statistics(weight: Any, gradient: Any) -> Any:
    """Return `WEIGHT_FIELDS` of one weight as a vector.

    Returns:
        gradient_norm and weight_norm: L2 norms. largest: largest absolute weight. zero_gradients: share of gradients that are exactly zero.
        finite: 1 or 0, of weight and gradient.
    """
    w, g = ops.cast(weight, "float32"), ops.cast(gradient, "float32")
    finite = ops.logical_and(ops.all(ops.isfinite(w)), ops.all(ops.isfinite(g)))
    return ops.stack([_norm(g), _norm(w), ops.max(ops.abs(w)), ops.mean(ops.cast(g == 0.0, "float32")), ops.cast(finite, "float32")])


def spread(predictions: Any) -> Any:
    """Return how much a prediction depends on the sample: the standard deviation over the samples, over the root mean square."""
    p = ops.cast(predictions, "float32")
    return ops.sqrt(ops.mean(ops.var(p, axis=0))) / (_rms(p) + 1e-30)


def _rms(x: Any) -> Any:
    # Scaled first: a float32 sum of squares overflows at 1.8e19.
    largest = ops.maximum(ops.max(ops.abs(x)), 1e-30)
    return ops.sqrt(ops.mean(ops.square(x / largest))) * largest


def _norm(x: Any) -> Any:
    largest = ops.maximum(ops.max(ops.abs(x)), 1e-30)
    return ops.sqrt(ops.sum(ops.square(x / largest))) * largest
