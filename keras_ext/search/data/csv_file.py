"""Columns of a CSV file: numbers, and text that names categories."""

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ext._checks import BadInput
from keras_ext.callbacks.wording import one_line, sentence
from keras_ext.layers._columns import Category, is_gap
from keras_ext.search.data.files import existing, listed
from keras_ext.search.data.table import Table, make_table

_DATE = re.compile(
    r"\d{4}-\d{2}"
    r"|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})( .*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[APap][Mm])?"
    r"|\d{1,2}\.?[ -][A-Za-z]{3,9}\.?,?[ -]\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
)
# Numbers with what no number has: thousands apart, a unit.
_DECORATED = re.compile(r"[$€£]? ?-?\d{1,3}([,' ]\d{3})+(\.\d+)?|[$€£] ?-?\d+(\.\d+)?|-?\d+([.,]\d+)? ?[%$€£]|-?\d+,\d+")
# More different texts than this, and on average fewer than two lines for each: names or free text.
_MANY_TEXTS = 20
# Of columns that cannot be used, so many are told at once.
_MOST_TOLD = 5


def load_csv(
    path: str | Path, target: str | None = None, task: str = "auto", categories: Sequence[str] = (), features: Any = None
) -> Table:
    """Return a CSV file with a header line: the column `target` (default: the last one), and all others as inputs by their names.

    A column of numbers is one input, a column of text names categories; an empty cell among them is a category too. A number that is
    missing (an empty cell, NA, N/A, NaN or null) is NaN.

    Args:
        path: the file.
        target: name of the column to predict.
        task: `"classification"`, `"regression"`, or `"auto"`: told by the target.
        categories: columns of numbers that name categories all the same, such as postal codes.
        features: a `layers.TableFeatures`: the inputs are the columns that it was adapted to, whatever others there are.

    Raises:
        BadInput: the file or columns cannot be used.
    """
    columns = read_csv(path)
    path, names = Path(path), list(columns)
    if len(names) < 2:
        raise BadInput(f"{path}: has the target alone. Add columns of inputs.")
    target = names[-1] if target is None else target
    for name, option in ((target, "--target"), *((name, "--categories") for name in categories)):
        if name not in columns:
            raise BadInput(f'{path}: no column "{name}". Name one of {listed(columns)} with {option}.')
    if target in categories:
        raise BadInput(f'{path}: column "{target}" is the target, not an input. Leave it out of --categories.')
    readers: dict[str, Callable[[], np.ndarray]]
    if features is not None:
        readers = _known_columns(path, columns, features)
    else:
        readers = {name: lambda n=name, c=cells: _input(n, c, n in categories) for name, cells in columns.items() if name != target}
    # The target may be among the columns of a model.
    inputs, targets = _each(path, readers, {target: lambda: _target(target, columns[target])})
    return make_table(inputs, targets[target], path.name, task)


def columns_for(path: str | Path, features: Any) -> dict[str, np.ndarray]:
    """Return the columns of a CSV file that a `layers.TableFeatures` was adapted to, as its `encode` takes them.

    A number that is missing is NaN.

    Raises:
        BadInput: a column is missing, or holds text where there were numbers.
    """
    (columns,) = _each(path, _known_columns(path, read_csv(path), features))
    return columns


def _known_columns(path: str | Path, columns: dict[str, list[str]], features: Any) -> dict[str, Callable[[], np.ndarray]]:
    kinds = {column.name: isinstance(column, Category) for column in features.columns}
    missing = [name for name in kinds if name not in columns]
    if missing:
        raise BadInput(f"{path}: has no column {listed(missing)}, which the model was trained on; found {listed(columns)}. Add it.")
    return {name: lambda n=name, known=is_text: (_categories if known else _numbers)(n, columns[n]) for name, is_text in kinds.items()}


def _each(path: str | Path, *groups: Mapping[str, Callable[[], np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Return what each column's function returns; what is wrong with several columns is told at once."""
    found: list[dict[str, np.ndarray]] = []
    told: list[str] = []
    for group in groups:
        found.append({})
        for name, read in group.items():
            try:
                found[-1][name] = read()
            except BadInput as error:
                told.append(str(error))
    if told:
        more = f" And {len(told) - _MOST_TOLD} more columns." if len(told) > _MOST_TOLD else ""
        raise BadInput(f"{path}: {' '.join([told[0], *map(sentence, told[1:_MOST_TOLD])])}{more}")
    return found


def matrix_of(path: str | Path, without: str | None = None) -> np.ndarray:
    """Return all columns of a CSV file of numbers but the one called `without`, float32, shape (lines, columns).

    Raises:
        BadInput: a column holds something else or has gaps, or there is none.
    """
    path = Path(path)
    (columns,) = _each(
        path, {name: lambda n=name, c=cells: _numbers(n, c, gaps=False) for name, cells in read_csv(path).items() if name != without}
    )
    if not columns:
        raise BadInput(f"{path}: has the target alone. Add columns of inputs.")
    return np.stack(list(columns.values()), axis=1).astype("float32")


def read_csv(path: str | Path) -> dict[str, list[str]]:
    """Return the cells of a CSV file by the names of its header line.

    Raises:
        BadInput: it is none, has no names, or its lines differ in length.
    """
    path = existing(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise BadInput(f"{path}: not a CSV text file in UTF-8 ({one_line(error)}). Save it again as CSV UTF-8.") from None
    if len(rows) < 2:
        raise BadInput(f"{path}: needs a header line and samples, found {len(rows)} lines.")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    if len(header) == 1 and ";" in header[0]:
        raise BadInput(f"{path}: its values are separated by semicolons. Save it again with commas.")
    if any("\t" in name for name in rows[0]):
        raise BadInput(f"{path}: its values are separated by tabs. Save it again with commas.")
    if all(_number(name) is not None for name in header):
        raise BadInput(f"{path}: the first line holds numbers, not names. Put a line with the columns' names on top.")
    if "" in header:
        raise BadInput(f"{path}: column {header.index('') + 1} has no name. Give it one in the first line, or remove it.")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadInput(f'{path}: two columns are called "{twice}". Rename one.')
    for line, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise BadInput(f"{path}: line {line} has {len(row)} values, the header {len(header)} names. Mend that line.")
    return {name: [row[i].strip() for row in body] for i, name in enumerate(header)}


def _input(name: str, cells: Sequence[str], as_category: bool) -> np.ndarray:
    """Return a column of numbers, or of text where at most half of its cells are numbers."""
    filled = [cell for cell in cells if not is_gap(cell)]
    numeric = sum(_number(cell) is not None for cell in filled)
    if not as_category and not filled:
        raise BadInput(f'column "{name}" has no number. Remove the column.')
    if not as_category and 2 * numeric > len(filled):
        return _numbers(name, cells)
    if not as_category and all(_DATE.fullmatch(cell) for cell in filled):
        raise BadInput(
            f'column "{name}" holds dates or times ("{filled[0]}"). Put numbers in their place that mean something for the '
            "target, such as the month, the weekday or days since a day, or remove the column."
        )
    if not as_category:
        _refuse_decorated(name, filled)
    different = len(set(cells))
    if different > _MANY_TEXTS and 2 * different > len(cells):
        if 10 * numeric > 9 * len(filled):
            raise BadInput(
                f'column "{name}" holds {different} different numbers in {len(cells)} lines, too many to name categories. Leave it out of '
                "--categories, so that they are taken for numbers."
            )
        raise BadInput(
            f'column "{name}" holds {different} different texts in {len(cells)} lines: names or free text, which say nothing of '
            "new samples. Remove the column, or group the texts."
        )
    return _categories(name, cells)


def _categories(name: str, cells: Sequence[str]) -> np.ndarray:
    return np.asarray([_category(cell) for cell in cells])


def _category(cell: str) -> str:
    """Return the name of a category: 4 for 4.0, which is how some programs write whole numbers beside gaps.

    >>> _category("4.0"), _category("0150"), _category("4.05")
    ('4', '0150', '4.05')
    """
    return cell.removesuffix(".0") if cell.removesuffix(".0").isdecimal() else cell


def _refuse_decorated(name: str, filled: Sequence[str]) -> None:
    decorated = [cell for cell in filled if _DECORATED.fullmatch(cell) and _number(cell) is None]
    if 2 * len(decorated) > len(filled):
        raise BadInput(
            f'column "{name}" holds numbers with signs ("{decorated[0]}"). Write them plainly: no unit, nothing between thousands, '
            "a point before decimals."
        )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(name: str, cells: Sequence[str], gaps: bool = True) -> np.ndarray:
    """Return numbers, NaN where one is missing if `gaps` are allowed."""
    values = [math.nan if is_gap(cell) else _number(cell) for cell in cells]
    text = [i for i, value in enumerate(values) if value is None]
    if text:
        if 2 * len(text) > len(cells):
            cell, line = cells[text[0]][:20], text[0] + 2
            raise BadInput(f'column "{name}" holds text ("{cell}" in line {line}) where numbers are needed. Remove the column.')
        raise BadInput(f'column "{name}" holds numbers, but text in {_lines(text, cells)}: mend or remove {_those(text)}.')
    numbers = np.asarray(values, "float64")
    bad = np.flatnonzero(np.isinf(numbers) if gaps else ~np.isfinite(numbers)).tolist()
    if bad:
        raise BadInput(f'column "{name}" has no finite number in {_lines(bad, cells)}: fill or remove {_those(bad)}.')
    return numbers


def _lines(places: Sequence[int], cells: Sequence[str]) -> str:
    """Return the first line of those at `places`, what stands there, and how many more there are."""
    cell = cells[places[0]][:20]
    told = f'"{cell}"' if cell else "empty"
    return f"line {places[0] + 2} ({told})" + (f" and {len(places) - 1} more" if len(places) > 1 else "")


def _those(places: Sequence[int]) -> str:
    return "that line" if len(places) == 1 else "those lines"


def _target(name: str, cells: Sequence[str]) -> np.ndarray:
    """Return numbers if every cell is one, else the text."""
    filled = [cell for cell in cells if not is_gap(cell)]
    is_text = any(_number(cell) is None for cell in filled)
    # A class may be called NA.
    gaps = [i for i, cell in enumerate(cells) if (not cell if is_text else is_gap(cell))]
    if gaps:
        raise BadInput(f'column "{name}", the target, has no value in {_lines(gaps, cells)}: fill or remove {_those(gaps)}.')
    if is_text:
        _refuse_decorated(name, cells)
    return np.asarray(cells) if is_text else np.asarray([_number(cell) for cell in cells], "float64")
