"""Text, sparse and ragged samples as the dense NumPy arrays that a probe runs on."""

import math
from typing import Any

import numpy as np
from keras import tree

from keras_ext._arrays import as_array, has_samples

# Numbers of a sparse array that are made dense at most: 256 MiB of float32.
_MOST_DENSE = 2**26


def leaf(a: Any) -> Any:
    """Return what `fit` takes for one array as what `rows` can cut: a NumPy array, or a sparse or ragged one as it is.

    Text comes as Python's strings and bytes in arrays of objects, and goes as NumPy's.
    """
    array = as_array(a) if not (is_ragged(a) or is_sparse(a)) else a
    if isinstance(array, np.ndarray) and array.dtype == object and array.size:
        for kind in (str, bytes):
            if all(isinstance(value, kind) for value in array.flat):
                return array.astype(kind)
    return array


def can_be_cut(a: Any) -> bool:
    """Return whether the first axis of `a` can be that of the samples."""
    return is_ragged(a) or is_sparse(a) or has_samples(a)


def is_ragged(a: Any) -> bool:
    """Return whether `a` is a ragged tensor of TensorFlow."""
    return hasattr(a, "row_splits") and hasattr(a, "values")


def is_sparse(a: Any) -> bool:
    """Return whether `a` is a sparse matrix of SciPy, or a sparse tensor of TensorFlow, JAX or PyTorch."""
    return hasattr(a, "tocoo") or hasattr(a, "dense_shape") or hasattr(a, "todense") or bool(getattr(a, "is_sparse", False))


def count(a: Any) -> int:
    """Return the number of samples of `a`."""
    return int(a.row_splits.shape[0]) - 1 if is_ragged(a) else int(a.shape[0])


def long_enough(data: Any, lengths: dict[Any, int]) -> np.ndarray:
    """Return which samples of `data` a dense array can hold beside each other: those as long as half of the ragged ones are.

    `lengths` keeps the length of each ragged part by its path, so that the batches of a dataset are cut alike.
    """
    parts = tree.flatten_with_path(data)
    fits = np.ones(next(count(a) for _, a in parts if a is not None), bool)
    for path, a in parts:
        if a is not None and is_ragged(a):
            own = np.diff(np.asarray(a.row_splits, "int64"))
            length = lengths.setdefault(path, max(int(np.median(own)), 1) if len(own) else 1)
            fits &= own >= length
    return fits


def most_rows(data: Any) -> int:
    """Return of how many samples the sparse parts of `data` may be made dense."""
    widths = [math.prod(map(int, a.shape[1:])) for a in tree.flatten(data) if is_sparse(a)]
    return max(_MOST_DENSE // max(widths, default=1), 1)


def rows(data: Any, chosen: np.ndarray, lengths: dict[Any, int]) -> Any:
    """Return the samples of those places, in their order, as dense NumPy arrays of their own; ragged ones are cut to their `lengths`."""

    def taken(path: Any, a: Any) -> Any:
        if a is None:
            return None
        if is_ragged(a):
            return _rows_of_ragged(a, chosen, lengths[path])
        return _rows_of_sparse(a, chosen) if is_sparse(a) else a[chosen]

    return tree.pack_sequence_as(data, [taken(path, a) for path, a in tree.flatten_with_path(data)])


def _rows_of_ragged(a: Any, chosen: np.ndarray, length: int) -> np.ndarray:
    begins = np.asarray(a.row_splits)[:-1][chosen]
    # Shorter lists within the lists are filled up with zeros.
    values = leaf(a.values.to_tensor() if is_ragged(a.values) else a.values)
    return values[begins[:, None] + np.arange(length)]


def _rows_of_sparse(a: Any, chosen: np.ndarray) -> np.ndarray:
    indices, values = _coordinates(a)
    order = np.argsort(chosen)
    places = np.minimum(np.searchsorted(chosen, indices[:, 0], sorter=order), len(chosen) - 1)
    is_chosen = chosen[order[places]] == indices[:, 0]
    dense = np.zeros((len(chosen), *map(int, a.shape[1:])), values.dtype)
    # Places that occur twice are summed, as frameworks do.
    np.add.at(dense, (order[places[is_chosen]], *indices[is_chosen, 1:].T), values[is_chosen])
    return dense


def _coordinates(a: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the numbers that are kept, a row each, and the numbers."""
    if hasattr(a, "tocoo"):
        coo = a.tocoo()
        return np.stack([coo.row, coo.col], axis=1), coo.data
    if hasattr(a, "coalesce"):
        coo = a.coalesce()
        return np.asarray(coo.indices()).T, np.asarray(coo.values())
    return np.asarray(a.indices), np.asarray(a.values if hasattr(a, "dense_shape") else a.data)
