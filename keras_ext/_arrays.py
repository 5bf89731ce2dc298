"""Data that users give, as NumPy arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import tree

from keras_ext._checks import bad_argument

NAMES = ("x", "y", "sample_weight")


def as_array(a: Any) -> Any:
    """Return `a` as a NumPy array, or as it is where it cannot be one without becoming another."""
    if not hasattr(a, "__array__"):
        return a
    if hasattr(a, "detach"):
        # A tensor of PyTorch, whatever Keras runs on: NumPy reads none that has a gradient, lies on a GPU or is bfloat16.
        a = a.detach().cpu()
        a = a.float() if str(a.dtype) == "torch.bfloat16" else a
    is_series = type(a).__module__.startswith("pandas") and getattr(a, "ndim", 0) == 1
    return np.asarray(a)[:, None] if is_series else np.asarray(a)  # as `fit` takes a Series


def has_samples(a: Any) -> bool:
    """True for an array whose first axis can be that of the samples."""
    return isinstance(a, np.ndarray) and a.ndim > 0 and a.dtype != object


def checked_samples(
    data: tuple[Any, Any, Any], rule: str, fix: str = "", error: type[Exception] = ValueError, convert: Callable[[Any], Any] = as_array,
    fits: Callable[[Any], bool] = has_samples, count: Callable[[Any], int] = len,
) -> tuple[Any, int]:  # fmt: skip
    """Return `(x, y, sample_weight)` as arrays in the structure that they came in, and the number of samples, at least 1.

    They are NumPy arrays, or what `convert` returns, which `fits`, and whose samples `count` counts. What does not fit breaks the `rule`;
    `fix` and `error` are as of `bad_argument`.
    """
    arrays = tree.map_structure(convert, data)
    for name, given, values in zip(NAMES, data, arrays, strict=True):
        leaves = [a for a in tree.flatten(values) if a is not None]
        if (name == "x" and not leaves) or not all(map(fits, leaves)):
            raise bad_argument(name, rule, type(given).__name__, fix, error)
    lengths = {count(a) for a in tree.flatten(arrays) if a is not None}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(f"`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got {sorted(lengths)}.")
    return arrays, lengths.pop()
