"""A table's columns of numbers and categories as features, with all that it takes in the model's file."""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._checks import bad_argument, is_number

# Every whole number up to here has a value of its own in these dtypes.
_EXACT_UP_TO = {"float16": 2048, "bfloat16": 256}


@dataclasses.dataclass(frozen=True)
class Number:
    """A column of numbers: what is subtracted from them, and the square of what they are divided by."""

    name: str
    mean: float
    variance: float


@dataclasses.dataclass(frozen=True)
class Category:
    """A column of categories: its distinct values; a value's place is its code."""

    name: str
    vocabulary: tuple[str, ...]


@keras.saving.register_keras_serializable(package="keras_ext")
class TableFeatures(keras.layers.Layer):
    """Turn a table's columns into features: numbers with mean 0 and variance 1, categories one-hot.

    `adapt` learns from a table what each column holds, `encode` turns a table into an array of numbers, and the layer, which stands first
    in a model, turns that array into features: `model.predict(layer.encode(table))`. What was learnt is saved in the model's file.

    - Text is encoded outside of the model, because JAX and PyTorch have no tensors of strings.
    - Numbers are normalized in `encode`, in float64: a year or a time stamp, far from zero and close together, would lose its digits in
      float32. `call` takes what `encode` returns, not the table's own numbers, and passes the numbers as they are.
    - Inputs are not cast to half precision, which has too few whole numbers for the codes of categories. Subclassed models cast their
      input before any layer has it: with a half-precision policy give them `autocast=False`.

    The layer has no weights.

    Args:
        columns: what `adapt` would learn, in order: for numbers `{"name": ..., "mean": ..., "variance": ...}`, for categories
            `{"name": ..., "vocabulary": [...]}`. None: not known yet.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Input shape:
        (batch, columns): what `encode` returns.

    Output shape:
        (batch, units), in the order of the columns: one feature for numbers, as many as the vocabulary has values for categories; all of
        them are 0 for a value that the vocabulary lacks.

    Raises:
        ValueError: `columns` is not such a list, or has a name twice; the layer is called before `adapt`, or with another number of
            columns.

    Example:
        >>> table = {"age": [20.0, 40.0], "city": ["Rome", "Oslo"]}
        >>> layer = TableFeatures()
        >>> layer.adapt(table)
        >>> layer.columns
        (Number(name='age', mean=30.0, variance=100.0), Category(name='city', vocabulary=('Oslo', 'Rome')))
        >>> x = layer.encode({"city": ["Rome", "Bonn"], "age": [30, 45]})
        >>> x.tolist()
        [[0.0, 1.0], [1.5, -1.0]]
        >>> ops.convert_to_numpy(layer(x)).tolist()
        [[0.0, 0.0, 1.0], [1.5, 0.0, 0.0]]
    """

    def __init__(self, columns: Any = None, **kwargs: Any) -> None:
        super().__init__(**{"trainable": False, **kwargs}, autocast=False)
        self._columns = () if columns is None else _checked_columns(columns)

    @property
    def columns(self) -> tuple[Number | Category, ...]:
        """What each column holds; empty before `adapt`."""
        return self._columns

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self._columns)

    @property
    def units(self) -> int:
        """The number of features."""
        return sum(_widths(self._columns))

    def adapt(self, table: Any) -> None:
        """Learn from `table` each column's mean and variance, or its vocabulary; what was learnt before is forgotten.

        Mean and variance (of the population) are taken in float64; a variance of 0 counts as 1. A vocabulary is sorted.

        Args:
            table: dict from the columns' names to their values, all of one length: numbers (bool too) or text.

        Raises:
            ValueError: `table` is not such a dict, is empty, or has a value that is neither text nor a finite number; or the layer was
                called before, and the new columns do not fit.
        """
        table = _checked_table(table)
        if not table:
            raise bad_argument("table", "a dict with at least one column", table, "Name each column, and give its values.")
        values = {}
        for name, column in table.items():
            if not isinstance(name, str) or not name:
                raise bad_argument("table", "a dict whose names are text that is not empty", name, "Name each column.")
            values[name] = _read(name, column)
        if _rows(values) == 0:
            raise bad_argument("table", "a dict of columns with at least one row", table, "Give the rows to learn from.")
        learnt = tuple(_learnt(name, column) for name, column in values.items())
        if self.built and len(learnt) != len(self._columns):
            raise bad_argument(
                "table",
                f"a dict of {len(self._columns)} columns, for which the layer was built",
                list(table),
                "Make a new layer, and a new model with it.",
            )
        if self.built and _widths(learnt) != _widths(self._columns):
            raise bad_argument(
                "table",
                f"a dict of columns that give {_sizes(self._columns)} features, for which the layer was built",
                _sizes(learnt),
                "Make a new layer, and a new model with it.",
            )
        self._columns = learnt

    def encode(self, table: Any) -> np.ndarray:
        """Return the numbers that the layer takes for the rows of `table`.

        Numbers are normalized with the mean and the variance that were learnt; a category is its place in the vocabulary, or -1.

        Args:
            table: dict from the columns' names to their values, all of one length, in any order. Other columns are ignored. Numbers in a
                column of categories are taken as the text that `str` makes of them.

        Returns:
            float32 array of shape (rows, columns).

        Raises:
            ValueError: `table` lacks a column; a column of numbers has a value that is not a finite number; a column of categories has a
                value that is missing, or neither text nor a number; or nothing was learnt yet.
        """
        self._check_learnt("columns are encoded")
        table = _checked_table(table)
        missing = [name for name in self.names if name not in table]
        if missing:
            raise bad_argument(
                "table", "a dict with all columns that were learnt", list(table), f"Add {', '.join(repr(name) for name in missing)}."
            )
        values = {name: _read(name, table[name]) for name in self.names}
        encoded = np.empty((_rows(values), len(values)), "float32")
        for i, column in enumerate(self._columns):
            found = values[column.name]
            encoded[:, i] = _normalized(column, found) if isinstance(column, Number) else _codes(column, found)
        return encoded

    def build(self, input_shape: Any) -> None:
        """Check that `input_shape` is that of what `encode` returns."""
        self.compute_output_shape(input_shape)
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: len(self._columns)})
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the features of what `encode` returned."""
        widths = _widths(self._columns)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        for column in self._columns:
            if isinstance(column, Category) and len(column.vocabulary) - 1 > _EXACT_UP_TO.get(dtype, math.inf):
                raise bad_argument(
                    "inputs",
                    f"float32 for the {len(column.vocabulary)} categories of column {column.name!r}",
                    dtype,
                    "A subclassed model with a half-precision policy casts its input: give it autocast=False.",
                )
        if all(isinstance(column, Number) for column in self._columns):
            return ops.cast(inputs, self.compute_dtype)
        # Two operations, however many the columns: each feature's column, compared with each feature's code.
        source = np.repeat(np.arange(len(widths), dtype="int32"), widths)
        code = np.concatenate([np.arange(width, dtype="float32") for width in widths])
        passes = np.repeat([isinstance(column, Number) for column in self._columns], widths)
        values = ops.take(inputs, source, axis=1)
        one_hot = ops.cast(ops.equal(values, code), self.compute_dtype)
        if not passes.any():
            return one_hot
        return ops.where(passes, ops.cast(values, self.compute_dtype), one_hot)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (batch, units)."""
        self._check_learnt("the layer is called")
        if len(input_shape) != 2 or input_shape[-1] != len(self._columns):
            raise bad_argument(
                "inputs",
                f"of shape (batch, {len(self._columns)}), with one column for each that was learnt",
                tuple(input_shape),
                "Call the layer with what `encode` returns.",
            )
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, `columns` as learnt."""
        return {**super().get_config(), "columns": [_described(column) for column in self._columns] or None}

    def _check_learnt(self, before: str) -> None:
        if not self._columns:
            raise bad_argument("columns", f"known before {before}", None, "Call `adapt(table)` first.")


def _widths(columns: Iterable[Number | Category]) -> list[int]:
    return [1 if isinstance(column, Number) else len(column.vocabulary) for column in columns]


def _sizes(columns: Iterable[Number | Category]) -> str:
    return " + ".join(map(str, _widths(columns)))


def _described(column: Number | Category) -> dict[str, Any]:
    if isinstance(column, Number):
        return {"name": column.name, "mean": column.mean, "variance": column.variance}
    return {"name": column.name, "vocabulary": list(column.vocabulary)}


def _checked_columns(columns: Any) -> tuple[Number | Category, ...]:
    if isinstance(columns, (str, Mapping)) or not isinstance(columns, Iterable):
        raise bad_argument("columns", "a list of descriptions, or None", columns, "Take `columns` from a layer's config.")
    checked = tuple(_checked_column(f"columns[{i}]", column) for i, column in enumerate(columns))
    if not checked:
        raise bad_argument("columns", "a list with at least one description, or None", columns, "Leave it out and call `adapt`.")
    names = [column.name for column in checked]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise bad_argument("columns", "a list with each name once", names, f"Rename one of {name!r}.")
    return checked


def _checked_column(where: str, column: Any) -> Number | Category:
    given = _described(column) if isinstance(column, (Number, Category)) else column
    if not isinstance(given, Mapping) or set(given) not in ({"name", "mean", "variance"}, {"name", "vocabulary"}):
        rule = "a dict with 'name', 'mean' and 'variance', or with 'name' and 'vocabulary'"
        raise bad_argument(where, rule, column, "Take it from a layer's config.")
    name = given["name"]
    if not isinstance(name, str) or not name:
        raise bad_argument(f"{where}['name']", "text that is not empty", name, "Name the column.")
    if "vocabulary" in given:
        return Category(str(name), _checked_vocabulary(f"{where}['vocabulary']", given["vocabulary"]))
    mean, variance = given["mean"], given["variance"]
    if not is_number(mean) or not math.isfinite(mean):
        raise bad_argument(f"{where}['mean']", "a finite number", mean, "Take it from the column's values.")
    if not is_number(variance) or not 0 < variance < math.inf:
        raise bad_argument(f"{where}['variance']", "a finite number above 0", variance, "Numbers that are all the same have 1.")
    return Number(str(name), float(mean), float(variance))


def _checked_vocabulary(where: str, vocabulary: Any) -> tuple[str, ...]:
    if isinstance(vocabulary, (str, Mapping)) or not isinstance(vocabulary, Iterable):
        raise bad_argument(where, "a list of text", vocabulary, "List the column's distinct values.")
    words = tuple(vocabulary)
    if not words or not all(isinstance(word, str) for word in words):
        raise bad_argument(where, "a list of text, and not empty", vocabulary, "List the column's distinct values as text.")
    if len(set(words)) < len(words):
        raise bad_argument(where, "a list with each value once", vocabulary, "Leave out what is there twice.")
    return tuple(str(word) for word in words)


def _checked_table(table: Any) -> dict[Any, Any]:
    # A data frame is no Mapping, and has what is needed of one.
    if not hasattr(table, "keys") or not hasattr(table, "__getitem__"):
        raise bad_argument("table", "a dict from names to columns", table, 'Write {"name": values, ...}.')
    return {name: table[name] for name in table.keys()}  # noqa: SIM118


def _read(name: str, column: Any) -> np.ndarray:
    """Return the values of a column as an array: of numbers, or of objects that are yet to be looked at."""
    if isinstance(column, (list, tuple, range)):
        # Not by np.asarray: it makes text of the numbers between texts.
        values = np.empty(len(column), object)
        for i, value in enumerate(column):
            values[i] = value
    elif isinstance(column, (str, bytes, Mapping)) or (values := np.asarray(column)).ndim != 1:
        raise bad_argument(_where(name), "a sequence of numbers or text, with one axis", column, "Give one value for each row.")
    return values if values.dtype.kind in "biuf" else values.astype(object)


def _rows(values: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise bad_argument("table", "a dict of columns of one length", lengths, "Give each column one value for each row.")
    return next(iter(lengths.values()))


def _learnt(name: str, values: np.ndarray) -> Number | Category:
    if values.dtype == object and any(issubclass(kind, str) for kind in set(map(type, values))):
        for i in _unlike(values, str):
            raise bad_argument(
                _where(name, i), "text, as others in the column", values[i], "Fill gaps; make text of all values or of none."
            )
        return Category(name, tuple(sorted({str(value) for value in values})))
    numbers_ = _numbers(name, values)
    # From the first value on: exact for numbers that are all the same, and for whole numbers far from zero.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = numbers_[0] + np.mean(numbers_ - numbers_[0])
        variance = np.mean(np.square(numbers_ - mean))
    if not np.isfinite(variance):
        raise bad_argument(_where(name), "of a variance that float64 can hold", float(variance), "Scale the numbers down.")
    return Number(name, float(mean), float(variance) or 1.0)


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    """Return `values` as float64, all finite."""
    for i in _unlike(values, (numbers.Real, np.bool_)):
        raise bad_argument(_where(name, i), "a number", values[i], "Fill gaps, and make numbers of all values or of none.")
    try:
        found = values.astype("float64")
    except OverflowError:
        raise bad_argument(_where(name), "of numbers that float64 can hold", list(values), "Scale the numbers down.") from None
    for i in np.flatnonzero(~np.isfinite(found))[:1]:
        raise bad_argument(_where(name, i), "a finite number", float(found[i]), "Fill the gap, or leave out the row.")
    return found


def _normalized(column: Number, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        normalized = ((_numbers(column.name, values) - column.mean) / math.sqrt(column.variance)).astype("float32")
    for i in np.flatnonzero(~np.isfinite(normalized))[:1]:
        rule = f"a number that float32 can hold after - {column.mean!r}, / {math.sqrt(column.variance)!r}"
        raise bad_argument(_where(column.name, i), rule, float(values[i]), "Leave out the row, or learn from a table that has such rows.")
    return normalized


def _codes(column: Category, values: np.ndarray) -> list[int]:
    for i in _unlike(values, (str, numbers.Real, np.bool_)):
        raise bad_argument(_where(column.name, i), "text or a number", values[i], 'Fill gaps with text, such as "".')
    code = {word: i for i, word in enumerate(column.vocabulary)}
    for i in [i for i, value in enumerate(values) if value != value][:1]:
        raise bad_argument(_where(column.name, i), "text or a number", math.nan, 'Fill gaps with text, such as "".')
    return [code.get(str(value), -1) for value in values]


def _unlike(values: np.ndarray, kinds: Any) -> Iterable[int]:
    """Return the place of the first value that is of none of the `kinds`, if there is one."""
    if values.dtype != object:
        return ()
    # By type first: there are few, and many values.
    wrong = {kind for kind in set(map(type, values)) if not issubclass(kind, kinds)}
    return [next(i for i, value in enumerate(values) if type(value) in wrong)] if wrong else ()


def _where(name: str, row: Any = None) -> str:
    return f"table[{name!r}]" + ("" if row is None else f"[{row}]")
