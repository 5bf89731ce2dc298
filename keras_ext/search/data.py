"""Tables to search on: the bundled digits, NPZ and CSV files. Whatever cannot be used ends in one line that names the mend."""

import csv
import hashlib
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits as _sklearn_digits
from sklearn.model_selection import train_test_split

from keras_ext._checks import BadInput

# A target of whole numbers with no more different values than this is taken for classes.
_MOST_CLASSES = 20
_FEWEST_SAMPLES = 10
# Sums of squares of more samples than fit into memory stay under float32's 3e38.
_LARGEST = 1e15


@dataclass(frozen=True)
class Split:
    """A table in two parts, inputs and targets ready for `fit`."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray


@dataclass(frozen=True)
class Table:
    """Samples with their targets.

    Args:
        x: inputs, float32, shape (samples, features).
        y: class numbers from 0, int32, or the numbers to predict, float64; shape (samples,).
        classes: names of the classes in the order of their numbers; None for regression.
        name: what the user calls the data.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...] | None
    name: str

    @property
    def task(self) -> str:
        """`"classification"` or `"regression"`."""
        return "regression" if self.classes is None else "classification"

    @property
    def fingerprint(self) -> str:
        """A hash of the numbers, to know the same data again."""
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def split(self, validation: float = 0.2, seed: int = 0) -> Split:
        """Put a share of the samples aside for validation, drawn with `seed`; each class keeps its share."""
        size = math.ceil(len(self.x) * validation)
        stratify = None
        if self.classes is not None:
            stratify = self.y
            size = max(size, len(self.classes))
        x, xv, y, yv = train_test_split(self.x, self.y, test_size=size, random_state=seed, stratify=stratify)
        return Split(x, y, xv, yv)


def make_table(x: Any, y: Any, name: str, task: str = "auto") -> Table:
    """Return a Table of `x` and `y`, telling classification and regression apart by `y` unless `task` says which.

    Text, booleans and whole numbers with at most 20 different values are classes, everything else is a number to predict.

    Raises:
        BadInput: the data cannot be used.
    """
    x = np.asarray(x)
    x = x.reshape(len(x), -1)
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise BadInput(
            f"{name}: the target has shape {y.shape}, one number or name a sample is needed. Give class numbers, not one-hot rows."
        )
    if len(x) != len(y):
        raise BadInput(f"{name}: {len(x)} samples but {len(y)} targets. Give one target for each sample.")
    if len(x) < _FEWEST_SAMPLES:
        raise BadInput(f"{name}: {len(x)} samples are too few to train and validate on. Give at least {_FEWEST_SAMPLES}.")
    if not np.issubdtype(x.dtype, np.number) and x.dtype != bool:
        raise BadInput(f"{name}: the inputs are {x.dtype}, not numbers. Encode them as numbers first.")
    x = x.astype("float64")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise BadInput(
            f"{name}: NaN or infinite values in the inputs, first in sample {row + 1}, feature {column + 1}. Fill or remove those samples."
        )
    _within_range(name, "inputs", x)
    x = x.astype("float32")
    numeric = np.issubdtype(y.dtype, np.number)
    if numeric and not np.isfinite(y.astype("float64")).all():
        raise BadInput(f"{name}: NaN or infinite values in the target. Remove those samples.")
    if task == "auto":
        whole = not numeric or bool(np.all(y == np.round(y)))
        task = "classification" if whole and (not numeric or len(np.unique(y)) <= _MOST_CLASSES) else "regression"
    if task == "regression":
        if not numeric:
            raise BadInput(f"{name}: the target is text, which regression cannot predict. Leave --task out, or name another target.")
        if len(np.unique(y)) == 1:
            raise BadInput(f"{name}: every sample has the same target, {y[0]}: there is nothing to learn. Name another target.")
        _within_range(name, "target", y)
        return Table(x, y.astype("float64"), None, name)
    labels, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(labels) == 1:
        raise BadInput(f"{name}: the target has a single class, {labels[0]}: there is nothing to tell apart. Name another target.")
    if counts.min() < 2:
        rare = labels[counts.argmin()]
        raise BadInput(
            f"{name}: class {rare} has one sample; training and validation need one each. "
            "Add samples, remove the class, or use --task regression."
        )
    return Table(x, numbers.astype("int32"), tuple(str(label) for label in labels), name)


def _within_range(name: str, what: str, values: np.ndarray) -> None:
    largest = float(np.abs(values.astype("float64")).max())
    if largest > _LARGEST:
        raise BadInput(f"{name}: the {what} hold values up to {largest:.0e}, whose squares float32 cannot hold. Divide them by a constant.")


def load_digits() -> Table:
    """Return scikit-learn's bundled digits: 1,797 images of 8 x 8 pixels, values 0 to 16, ten classes.

    >>> load_digits().x.shape
    (1797, 64)
    """
    x, y = _sklearn_digits(return_X_y=True)
    return make_table(x, y, "digits")


def load_npz(path: str | Path, target: str | None = None, task: str = "auto") -> Table:
    """Return the arrays of an NPZ file: the targets named `target` (default `y`), the inputs `x`, or the only other array.

    Raises:
        BadInput: the file or its arrays cannot be used.
    """
    path = _existing(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise BadInput(
            f"{path}: not an NPZ file of plain arrays ({_line(error)}). Write it with numpy.savez(file, x=..., y=...)."
        ) from None
    target = target or "y"
    if target not in arrays:
        raise BadInput(f'{path}: no array "{target}". Name one of {_names(arrays)} with --target.')
    others = [key for key in arrays if key != target]
    inputs = "x" if "x" in others else others[0] if len(others) == 1 else None
    if inputs is None:
        raise BadInput(f'{path}: needs one array of inputs beside "{target}", found {_names(others)}. Call the inputs "x".')
    if arrays[inputs].ndim < 2:
        raise BadInput(f'{path}: the inputs "{inputs}" have shape {arrays[inputs].shape}; (samples, features) is needed.')
    return make_table(arrays[inputs], arrays[target], path.name, task)


def load_csv(path: str | Path, target: str | None = None, task: str = "auto") -> Table:
    """Return a CSV file with a header line: the column `target` (default: the last one) and all others as inputs.

    Raises:
        BadInput: the file or a column cannot be used.
    """
    path = _existing(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise BadInput(f"{path}: not a CSV text file in UTF-8 ({_line(error)}). Save it again as CSV UTF-8.") from None
    if len(rows) < 2:
        raise BadInput(f"{path}: needs a header line and samples, found {len(rows)} lines.")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    if len(header) == 1 and ";" in header[0]:
        raise BadInput(f"{path}: its values are separated by semicolons. Save it again with commas.")
    if all(_number(name) is not None for name in header):
        raise BadInput(f"{path}: the first line holds numbers, not names. Put a line with the columns' names on top.")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadInput(f'{path}: two columns are called "{twice}". Rename one.')
    target = header[-1] if target is None else target
    if target not in header:
        raise BadInput(f'{path}: no column "{target}". Name one of {_names(header)} with --target.')
    if len(header) < 2:
        raise BadInput(f"{path}: has the target alone. Add columns of inputs.")
    for line, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise BadInput(f"{path}: line {line} has {len(row)} values, the header {len(header)} names. Mend that line.")
    columns = {name: [row[i].strip() for row in body] for i, name in enumerate(header)}
    inputs = [_numbers(path, name, cells) for name, cells in columns.items() if name != target]
    return make_table(np.stack(inputs, axis=1), _target(path, target, columns[target]), path.name, task)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise BadInput(f"{path}: is a folder. Give a .npz or .csv file.")
    if not path.is_file():
        raise BadInput(f"{path}: no such file. Check the path given to --data.")
    return path


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    values = []
    for line, cell in enumerate(cells, start=2):
        value = _number(cell)
        if cell == "" or (value is not None and not math.isfinite(value)):
            raise BadInput(f'{path}: column "{name}" has no finite number in line {line} ({cell or "empty"}). Fill or remove that line.')
        if value is None:
            raise BadInput(
                f'{path}: column "{name}" holds text ("{cell[:20]}" in line {line}). Turn it into numbers, such as a 0 or 1 for each word.'
            )
        values.append(value)
    return np.asarray(values, "float64")


def _target(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """Return numbers if every cell is one, else the text."""
    if "" in cells:
        raise BadInput(f'{path}: column "{name}" is empty in line {cells.index("") + 2}. Remove that line.')
    values = [_number(cell) for cell in cells]
    return np.asarray(cells) if None in values else np.asarray(values, "float64")


def _names(names: Any) -> str:
    names = [f'"{name}"' for name in names]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "none"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:80] if str(error) else type(error).__name__
