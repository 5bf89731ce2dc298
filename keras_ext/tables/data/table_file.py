"""Inputs and target of a file of columns."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_ext._checks import BadInput
from keras_ext._wording import sentence
from keras_ext.tables._columns import Category
from keras_ext.tables.data.columns import category_names, input_of, numbers, target_of
from keras_ext.tables.data.files import listed
from keras_ext.tables.data.read_dataframe import read_frame
from keras_ext.tables.data.table import Table, make_table

_Reader = Callable[[], np.ndarray]
# The message names so many columns that cannot be used.
_MOST_NAMED = 5


def load_csv(
    path: str | Path, target: str | None = None, task: str = "auto", categories: Sequence[str] = (), features: Any = None
) -> Table:
    """Return a table of a file: the column `target` (default: the last one), and all others as inputs by their names.

    The file is CSV with a header line, its columns separated by commas, semicolons, tabs or bars; or Parquet; or the first sheet of Excel.
    A column of numbers is one input, a column of text names categories; an empty cell among them is a category too. A number that is
    missing (an empty cell, NA, N/A, NaN or null) is NaN.

    Args:
        path: the file, `.parquet` or `.xlsx`; all others are CSV. Endings such as `.csv.gz` are of compressed ones.
        target: name of the column to predict.
        task: `"classification"`, `"regression"`, or `"auto"`: the target decides.
        categories: columns of numbers that name categories all the same, such as postal codes.
        features: a `tables.TableFeatures`: the inputs are the columns that it was adapted to, whatever others there are.

    Raises:
        BadInput: the file or columns cannot be used.
    """
    frame = read_frame(path)
    path, names = Path(path), list(frame)
    if len(names) < 2:
        raise BadInput(f"{path}: has the target alone. Add columns of inputs.")
    target = names[-1] if target is None else target
    for name, option in ((target, "--target"), *((name, "--categories") for name in categories)):
        if name not in names:
            raise BadInput(f'{path}: no column "{name}". Name one of {listed(names)} with {option}.')
    if target in categories:
        raise BadInput(f'{path}: column "{target}" is the target, not an input. Leave it out of --categories.')
    if features is not None:
        readers = _known_columns(path, frame, features)
    else:
        readers = {name: partial(input_of, frame[name], name in categories) for name in names if name != target}
    # The target may be among the columns of a model.
    *inputs, y = _each(path, [*readers.values(), partial(target_of, frame[target])])
    return make_table(dict(zip(readers, inputs, strict=True)), y, path.name, task)


def columns_for(path: str | Path, features: Any) -> pd.DataFrame:
    """Return the columns of a file that a `tables.TableFeatures` was adapted to, as its `encode` takes them.

    A number that is missing is NaN. The index has the number of each sample's line.

    Raises:
        BadInput: a column is missing, or holds text where there were numbers.
    """
    frame = read_frame(path)
    readers = _known_columns(path, frame, features)
    return pd.DataFrame(dict(zip(readers, _each(path, readers.values()), strict=True)), frame.index)


def matrix_of(path: str | Path, without: str | None = None) -> np.ndarray:
    """Return all columns of a file of numbers but the one called `without`, float32, shape (lines, columns).

    Raises:
        BadInput: a column holds something else or has gaps, or there is none.
    """
    columns = _each(path, [partial(numbers, cells, gaps=False) for name, cells in read_frame(path).items() if name != without])
    if not columns:
        raise BadInput(f"{path}: has the target alone. Add columns of inputs.")
    return np.stack(columns, axis=1).astype("float32")


def _known_columns(path: str | Path, frame: pd.DataFrame, features: Any) -> dict[str, _Reader]:
    missing = [column.name for column in features.columns if column.name not in frame]
    if missing:
        raise BadInput(f"{path}: has no column {listed(missing)}, which the model was trained on; found {listed(frame)}. Add it.")
    return {c.name: partial(category_names if isinstance(c, Category) else numbers, frame[c.name]) for c in features.columns}


def _each(path: str | Path, readers: Iterable[_Reader]) -> list[np.ndarray]:
    """Return what each reader of a column returns; one message says what is wrong with several columns."""
    found, wrong = [], []
    for read in readers:
        try:
            found.append(read())
        except BadInput as error:
            wrong.append(str(error))
    if wrong:
        more = f" And {len(wrong) - _MOST_NAMED} more columns." if len(wrong) > _MOST_NAMED else ""
        raise BadInput(f"{path}: {' '.join([wrong[0], *map(sentence, wrong[1:_MOST_NAMED])])}{more}")
    return found
