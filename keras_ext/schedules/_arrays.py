"""Arrays of samples, and batches cut from them."""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._arrays import as_array
from keras_ext._checks import bad_argument

_NAMES = ("x", "y", "sample_weight")


def checked_arrays(x: Any, y: Any, sample_weight: Any) -> tuple[tuple[Any, Any, Any], int]:
    """Return the data as NumPy arrays, tuples in place of lists, and the number of samples."""
    data = tree.map_structure(as_array, (tree.lists_to_tuples(x), tree.lists_to_tuples(y), tree.lists_to_tuples(sample_weight)))
    for name, given, arrays in zip(_NAMES, (x, y, sample_weight), data, strict=True):
        leaves = [a for a in tree.flatten(arrays) if a is not None]
        if (name == "x" and not leaves) or not all(isinstance(a, np.ndarray) and a.ndim and a.dtype != object for a in leaves):
            raise bad_argument(name, "an array, or a list, tuple or dict of arrays", type(given).__name__)
    if y is None and sample_weight is not None:
        raise bad_argument("y", "given where `sample_weight` is", y, "Weights belong to the loss that targets make.")
    lengths = {len(a) for a in tree.flatten(data) if a is not None}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(f"`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got {sorted(lengths)}.")
    return data, lengths.pop()


def cut(data: tuple[Any, Any, Any], rows: Any, padding: int = 0, scale: float | None = None) -> tuple[Any, ...]:
    """Return the batch of the samples `rows`, an index of NumPy.

    With `scale` it has sample weights: those of `data`, or 1, times `scale`, and 0 for the last `padding` samples.
    """
    floatx = keras.config.floatx()

    def taken(a: Any) -> Any:
        if a is None:
            return None
        part = a[rows]
        return part.astype(floatx) if part.dtype.kind == "f" and part.dtype.name != floatx else part

    def scaled(a: Any) -> Any:
        if a is None:
            return None
        part = (a[rows] * scale).astype(floatx)
        part[len(part) - padding :] = 0
        return part

    x, y, sample_weight = data
    if scale is None:
        batch = tree.map_structure(taken, data)
        return batch if sample_weight is not None else batch[:2] if y is not None else batch[:1]
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
