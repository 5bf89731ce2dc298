"""A table's columns of numbers and categories as features, with all that it takes in the model's file."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._checks import bad_argument, items
from keras_ext.layers._arguments import base_arguments
from keras_ext.tables import _columns
from keras_ext.tables._columns import Category, Number

# Every whole number up to here has a value of its own in these dtypes.
_EXACT_UP_TO = {"float16": 2048, "bfloat16": 256}


@keras.saving.register_keras_serializable(package="keras_ext")
class TableFeatures(keras.layers.Layer):
    """Turn a table's columns into features: numbers with mean 0 and variance 1, categories one-hot.

    `adapt` learns from a table what each column holds, `encode` turns a table into an array of numbers, and the layer, which stands first
    in a model, turns that array into features: `model.predict(layer.encode(table))`. What was learnt is saved in the model's file.

    - Text is encoded outside of the model, because JAX and PyTorch have no tensors of strings.
    - Numbers are normalized in `encode`, in float64: a year or a time stamp, far from zero and close together, would lose its digits in
      float32. `call` takes what `encode` returns, not the table's own numbers, and passes the numbers as they are.
    - A number that is missing counts as the mean. A column that had gaps when it was adapted gives one more feature, 1 where the number is
      missing and 0 elsewhere, because that it is missing may tell something; `encode` returns NaN there. In other columns `encode` puts the
      mean in the place of a gap.
    - Dates give the parts in which they differ: year and days since 1970 as numbers, month and weekday as categories, and the hour where
      they have times of day. Each part is a column of what `encode` returns.
    - Inputs are not cast to half precision, which has too few whole numbers for the codes of categories. Subclassed models cast their
      input before any layer has it: with a half-precision policy give them `autocast=False`.

    The layer has no weights.

    Args:
        columns: what `adapt` would learn, in order: for numbers `{"name": ..., "mean": ..., "variance": ...}`, for categories
            `{"name": ..., "vocabulary": [...]}`; with `"gaps": True` a column of numbers had gaps, and `"date"` says which part of which
            dates a column is. None: not known yet.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Input shape:
        (batch, columns): what `encode` returns.

    Output shape:
        (batch, units), in the order of the columns: one feature for numbers, two where there were gaps, as many as the vocabulary has
        values for categories; all of these are 0 for a value that the vocabulary lacks.

    Raises:
        ValueError: `columns` is not such a list, or has a name twice; the layer is called before `adapt`, or with another number of
            columns.

    Examples:
        >>> table = {"age": [20.0, 40.0], "city": ["Rome", "Oslo"]}
        >>> layer = TableFeatures()
        >>> layer.adapt(table)
        >>> layer.columns
        (Number(name='age', mean=30.0, variance=100.0, gaps=False), Category(name='city', vocabulary=('Oslo', 'Rome')))
        >>> x = layer.encode({"city": ["Rome", "Bonn"], "age": [30, 45]})
        >>> x.tolist()
        [[0.0, 1.0], [1.5, -1.0]]
        >>> ops.convert_to_numpy(layer(x)).tolist()
        [[0.0, 0.0, 1.0], [1.5, 0.0, 0.0]]
        >>> layer = TableFeatures()
        >>> layer.adapt({"age": [20.0, None, 40.0]})
        >>> ops.convert_to_numpy(layer(layer.encode({"age": [40, None]}))).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, columns: Any = None, **kwargs: Any) -> None:
        super().__init__(**{"trainable": False, **base_arguments(kwargs)}, autocast=False)
        self._columns = () if columns is None else _columns.checked_columns(columns)

    @property
    def columns(self) -> tuple[Number | Category, ...]:
        """The content of each column; empty before `adapt`."""
        return self._columns

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self._columns)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the columns that a table must have, in order: parts of dates have the column of the dates."""
        return tuple(dict.fromkeys(map(_columns.source, self._columns)))

    @property
    def units(self) -> int:
        """The number of features."""
        return sum(_columns.widths(self._columns))

    def adapt(self, table: Any, day_first: Sequence[str] = ()) -> None:
        """Learn from `table` each column's mean and variance, or its vocabulary; what was learnt before is forgotten.

        Mean and variance (of the population) are taken in float64, of the numbers that are there; a variance of 0 counts as 1. A vocabulary
        is sorted.

        Args:
            table: dict from the columns' names to their values, all of one length: numbers (bool too), NaN or None where one is missing;
                or text, without gaps; or dates, as datetime64.
            day_first: names of the columns of dates in whose text, which `encode` may get, the day stands before the month.

        Raises:
            ValueError: `table` is not such a dict, is empty, or has a value that is neither text nor a finite number nor missing, or a
                column without any value; or the layer was called before, and the new columns do not fit.
        """
        table = _columns.checked_table(table)
        if not table:
            raise bad_argument("table", "a dict with at least one column", table, "Name each column, and give its values.")
        if items(day_first) is None:
            raise bad_argument("day_first", "a list of names of columns", day_first, error=TypeError)
        values = {}
        for name, column in table.items():
            if not isinstance(name, str) or not name:
                raise bad_argument("table", "a dict whose names are text that is not empty", name, "Name each column.")
            values[name] = _columns.read(name, column)
        if _columns.rows(values) == 0:
            raise bad_argument("table", "a dict of columns with at least one row", table, "Give the rows to learn from.")
        learnt = tuple(found for name, column in values.items() for found in _columns.learnt(name, column, name in day_first))
        if self.built and len(learnt) != len(self._columns):
            raise bad_argument(
                "table",
                f"a dict of {len(self._columns)} columns, for which the layer was built",
                list(table),
                "Make a new layer, and a new model with it.",
            )
        if self.built and _columns.widths(learnt) != _columns.widths(self._columns):
            raise bad_argument(
                "table",
                f"a dict of columns that give {_columns.sizes(self._columns)} features, for which the layer was built",
                _columns.sizes(learnt),
                "Make a new layer, and a new model with it.",
            )
        self._columns = learnt

    def encode(self, table: Any) -> np.ndarray:
        """Return the numbers that the layer takes for the rows of `table`.

        Numbers are normalized with the mean and the variance that were learnt; a category is its place in the vocabulary, or -1. A number
        that is missing is NaN in a column that had gaps in `adapt`, and 0, the mean, in another.

        Args:
            table: dict from the columns' names to their values, all of one length, in any order. Other columns are ignored. Numbers in a
                column of categories are taken as the text that `str` makes of them. Text in a column of numbers or dates is taken as the
                number or date that it is, so that rows of a CSV file can be given as they are. NaN, None, empty text, NA, N/A and null are
                missing numbers or dates.

        Returns:
            float32 array of shape (rows, columns).

        Raises:
            ValueError: `table` lacks a column; a column of numbers has a value that is neither a finite number nor missing; a column of
                categories has a value that is missing, or neither text nor a number; or nothing was learnt yet.
        """
        self._check_learnt("columns are encoded")
        table = _columns.checked_table(table)
        missing = [name for name in self.sources if name not in table]
        if missing:
            raise bad_argument(
                "table", "a dict with all columns that were learnt", list(table), f"Add {', '.join(repr(name) for name in missing)}."
            )
        values = {name: _columns.read(name, table[name]) for name in self.sources}
        encoded = np.empty((_columns.rows(values), len(self._columns)), "float32")
        for i, column in enumerate(self._columns):
            found = _columns.of_part(column, values[_columns.source(column)])
            encoded[:, i] = _columns.normalized(column, found) if isinstance(column, Number) else _columns.codes(column, found)
        return encoded

    def build(self, input_shape: Any) -> None:
        """Check that `input_shape` is that of what `encode` returns."""
        self.compute_output_shape(input_shape)
        self.input_spec = keras.InputSpec(ndim=2, axes={-1: len(self._columns)})
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the features of what `encode` returned."""
        widths = _columns.widths(self._columns)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        for column in self._columns:
            if isinstance(column, Category) and len(column.vocabulary) - 1 > _EXACT_UP_TO.get(dtype, math.inf):
                raise bad_argument(
                    "inputs",
                    f"float32 for the {len(column.vocabulary)} categories of column {column.name!r}",
                    dtype,
                    "A subclassed model with a half-precision policy casts its input: give it autocast=False.",
                )
        if all(isinstance(column, Number) and not column.gaps for column in self._columns):
            return ops.cast(inputs, self.compute_dtype)
        # Two operations, however many the columns: each feature's column, compared with each feature's code.
        source = np.repeat(np.arange(len(widths), dtype="int32"), widths)
        code = np.concatenate([np.arange(width, dtype="float32") for width in widths])
        # The second feature of a column of numbers marks its gaps.
        passes = np.repeat([isinstance(column, Number) for column in self._columns], widths) & (code == 0)
        has_gaps = np.repeat([isinstance(column, Number) and column.gaps for column in self._columns], widths)
        # By rows: what Keras takes of columns, PyTorch cannot export to ONNX.
        values = ops.transpose(ops.take(ops.transpose(inputs), source, axis=0))
        is_one = ops.equal(values, code)
        if has_gaps.any():
            is_gap = ops.logical_and(ops.isnan(values), has_gaps)
            is_one = ops.where(has_gaps, is_gap, is_one)
            values = ops.where(is_gap, ops.zeros_like(values), values)
        one_hot = ops.cast(is_one, self.compute_dtype)
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
        return {**super().get_config(), "columns": [_columns.described(column) for column in self._columns] or None}

    def _check_learnt(self, before: str) -> None:
        if not self._columns:
            raise bad_argument("columns", f"known before {before}", None, "Call `adapt(table)` first.")
