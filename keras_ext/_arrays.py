"""Data that users give, as NumPy arrays."""

from typing import Any

import numpy as np


def as_array(a: Any) -> Any:
    """Return `a` as a NumPy array, or as it is if it cannot be one."""
    if not hasattr(a, "__array__"):
        return a
    if hasattr(a, "detach"):
        # A tensor of PyTorch, whatever Keras runs on: NumPy reads none that has a gradient, lies on a GPU or is bfloat16.
        a = a.detach().cpu()
        a = a.float() if str(a.dtype) == "torch.bfloat16" else a
    is_series = type(a).__module__.startswith("pandas") and getattr(a, "ndim", 0) == 1
    return np.asarray(a)[:, None] if is_series else np.asarray(a)  # as `fit` takes a Series
