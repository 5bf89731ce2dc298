"""Data that nothing can be learned from: where numbers are not finite, and inputs that are all the same."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import tree

from keras_ext._arrays import NAMES, as_array

# Larger arrays, and those on disk, are not read to their end for this.
_MOST_BYTES = 2**30
# So many columns are enough to find the cause.
_MOST_NAMES = 3


def broken(given: Sequence[Any], taken: Sequence[Any]) -> tuple[str, ...]:
    """Return where `x`, `y` and `sample_weight` as `given` have NaN or infinity, a sentence's part for each place.

    Of a dataset, of which only the samples that were `taken` are known, it is those that are looked at.
    """
    seen = [place for name, part in zip(NAMES, given, strict=True) for place in _places(name, part)]
    return tuple(seen or [place for name, part in zip(NAMES, taken, strict=True) for place in _places(name, part)])


def are_same(x: Any) -> bool:
    """Return True where several samples were taken and all have the same inputs."""
    arrays = [np.asarray(a) for a in tree.flatten(x) if a is not None]
    return bool(arrays) and all(len(a) > 1 and a.dtype.kind in "biuf" and bool((a == a[:1]).all()) for a in arrays)


def _places(name: str, given: Any) -> Iterator[str]:
    parts = [(path, a) for path, a in tree.flatten_with_path(given) if hasattr(a, "__array__") and hasattr(a, "shape")]
    for path, a in parts:
        is_read = not isinstance(a, np.memmap) and getattr(a, "nbytes", 0) <= _MOST_BYTES
        array = as_array(a) if is_read else np.zeros(0)
        if not np.issubdtype(array.dtype, np.floating) or np.isfinite(array.sum()) or np.isfinite(array).all():
            continue
        label = "".join(f"[{key!r}]" for key in path)
        is_broken = ~np.isfinite(array)
        rows = int(is_broken.reshape(len(array), -1).any(axis=1).sum())
        seen = f"`{name}{label}` has NaN or infinity in {rows} of {len(array)} samples"
        columns = np.flatnonzero(is_broken.reshape(-1, array.shape[-1]).any(axis=0)) if array.ndim > 1 else []
        if 0 < len(columns) < array.shape[-1]:
            shown = ", ".join(str(_named(a, int(c))) for c in columns[:_MOST_NAMES])
            more = f" and {len(columns) - _MOST_NAMES} more" if len(columns) > _MOST_NAMES else ""
            seen += f", in column{'s' if len(columns) > 1 else ''} {shown}{more}"
        yield seen


def _named(given: Any, column: int) -> Any:
    """Return the name of a column of a table, in quotes, or its number, counted from 0."""
    return repr(given.columns[column]) if hasattr(given, "columns") else column
