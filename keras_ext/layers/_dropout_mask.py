"""The mask of dropout: one random byte for each element, against a threshold that is drawn itself, so that no rate is rounded.

A byte alone knows 256 rates. So each row of 256 elements gets one of the two thresholds next to `256 * rate`, drawn so that an element's
chance to be dropped is the rate to 24 bits. The shared threshold adds 3 % at most to the variance of a batch's dropped share for rates in
[1/32, 31/32]. Rates outside have two bytes an element, and add less.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_ext import _backend

ROW = 256
_COARSE = (1 / 32, 31 / 32)


def needs_two_bytes(rate: float) -> bool:
    """Return whether one byte an element is too coarse for `rate`."""
    return not _COARSE[0] <= rate <= _COARSE[1]


def keep_mask(shape: Any, rate: Any, seed: Any, two_bytes: bool = False) -> Any:
    """Return a boolean mask that is False with probability `rate`, independently but for what the module's docstring says.

    Args:
        shape: of the mask; sizes may be tensors.
        rate: in [0, 1]; a number, or a float32 scalar tensor.
        seed: two integers, as `keras.random.SeedGenerator.next` gives them.
        two_bytes: see `needs_two_bytes`.
    """
    size = math.prod(shape)
    rows = (size + (ROW - 1)) // ROW
    first = ops.reshape(_backend.random_bytes(rows * ROW, seed), (-1, ROW))
    if two_bytes:
        second = ops.reshape(_backend.random_bytes(rows * ROW, _apart(seed, 2)), (-1, ROW))
        least, part = _split(rate)
        least = ops.cast(least, "uint8")
        thresholds = _row_thresholds(part, seed, rows)
        beyond = ops.logical_and(ops.cast(second, "float32") >= thresholds, ops.equal(first, least))
        keep = ops.logical_or(first > least, beyond)
    else:
        # 256 is no byte: above 255 / 256, where a rate gets by assignment alone, 255 stands for it. At a rate of 1 the factor is 0.
        keep = first >= ops.cast(ops.minimum(_row_thresholds(rate, seed, rows), 255.0), "uint8")
    return ops.reshape(ops.reshape(keep, (-1,))[:size], shape)


def _apart(seed: Any, number: int) -> Any:
    """Return another seed; slices of one draw instead would keep XLA from merging the draw with the comparison, at twice the time."""
    return seed + ops.convert_to_tensor(np.array([number * 1183186591 % 2**31, 0]), dtype=seed.dtype)


def _split(rate: Any) -> tuple[Any, Any]:
    """Return the integer part of `256 * rate`, at most 255, and the rest."""
    steps = rate * 256.0
    least = min(math.floor(steps), 255) if isinstance(steps, float) else ops.minimum(ops.floor(steps), 255.0)
    return least, steps - least


def _row_thresholds(rate: Any, seed: Any, rows: Any) -> Any:
    """Return a threshold for each row, (rows, 1), from 0 to 256, whose mean is `256 * rate`; two random bytes decide it."""
    least, part = _split(rate)
    high, low = ops.split(ops.cast(_backend.random_bytes(2 * rows, _apart(seed, 1)), "float32"), 2)
    up = ops.cast(high * 256.0 + low < part * 65536.0, "float32")
    return (least + up)[:, None]
