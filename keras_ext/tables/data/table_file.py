"""Inputs and target of a file of columns."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_ext._checks import BadInput
from keras_ext._wording import sentence
from keras_ext.tables._columns import Category, source
from keras_ext.tables.data.columns import LeftOut, category_names, dates, day_first, group_of, input_of, numbers, target_of
from keras_ext.tables.data.files import listed
from keras_ext.tables.data.read_dataframe import frame_of, read_frame
from keras_ext.tables.data.table import Table, make_table

_Reader = Callable[[], np.ndarray]
# The message names so many columns that cannot be used.
_MOST_NAMED = 5


def load_csv(
    path: str | Path,
    target: str | None = None,
    task: str = "auto",
    categories: Sequence[str] = (),
    features: Any = None,
    columns: Sequence[str] = (),
    group: str | None = None,
) -> Table:
    """Return a table of a file: the column `target` (default: the last one), and all others as inputs by their names.

    The file is CSV with a header line, its columns separated by commas, semicolons, tabs or bars; or Parquet; or the first sheet of Excel.
    A column of numbers is one input, a column of text names categories; an empty cell among them is a category too. A number that is
    missing (an empty cell, NA, N/A, NaN or null) is NaN. Dates become datetime64. Columns of names, free text and IDs are left out, and
    the table's `notes` name them.

    Args:
        path: the file, `.parquet` or `.xlsx`; all others are CSV. Endings such as `.csv.gz` are of compressed ones.
        target: name of the column to predict.
        task: `"classification"`, `"regression"`, or `"auto"`: the target decides.
        categories: columns of numbers that name categories all the same, such as postal codes.
        features: a `tables.TableFeatures`: the inputs are the columns that it was adapted to, whatever others there are.
        columns: the columns that are inputs, also if they hold names or an ID. Empty: all that say something of new samples.
        group: name of a column, such as that of a patient; the lines of one value stay together in every split. It is no input.

    Raises:
        BadInput: the file or columns cannot be used.
    """
    if features is None:
        kept = partial(_kept, target, [*categories, *([] if group is None else [group])])
    else:
        kept = partial(_kept, target, [column.name for column in features.columns if isinstance(column, Category)])
    return _table_of(read_frame(path, kept), str(path), Path(path).name, target, task, categories, features, columns, group)


def load_frame(
    frame: pd.DataFrame,
    target: str | None = None,
    task: str = "auto",
    categories: Sequence[str] = (),
    columns: Sequence[str] = (),
    name: str = "table",
    group: str | None = None,
) -> Table:
    """Return a table of a pandas data frame, read as `load_csv` reads a file.

    Args:
        frame: a row for each sample. An index that has a name is a column too.
        target: name of the column to predict; None: the last one.
        task: `"classification"`, `"regression"`, or `"auto"`: the target decides.
        categories: columns of numbers that name categories all the same, such as postal codes.
        columns: the columns that are inputs, also if they hold names or an ID. Empty: all that say something of new samples.
        name: what the messages call the data.
        group: name of a column, such as that of a patient; the rows of one value stay together in every split. It is no input.

    Raises:
        BadInput: the columns cannot be used.

    Examples:
        >>> frame = pd.DataFrame({"age": range(20, 40), "town": ["Oslo", "Rome"] * 10, "price": [1.5, 2.5] * 10})
        >>> load_frame(frame, "price").inputs
        '2 inputs (1 of numbers, 1 of text)'
    """
    return _table_of(frame_of(frame, name), name, name, target, task, categories, None, columns, group)


def _kept(target: str | None, categories: Sequence[str], names: list[str]) -> set[str]:
    """Return the columns whose cells stay text, whether they are numbers or not."""
    return {names[-1] if target is None else target, *categories}


def _table_of(
    frame: pd.DataFrame,
    where: str,
    name: str,
    target: str | None,
    task: str,
    categories: Sequence[str],
    features: Any,
    columns: Sequence[str],
    group: str | None,
) -> Table:
    names = list(frame)
    if len(names) < 2 + (group in names):
        raise BadInput(f"{where}: has the target{' and the group' if group in names else ''} alone. Add columns of inputs.")
    target = names[-1] if target is None else target
    given = {"target": [target], "group": [] if group is None else [group], "categories": categories, "columns": columns}
    for option, each in [(option, each) for option, listing in given.items() for each in listing]:
        if each not in names:
            raise BadInput(f'{where}: no column "{each}". Name one of {listed(names)} with --{option}.')
        taken = "target" if each == target else "group" if each == group else option
        if taken != option:
            instead = "a group. Name another --group or --target" if option == "group" else f"an input. Leave it out of --{option}"
            raise BadInput(f'{where}: column "{each}" is the {taken}, not {instead}.')
    notes: list[str] = []
    beside = [*([] if group is None else [partial(group_of, frame[group])]), partial(target_of, frame[target])]
    if features is not None:
        readers = _known_columns(where, frame, features)
        # The target may be among the columns of a model.
        *inputs, y = _each(where, [*readers.values(), *beside])
        groups = None if group is None else inputs.pop()
        return make_table(dict(zip(readers, inputs, strict=True)), y, name, task, groups=groups)
    wanted = [each for each in (columns or names) if each not in (target, group)]
    readers = {each: partial(input_of, frame[each], each in categories, bool(columns)) for each in wanted}
    left_out: list[str] = []
    *inputs, y = _each(where, [*readers.values(), *beside], left_out)
    groups = None if group is None else inputs.pop()
    x = {each: values for each, values in zip(readers, inputs, strict=True) if values is not None}
    if left_out:
        notes.append(f"left out: {'; '.join(left_out)} (--columns A,B chooses the columns)")
    if not x:
        raise BadInput(f"{where}: no column says something of new samples. {sentence(notes[0])}.")
    is_first = {each: day_first(frame[each]) for each, values in x.items() if values.dtype.kind == "M"}
    for each in [each for each, found in is_first.items() if found is None]:
        notes.append(f'column "{each}": its dates may have the day or the month first ("{frame[each].iloc[0]}"); it is read as the month')
    return make_table(x, y, name, task, notes, [each for each, found in is_first.items() if found], groups)


def columns_for(path: str | Path, features: Any) -> pd.DataFrame:
    """Return the columns of a file that a `tables.TableFeatures` was adapted to, as its `encode` takes them.

    A number that is missing is NaN, a date NaT. The index has the number of each sample's line.

    Raises:
        BadInput: a column is missing, or holds text where there were numbers.
    """
    frame = read_frame(path, partial(_kept, None, [column.name for column in features.columns if isinstance(column, Category)]))
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
    missing = [name for name in features.sources if name not in frame]
    if missing:
        raise BadInput(f"{path}: has no column {listed(missing)}, which the model was trained on; found {listed(frame)}. Add it.")
    readers: dict[str, _Reader] = {}
    for column in features.columns:
        cells = frame[source(column)]
        if column.date is not None:
            readers[source(column)] = partial(dates, cells, column.date.day_first)
        else:
            readers[column.name] = partial(category_names if isinstance(column, Category) else numbers, cells)
    return readers


def _each(path: str | Path, readers: Iterable[_Reader], left_out: list[str] | None = None) -> list[Any]:
    """Return what each reader of a column returns; one message says what is wrong with several columns.

    Columns that are left out are None, and their reasons go to `left_out`.
    """
    found, wrong = [], []
    for read in readers:
        try:
            found.append(read())
        except LeftOut as error:
            assert left_out is not None
            left_out.append(str(error))
            found.append(None)
        except BadInput as error:
            wrong.append(str(error))
    if wrong:
        more = f" And {len(wrong) - _MOST_NAMED} more columns." if len(wrong) > _MOST_NAMED else ""
        raise BadInput(f"{path}: {' '.join([wrong[0], *map(sentence, wrong[1:_MOST_NAMED])])}{more}")
    return found
