"""Batches cut from arrays of samples."""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._arrays import checked_samples
from keras_ext._checks import bad_argument


def checked_arrays(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[tuple[Any, Any, Any], int]:
    """Return the data as NumPy arrays, tuples in place of lists, and the number of samples."""
    data = tree.lists_to_tuples(x), tree.lists_to_tuples(y), tree.lists_to_tuples(sample_weight)
    checked = checked_samples(data, "an array, or a list, tuple or dict of arrays")
    if y is None and sample_weight is not None:
        raise bad_argument("y", "given where `sample_weight` is", y, "Weights belong to the loss that targets make.")
    return checked


def cut(data: tuple[Any, Any, Any], rows: Any, padding: int = 0, scale: float | None = None) -> tuple[Any, ...]:
    """Return the batch of the samples `rows`, an index of NumPy.

    With `scale` it has sample weights: those of `data`, or 1, times `scale`, and 0 for the last `padding` samples.
    """
    floatx = keras.config.floatx()

    def taken(a: Any) -> Any:
        if a is None:
            return None
        return a[rows].astype(floatx, copy=False) if a.dtype.kind == "f" else a[rows]

    def scaled(a: Any) -> Any:
        if a is None:
            return None
        part = (a[rows] * scale).astype(floatx)
        part[len(part) - padding :] = 0
        return part

    x, y, sample_weight = data
    if scale is None:
        return tree.map_structure(taken, data)[: 1 + (y is not None) + (sample_weight is not None)]
    if sample_weight is None:
        first = next(a for a in tree.flatten(x) if a is not None)
        sample_weight = np.broadcast_to(np.float32(1), len(first))
    return tree.map_structure(taken, x), tree.map_structure(taken, y), tree.map_structure(scaled, sample_weight)


def check_reductions(model: Any, allowed: tuple[str, ...], fix: str) -> None:
    """Raise an error if a loss that `model` is compiled with has a reduction that is not in `allowed`."""
    for loss in tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if reduction not in allowed:
            raise bad_argument("loss", f"a mean over the samples ({', '.join(map(repr, allowed))})", reduction, f"Compile with one, {fix}.")
