"""Arrays of an NPZ file."""

import zipfile
from pathlib import Path

import numpy as np

from keras_ext._checks import BadInput
from keras_ext._wording import one_line
from keras_ext.tables.data.files import existing, listed
from keras_ext.tables.data.table import Table, make_table


def load_npz(path: str | Path, target: str | None = None, task: str = "auto") -> Table:
    """Return the arrays of an NPZ file: the targets named `target` (default `y`), the inputs `x`, or the only other array.

    Raises:
        BadInput: the file or its arrays cannot be used.
    """
    path = existing(path)
    arrays, target = read_npz(path), target or "y"
    if target not in arrays:
        raise BadInput(f'{path}: no array "{target}". Name one of {listed(arrays)} with --target.')
    return make_table(inputs_of(path, arrays, target), arrays[target], path.name, task)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return all arrays of an NPZ file.

    Raises:
        BadInput: it is none, or holds Python objects.
    """
    path = existing(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise BadInput(
            f"{path}: not an NPZ file of plain arrays ({one_line(error)}). Write it with numpy.savez(file, x=..., y=...)."
        ) from None


def inputs_of(path: Path, arrays: dict[str, np.ndarray], target: str | None) -> np.ndarray:
    """Return the array of inputs among `arrays`: `x`, or the only one beside the target.

    Raises:
        BadInput: it cannot be reported, or has no axis of features.
    """
    others = [key for key in arrays if key != target]
    inputs = "x" if "x" in others else others[0] if len(others) == 1 else None
    if inputs is None:
        beside = "" if target is None else f' beside "{target}"'
        raise BadInput(f'{path}: needs one array of inputs{beside}, found {listed(others)}. Call the inputs "x".')
    if arrays[inputs].ndim < 2:
        raise BadInput(f'{path}: the inputs "{inputs}" have shape {arrays[inputs].shape}; (samples, features) is needed.')
    return arrays[inputs]
