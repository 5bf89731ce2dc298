"""Columns of a CSV file: numbers, and text that names categories."""

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ext._checks import BadInput
from keras_ext.callbacks.wording import one_line
from keras_ext.layers._columns import Category
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


def load_csv(
    path: str | Path, target: str | None = None, task: str = "auto", categories: Sequence[str] = (), features: Any = None
) -> Table:
    """Return a CSV file with a header line: the column `target` (default: the last one), and all others as inputs by their names.

    A column of numbers is one input, a column of text names categories; an empty cell among them is a category too.

    Args:
        path: the file.
        target: name of the column to predict.
        task: `"classification"`, `"regression"`, or `"auto"`: told by the target.
        categories: columns of numbers that name categories all the same, such as postal codes.
        features: a `layers.TableFeatures`: the inputs are the columns that it was adapted to, whatever others there are.

    Raises:
        BadInput: the file or a column cannot be used.
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
    if features is not None:
        inputs = _known_columns(path, columns, features)
    else:
        inputs = {name: _input(path, name, cells, name in categories) for name, cells in columns.items() if name != target}
    return make_table(inputs, _target(path, target, columns[target]), path.name, task)


def columns_for(path: str | Path, features: Any) -> dict[str, np.ndarray]:
    """Return the columns of a CSV file that a `layers.TableFeatures` was adapted to, as its `encode` takes them.

    Raises:
        BadInput: a column is missing, or holds text where there were numbers.
    """
    return _known_columns(Path(path), read_csv(path), features)


def _known_columns(path: Path, columns: dict[str, list[str]], features: Any) -> dict[str, np.ndarray]:
    kinds = {column.name: isinstance(column, Category) for column in features.columns}
    missing = [name for name in kinds if name not in columns]
    if missing:
        raise BadInput(f"{path}: has no column {listed(missing)}, which the model was trained on; found {listed(columns)}. Add it.")
    return {
        name: np.asarray([_category(cell) for cell in columns[name]]) if is_text else _numbers(path, name, columns[name])
        for name, is_text in kinds.items()
    }


def matrix_of(path: str | Path, without: str | None = None) -> np.ndarray:
    """Return all columns of a CSV file of numbers but the one called `without`, float32, shape (lines, columns).

    Raises:
        BadInput: a column holds something else, or there is none.
    """
    path = Path(path)
    columns = [_numbers(path, name, cells) for name, cells in read_csv(path).items() if name != without]
    if not columns:
        raise BadInput(f"{path}: has the target alone. Add columns of inputs.")
    return np.stack(columns, axis=1).astype("float32")


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


def _input(path: Path, name: str, cells: Sequence[str], as_category: bool) -> np.ndarray:
    """Return a column of numbers, or of text where at most half of its cells are numbers."""
    filled = [cell for cell in cells if cell]
    numeric = sum(_number(cell) is not None for cell in filled)
    if not as_category and (2 * numeric > len(filled) or not filled):
        return _numbers(path, name, cells)
    if not as_category and all(_DATE.fullmatch(cell) for cell in filled):
        raise BadInput(
            f'{path}: column "{name}" holds dates or times ("{filled[0]}"). Put numbers in their place that mean something for the '
            "target, such as the month, the weekday or days since a day, or remove the column."
        )
    if not as_category:
        _refuse_decorated(path, name, filled)
    different = len(set(cells))
    if different > _MANY_TEXTS and 2 * different > len(cells):
        raise BadInput(
            f'{path}: column "{name}" holds {different} different texts in {len(cells)} lines: names or free text, which say nothing of '
            "new samples. Remove the column, or group the texts."
        )
    return np.asarray([_category(cell) for cell in cells])


def _category(cell: str) -> str:
    """Return the name of a category: 4 for 4.0, which is how some programs write whole numbers beside gaps.

    >>> _category("4.0"), _category("0150"), _category("4.05")
    ('4', '0150', '4.05')
    """
    return cell.removesuffix(".0") if cell.removesuffix(".0").isdecimal() else cell


def _refuse_decorated(path: Path, name: str, filled: Sequence[str]) -> None:
    decorated = [cell for cell in filled if _DECORATED.fullmatch(cell) and _number(cell) is None]
    if 2 * len(decorated) > len(filled):
        raise BadInput(
            f'{path}: column "{name}" holds numbers with signs ("{decorated[0]}"). Write them plainly: no unit, nothing between thousands, '
            "a point before decimals."
        )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    values = [_number(cell) for cell in cells]
    text = [i for i, (cell, value) in enumerate(zip(cells, values, strict=True)) if cell and value is None]
    if text:
        cell, line = cells[text[0]][:20], text[0] + 2
        if 2 * len(text) > len(cells):
            raise BadInput(f'{path}: column "{name}" holds text ("{cell}" in line {line}) where numbers are needed. Remove the column.')
        raise BadInput(f'{path}: column "{name}" holds numbers, but text in line {line} ("{cell}"){_more(text)}. Mend or remove that line.')
    gaps = [i for i, value in enumerate(values) if value is None or not math.isfinite(value)]
    if gaps:
        cell, line = cells[gaps[0]] or "empty", gaps[0] + 2
        raise BadInput(f'{path}: column "{name}" has no finite number in line {line} ({cell}){_more(gaps)}. Fill or remove that line.')
    return np.asarray(values, "float64")


def _more(places: Sequence[int]) -> str:
    return f" and {len(places) - 1} more" if len(places) > 1 else ""


def _target(path: Path, name: str, cells: Sequence[str]) -> np.ndarray:
    """Return numbers if every cell is one, else the text."""
    if "" in cells:
        raise BadInput(f'{path}: column "{name}" is empty in line {cells.index("") + 2}. Remove that line.')
    values = [_number(cell) for cell in cells]
    if None in values:
        _refuse_decorated(path, name, cells)
    return np.asarray(cells) if None in values else np.asarray(values, "float64")
