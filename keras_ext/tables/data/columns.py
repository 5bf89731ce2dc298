"""Columns of a file of text: numbers, and text that names categories."""

import re
import warnings

import numpy as np
import pandas as pd

from keras_ext._checks import BadInput
from keras_ext.tables import _dates
from keras_ext.tables._columns import MISSING

# pandas takes much for a date, such as 3-4 and May: a year, the time of day, or day, month and year must be there.
_DATED = r"\d{4}|\d:\d\d|\d[-/. ]\w+[-/. ]\d\d(?!\d)"
# Beside numbers themselves, those with what no number has: thousands apart, a unit.
_DECORATED = r"[$€£]? ?-?\d+([,' ]\d{3})*([.,]\d+)? ?[%$€£]?|-?\d{1,3}(\.\d{3})+,\d+"
# More different texts than this, and on average fewer than two lines for each: names or free text.
_MANY_TEXTS = 20
# So many different cells say whether a column holds dates.
_DATES_READ = 1000
# Names of columns that number the lines, such as "id", "customer_id", "CustomerID" or "Unnamed: 0".
_ID_NAME = r"(?i:(.*[ _-])?(id|uuid|guid|index|key|nr|no|number|row))|.*[a-z](ID|Id|Key|Nr)|Unnamed.*|"
# In fewer lines, numbers may well follow one another by chance.
_LINES_OF_ID = 50


class LeftOut(BadInput):
    """A column says nothing of new samples, and is left out of the inputs."""


def input_of(cells: pd.Series, as_category: bool, is_wanted: bool = False) -> np.ndarray:
    """Return a column of numbers, of dates, or of text where at most half of its cells are numbers.

    Raises:
        LeftOut: the column holds names, free text or an ID, and is not `is_wanted` by its name.
        BadInput: it holds neither numbers nor categories.
    """
    if cells.dtype.kind == "M":
        return cells.to_numpy("datetime64[s]")
    values, filled = _parsed(cells), cells[~_missing(cells)]
    numeric = int(values.notna().sum())
    if not as_category:
        if not len(filled):
            raise BadInput(f'column "{cells.name}" has no number. Remove the column.')
        if 2 * numeric > len(filled):
            if not is_wanted and _is_id(cells, values):
                raise LeftOut(f'"{cells.name}", an ID: whole numbers, all different')
            return _checked(cells, values)
        if are_dates(filled):
            return dates(cells, bool(day_first(cells)))
        _refuse_decorated(filled)
    different = cells.nunique(dropna=False)
    if different > _MANY_TEXTS and 2 * different > len(cells):
        begin = f'column "{cells.name}" holds {different} different'
        if 10 * numeric > 9 * len(filled):
            raise BadInput(
                f"{begin} numbers in {len(cells)} lines, too many to name categories. Leave it out of --categories, so that they are taken "
                "for numbers."
            )
        if as_category:
            raise BadInput(f"{begin} texts in {len(cells)} lines: names or free text, which say nothing of new samples. Group the texts.")
        if not is_wanted:
            raise LeftOut(f'"{cells.name}", names or free text: {different} different texts in {len(cells)} lines')
    return category_names(cells)


def dates(cells: pd.Series, is_day_first: bool) -> np.ndarray:
    """Return dates as datetime64, NaT where one is missing.

    Raises:
        BadInput: a cell holds something else.
    """
    if cells.dtype.kind == "M":
        return cells.to_numpy("datetime64[s]")
    filled = ~_missing(cells)
    found = _dates.parsed(_text(cells).where(filled, ""), is_day_first)
    wrong = filled & np.isnat(found)
    if wrong.any():
        raise _in_lines(cells, wrong, " holds dates, but something else", "fix")
    return found


def day_first(cells: pd.Series) -> bool | None:
    """Return whether the day stands before the month in a column of dates; None where nothing says it."""
    return False if cells.dtype.kind == "M" else _dates.day_first(_text(cells).unique())


def _is_id(cells: pd.Series, values: pd.Series) -> bool:
    """Return whether whole numbers, all different, follow one another or belong to a column whose name says that they number lines."""
    if len(values) < 2 or values.isna().any() or (values % 1 != 0).any() or not values.is_unique:
        return False
    follow = len(values) >= _LINES_OF_ID and values.max() - values.min() < 1.1 * len(values)
    return bool(follow or re.fullmatch(_ID_NAME, str(cells.name)))


def target_of(cells: pd.Series) -> np.ndarray:
    """Return numbers if every cell is one, else the text.

    Raises:
        BadInput: a cell has no value.
    """
    _refuse_dates(cells, "the target must be numbers or text")
    values, gaps = _parsed(cells), _missing(cells)
    is_text = bool((values.isna() & ~gaps).any())
    # A class may be called NA.
    gaps = cells == "" if is_text else gaps
    if gaps.any():
        raise _in_lines(cells, gaps, ", the target, has no value", "fill")
    if not is_text:
        return values.to_numpy()
    _refuse_decorated(cells)
    return cells.to_numpy(object).astype(str)


def group_of(cells: pd.Series) -> np.ndarray:
    """Return the names of the groups that the samples belong to.

    Raises:
        BadInput: a cell has no value.
    """
    gaps = cells.isna() if cells.dtype.kind in "iufM" else cells == ""
    if gaps.any():
        raise _in_lines(cells, gaps, ", the group, has no value", "fill")
    return category_names(cells)


def category_names(cells: pd.Series) -> np.ndarray:
    """Return the names of categories: 4 for 4.0, which is how some programs write whole numbers beside gaps."""
    return _text(cells).str.replace(r"^(\d+)\.0$", r"\1", regex=True).to_numpy(object).astype(str)


def numbers(cells: pd.Series, gaps: bool = True) -> np.ndarray:
    """Return numbers as float64, NaN where one is missing if `gaps` are allowed.

    Raises:
        BadInput: a cell holds something else.
    """
    _refuse_dates(cells, "numbers are needed")
    return _checked(cells, _parsed(cells), gaps)


def _refuse_dates(cells: pd.Series, rule: str) -> None:
    if cells.dtype.kind == "M":
        raise BadInput(f'column "{cells.name}" holds dates, and {rule}. Take another column, or make numbers of it, such as days.')


def _checked(cells: pd.Series, values: pd.Series, gaps: bool = True) -> np.ndarray:
    text = values.isna() & ~_missing(cells)
    if 2 * text.sum() > len(cells):
        first = f'"{cells[text].iloc[0][:20]}" in {cells.index.name} {text.idxmax()}'
        raise BadInput(f'column "{cells.name}" holds text ({first}) where numbers are needed. Remove the column.')
    if text.any():
        raise _in_lines(cells, text, " holds numbers, but text", "fix")
    bad = np.isinf(values) if gaps else ~np.isfinite(values)
    if bad.any():
        raise _in_lines(cells, bad, " has no finite number", "fill")
    return values.to_numpy()


def _parsed(cells: pd.Series) -> pd.Series:
    if cells.dtype.kind in "iuf":
        return cells.astype("float64")
    different = cells.drop_duplicates()
    if 2 * len(different) < len(cells):
        # Each text once: it takes long where it is no number.
        return cells.map(_parsed(different).set_axis(different)).astype("float64")
    # Which cells are numbers, and then these: the last digit of some is another in `to_numeric` of pandas 2.
    return cells.where(pd.to_numeric(cells, errors="coerce").notna()).astype("float64")


def _missing(cells: pd.Series) -> pd.Series:
    return cells.isna() if cells.dtype.kind in "iuf" else cells.str.lower().isin(MISSING)


def _text(cells: pd.Series) -> pd.Series:
    return cells.astype(str).where(cells.notna(), "")


def are_dates(filled: pd.Series) -> bool:
    """Return whether text that is not missing is dates or times."""
    some = filled.drop_duplicates().iloc[:_DATES_READ]
    if not some.str.contains(_DATED).all():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns where day and month may be either
        return bool(pd.to_datetime(some, format="mixed", errors="coerce", utc=True).notna().all())


def _refuse_decorated(filled: pd.Series) -> None:
    decorated = filled[filled.str.fullmatch(_DECORATED) & _parsed(filled).isna()]
    if 2 * len(decorated) > len(filled):
        raise BadInput(
            f'column "{filled.name}" holds numbers with signs ("{decorated.iloc[0]}"). Write them plainly: no unit, nothing between '
            "thousands, a point before decimals."
        )


def _in_lines(cells: pd.Series, bad: pd.Series, what: str, fix: str) -> BadInput:
    """Return the error that says `what` is wrong in the first line of those that are `bad`, and how many more there are."""
    line, cell, more = cells.index.name, _text(cells)[bad].iloc[0][:20], int(bad.sum()) - 1
    shown, others = f'"{cell}"' if cell else "empty", f" and {more} more" if more else ""
    those = f"those {line}s" if more else f"that {line}"
    return BadInput(f'column "{cells.name}"{what} in {line} {bad.idxmax()} ({shown}){others}: {fix} or remove {those}.')
