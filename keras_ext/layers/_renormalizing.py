"""Batch renormalization: the correction of a batch's statistics towards their moving values."""

import math
from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_ext._checks import bad_argument, is_number, plain


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
