"""Samples with their targets, checked, and their parts for training, validation and the last test."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ext._checks import BadInput, one_of
from keras_ext.tables.data.parts import Parts

# A target of whole numbers with no more different values than this is taken for classes.
_MOST_CLASSES = 20
_FEWEST_SAMPLES = 10
# Sums of squares of more samples than fit into memory stay under float32's 3e38.
_LARGEST = 1e15


# One array, or columns by their names.
Inputs = np.ndarray | dict[str, np.ndarray]


@dataclass(frozen=True)
class Split:
    """Inputs and targets for `fit`, for the scores of a search, and, if a share was put aside, for one snapshot of the end.

    With `folds`, the number of the fold of each sample of `x`, there is no other validation than each fold in turn.
    """

    x: Any
    y: np.ndarray
    x_validation: Any
    y_validation: np.ndarray
    x_test: Any = None
    y_test: np.ndarray | None = None
    folds: np.ndarray | None = None

    @property
    def trained(self) -> int:
        """The number of samples of a training, with folds of the smallest."""
        return len(self.y) - (0 if self.folds is None else int(np.bincount(self.folds).max()))


@dataclass(frozen=True)
class Table:
    """Samples with their targets.

    Args:
        x: inputs: float32 of shape (samples, ...), or columns by their names, each of numbers (float64, NaN where one is missing), text or
            dates (datetime64), shape (samples,).
        y: class numbers from 0, int32, or the numbers to predict, float64; shape (samples,).
        classes: names of the classes in the order of their numbers; None for regression.
        name: what the user calls the data.
        notes: what was done with its columns that a user is to know, a sentence each.
        day_first: names of the columns of dates in whose text the day stands before the month.
        groups: numbers of the samples' groups, shape (samples,): no part of a split has a sample of a group that another part has.
            None: each sample is on its own.

    Examples:
        >>> table = make_table(np.zeros((20, 3)), ["cat", "dog"] * 10, "animals")
        >>> table.classes, table.y[:2].tolist()
        (('cat', 'dog'), [0, 1])
    """

    x: Inputs
    y: np.ndarray
    classes: tuple[str, ...] | None
    name: str
    notes: tuple[str, ...] = ()
    day_first: tuple[str, ...] = ()
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def task(self) -> str:
        """`"classification"` or `"regression"`."""
        return "regression" if self.classes is None else "classification"

    @property
    def inputs(self) -> str:
        """How many inputs a sample has, and how many numbers are missing, in words.

        >>> Table({"age": np.ones(3), "town": np.array(["a", "b", "a"])}, np.ones(3), None, "people").inputs
        '2 inputs (1 of numbers, 1 of text)'
        >>> Table({"age": np.array([1.0, np.nan])}, np.ones(2), None, "people").inputs
        '1 input with 1 gap'
        """
        if isinstance(self.x, np.ndarray):
            shape = self.x.shape[1:]
            return f"{math.prod(shape)} inputs" + (f" ({' x '.join(map(str, shape))})" if len(shape) > 1 else "")
        kinds = [column.dtype.kind for column in self.x.values()]
        counts = [f"{kinds.count(kind)} of {word}" for kind, word in (("f", "numbers"), ("U", "text"), ("M", "dates")) if kind in kinds]
        kinds = f" ({', '.join(counts)})" if len(counts) > 1 or "M" in kinds else ""
        gaps = sum(int(np.isnat(c).sum() if c.dtype.kind == "M" else np.isnan(c).sum()) for c in self.x.values() if c.dtype.kind in "fM")
        reported = f" with {gaps} gap{'s' if gaps > 1 else ''}" if gaps else ""
        return f"{len(self.x)} input{'s' if len(self.x) > 1 else ''}{kinds}{reported}"

    @property
    def fingerprint(self) -> str:
        """A hash of all values and names, to know the same data again."""
        digest = hashlib.sha256()
        arrays = [("", self.x)] if isinstance(self.x, np.ndarray) else list(self.x.items())
        for name, array in [*arrays, ("", self.y), *([] if self.groups is None else [("", self.groups)])]:
            content = "\0".join(array).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes()
            digest.update(name.encode() + str(array.shape).encode() + content)
        return digest.hexdigest()[:16]

    def split(self, validation: float = 0.2, seed: int = 0, test: float = 0.0, folds: int | None = None) -> Split:
        """Put shares of the samples aside for validation and for a last test, drawn with `seed`; each class keeps its share.

        With `folds` the samples that are not the test's are parted into so many folds in place of a validation. Without groups the test
        then has up to `folds - 1` samples more, where these are few, so that all folds have the same size, and share programs.

        Raises:
            BadInput: a class has fewer samples than there are parts, or is missing in a training; there are fewer groups than parts; or a
                column has no number among the samples of training.
        """
        parts = Parts(self.name, self.y, self.classes, self.groups)
        parts.check_groups((folds or 2) + (test > 0))
        rest, tested = np.arange(len(self)), None
        if test:
            if self.classes is not None and np.bincount(self.y).min() < 3:
                rare = self.classes[np.bincount(self.y).argmin()]
                raise BadInput(
                    f"{self.name}: class {rare} has two samples; training, validation and test need one each. "
                    "Add samples, or leave the test out with --test 0."
                )
            rest, tested = parts.apart(rest, test, seed, folds or 1)
        if folds:
            trained, validated, numbers = rest, rest[:0], parts.folds(rest, folds, seed)
        else:
            # The share of all samples, whatever the test took.
            (trained, validated), numbers = parts.apart(rest, validation / (1 - test), seed), None
            parts.check_classes(np.arange(len(self)), [trained])
        x_test, y_test = (None, None) if tested is None else (self._taken(tested), self.y[tested])
        x = self._taken(trained)
        if isinstance(x, dict):
            _refuse_empty(self.name, x, " among the samples of training")
        return Split(x, self.y[trained], self._taken(validated), self.y[validated], x_test, y_test, numbers)

    def _taken(self, samples: np.ndarray) -> Inputs:
        x = self.x
        return x[samples] if isinstance(x, np.ndarray) else {name: column[samples] for name, column in x.items()}


def joined(first: Inputs, second: Inputs) -> Inputs:
    """Return the samples of both, one after the other."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: np.concatenate([column, second[name]]) for name, column in first.items()}
    return np.concatenate([np.asarray(first), np.asarray(second)])


def make_table(
    x: Any, y: Any, name: str, task: str = "auto", notes: Sequence[str] = (), day_first: Sequence[str] = (), groups: Any = None
) -> Table:
    """Return a Table of `x` and `y`, telling classification and regression apart by `y` unless `task` says which.

    Text, booleans and whole numbers with at most 20 different values are classes, everything else is a number to predict.

    Args:
        x: inputs of shape (samples, ...), or a dict of columns of numbers, NaN where one is missing, text and dates.
        y: targets, shape (samples,).
        name: what the user calls the data.
        task: `"classification"`, `"regression"` or `"auto"`.
        notes: what was done with the columns, see `Table`.
        day_first: names of columns of dates, see `Table`.
        groups: names or numbers of the samples' groups, shape (samples,): the samples of a group stay together in every split.

    Raises:
        BadInput: the data cannot be used.
    """
    one_of("task", task, ("auto", "classification", "regression"))
    x = {column: _array(name, "inputs", values) for column, values in x.items()} if isinstance(x, Mapping) else _array(name, "inputs", x)
    y = _array(name, "targets", y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise BadInput(
            f"{name}: the target has shape {y.shape}, one number or name a sample is needed. Give class numbers, not one-hot rows."
        )
    for values in x.values() if isinstance(x, dict) else (x,):
        if len(values) != len(y):
            raise BadInput(f"{name}: {len(values)} samples but {len(y)} targets. Give one target for each sample.")
    groups = None if groups is None else _numbers_of_groups(name, groups, len(y))
    if not x if isinstance(x, dict) else 0 in x.shape[1:]:
        raise BadInput(f"{name}: the samples have no inputs. Give at least one.")
    if len(y) < _FEWEST_SAMPLES:
        raise BadInput(f"{name}: {len(y)} samples are too few to train and validate on. Give at least {_FEWEST_SAMPLES}.")
    if isinstance(x, dict):
        x = {
            column: values if values.dtype.kind in "UM" else _finite(name, values, True, f"column {column!r}")
            for column, values in x.items()
        }
        _refuse_empty(name, x)
    else:
        x = _finite(name, x).astype("float32")
        x = x[:, None] if x.ndim == 1 else x
    if y.dtype.kind == "c":
        raise BadInput(f"{name}: the targets are {y.dtype}, real numbers or names are needed. Give their real part, or their size.")
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
        return Table(x, y.astype("float64"), None, name, tuple(notes), tuple(day_first), groups)
    try:
        labels, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    except TypeError:
        raise BadInput(f"{name}: the target mixes text, numbers and gaps. Make text of all of it, or numbers, and fill the gaps.") from None
    if len(labels) == 1:
        raise BadInput(
            f"{name}: the target has a single class, {_class_name(labels[0])}: there is nothing to tell apart. Name another target."
        )
    if counts.min() < 2:
        rare = _class_name(labels[counts.argmin()])
        instead = ", remove the class, or use --task regression" if numeric else " or remove the class"
        raise BadInput(f"{name}: class {rare} has one sample; training and validation need one each. Add samples{instead}.")
    return Table(x, numbers.astype("int32"), tuple(map(_class_name, labels)), name, tuple(notes), tuple(day_first), groups)


def _array(name: str, what: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        raise BadInput(f"{name}: the {what} are no array. Give each sample as many numbers as the others.") from None
    if array.ndim == 0:
        raise BadInput(f"{name}: the {what} are {type(values).__name__}, an array is needed. Give a row for each sample.")
    return array


def _numbers_of_groups(name: str, groups: Any, samples: int) -> np.ndarray:
    groups = _array(name, "groups", groups)
    if groups.shape != (samples,):
        raise BadInput(f"{name}: the groups have shape {groups.shape}, one name or number a sample is needed: ({samples},).")
    try:
        return np.unique(groups, return_inverse=True)[1].astype("int32")
    except TypeError:
        raise BadInput(f"{name}: the groups mix text, numbers and gaps. Make text of all of them, and fill the gaps.") from None


def _class_name(label: Any) -> str:
    """Return a class's name: 4 for 4.0, as a CSV file knows no whole numbers."""
    return str(int(label)) if isinstance(label, float | np.floating) and float(label).is_integer() else str(label)


def _refuse_empty(name: str, columns: Mapping[str, np.ndarray], where: str = "") -> None:
    for column, values in columns.items():
        if values.dtype.kind == "f" and np.isnan(values).all():
            raise BadInput(f'{name}: column "{column}" has no number{where}. Remove the column.')
        if values.dtype.kind == "M" and np.isnat(values).all():
            raise BadInput(f'{name}: column "{column}" has no date{where}. Remove the column.')


def _finite(name: str, x: np.ndarray, gaps: bool = False, place: str = "") -> np.ndarray:
    """Return numbers as float64 if all of them can be trained on, with `gaps` also where some are missing; they stand at that `place`."""
    if x.dtype.kind not in "biuf":
        raise BadInput(f"{name}: the inputs are {x.dtype}, not numbers. Encode them as numbers first.")
    x = x.astype("float64", copy=False)
    flat = x.reshape(len(x), -1)
    bad = np.argwhere(np.isinf(flat) if gaps else ~np.isfinite(flat))
    if len(bad):
        row, column = bad[0]
        raise BadInput(
            f"{name}: {'I' if gaps else 'NaN or i'}nfinite values in the inputs, first in sample {row + 1}, "
            f"{place or f'feature {column + 1}'}. Fill or remove those samples."
        )
    _within_range(name, "inputs", x)
    return x


def _within_range(name: str, what: str, values: np.ndarray) -> None:
    largest = float(np.nanmax(np.abs(values.astype("float64")), initial=0.0))
    if largest > _LARGEST:
        raise BadInput(f"{name}: the {what} hold values up to {largest:.0e}, whose squares float32 cannot hold. Divide them by a constant.")
