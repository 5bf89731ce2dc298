"""The content of a table's columns: learnt from values, described for a config, and used to encode further values."""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from keras_ext._checks import bad_argument, flag, is_number, items
from keras_ext.tables._dates import PARTS, DatePart, parsed, part_of, parts_of

# What stands in files of text where a number is missing, in small letters. "None" is not among it: it may mean 0.
MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null"})


@dataclasses.dataclass(frozen=True)
class Number:
    """A column of numbers: what is subtracted from them, the square of what they are divided by, and whether a feature marks gaps."""

    name: str
    mean: float
    variance: float
    gaps: bool = False
    date: DatePart | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Category:
    """A column of categories: its distinct values; a value's place is its code."""

    name: str
    vocabulary: tuple[str, ...]
    date: DatePart | None = dataclasses.field(default=None, repr=False)


def source(column: Number | Category) -> str:
    """Return the name of the table's column that a column is made of."""
    return column.name if column.date is None else column.date.column


def widths(columns: Iterable[Number | Category]) -> list[int]:
    return [1 + column.gaps if isinstance(column, Number) else len(column.vocabulary) for column in columns]


def sizes(columns: Iterable[Number | Category]) -> str:
    return " + ".join(map(str, widths(columns)))


def described(column: Number | Category) -> dict[str, Any]:
    # Without an entry where there is nothing to say: as configs were before there was one.
    date = {} if column.date is None else {"date": dataclasses.asdict(column.date)}
    if isinstance(column, Number):
        return {"name": column.name, "mean": column.mean, "variance": column.variance, **({"gaps": True} if column.gaps else {}), **date}
    return {"name": column.name, "vocabulary": list(column.vocabulary), **date}


def checked_columns(columns: Any) -> tuple[Number | Category, ...]:
    given = items(columns)
    if given is None:
        raise bad_argument("columns", "a list of descriptions, or None", columns, "Take `columns` from a layer's config.")
    checked = tuple(_checked_column(f"columns[{i}]", column) for i, column in enumerate(given))
    if not checked:
        raise bad_argument("columns", "a list with at least one description, or None", columns, "Leave it out and call `adapt`.")
    names = [column.name for column in checked]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise bad_argument("columns", "a list with each name once", names, f"Rename one of {name!r}.")
    return checked


def _checked_column(where: str, column: Any) -> Number | Category:
    given = described(column) if isinstance(column, (Number, Category)) else column
    entries = set(given) if isinstance(given, Mapping) else set()
    if entries - {"gaps", "date"} != {"name", "mean", "variance"} and entries - {"date"} != {"name", "vocabulary"}:
        rule = "a dict with 'name', 'mean' and 'variance', or with 'name' and 'vocabulary'"
        raise bad_argument(where, rule, column, "Take it from a layer's config.")
    name = given["name"]
    if not isinstance(name, str) or not name:
        raise bad_argument(f"{where}['name']", "text that is not empty", name, "Name the column.")
    date = _checked_date(f"{where}['date']", given.get("date"))
    if "vocabulary" in given:
        return Category(str(name), _checked_vocabulary(f"{where}['vocabulary']", given["vocabulary"]), date)
    mean, variance = given["mean"], given["variance"]
    if not is_number(mean) or not math.isfinite(mean):
        raise bad_argument(f"{where}['mean']", "a finite number", mean, "Take it from the column's values.")
    if not is_number(variance) or not 0 < variance < math.inf:
        raise bad_argument(f"{where}['variance']", "a finite number above 0", variance, "Numbers that are all the same have 1.")
    return Number(str(name), float(mean), float(variance), flag(f"{where}['gaps']", given.get("gaps", False)), date)


def _checked_date(where: str, date: Any) -> DatePart | None:
    if date is None:
        return None
    given = dict(date) if isinstance(date, Mapping) else {}
    if set(given) != {"column", "part", "day_first"} or not isinstance(given["column"], str) or given["part"] not in PARTS:
        rule = f"a dict with 'column', 'part', one of {', '.join(PARTS)}, and 'day_first'"
        raise bad_argument(where, rule, date, "Take it from a layer's config.")
    return DatePart(str(given["column"]), given["part"], flag(f"{where}['day_first']", given["day_first"]))


def _checked_vocabulary(where: str, vocabulary: Any) -> tuple[str, ...]:
    words = items(vocabulary)
    if words is None:
        raise bad_argument(where, "a list of text", vocabulary, "List the column's distinct values.")
    if not words or not all(isinstance(word, str) for word in words):
        raise bad_argument(where, "a list of text, and not empty", vocabulary, "List the column's distinct values as text.")
    if len(set(words)) < len(words):
        raise bad_argument(where, "a list with each value once", vocabulary, "Leave out what is there twice.")
    return tuple(str(word) for word in words)


def checked_table(table: Any) -> dict[Any, Any]:
    # A data frame is no Mapping, and has what is needed of one.
    if not hasattr(table, "keys") or not hasattr(table, "__getitem__"):
        raise bad_argument("table", "a dict from names to columns", table, 'Write {"name": values, ...}.')
    return {name: table[name] for name in table.keys()}  # noqa: SIM118


def read(name: str, column: Any) -> np.ndarray:
    """Return the values of a column as an array: of numbers, or of objects that are yet to be observed."""
    if isinstance(column, (list, tuple, range)):
        # Not by np.asarray: it makes text of the numbers between texts.
        values = np.empty(len(column), object)
        for i, value in enumerate(column):
            values[i] = value
    elif isinstance(column, (str, bytes, Mapping)) or (values := np.asarray(column)).ndim != 1:
        raise bad_argument(_where(name), "a sequence of numbers or text, with one axis", column, "Give one value for each row.")
    return values if values.dtype.kind in "biufMU" else values.astype(object)


def rows(values: Mapping[str, np.ndarray]) -> int:
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise bad_argument("table", "a dict of columns of one length", lengths, "Give each column one value for each row.")
    return next(iter(lengths.values()))


def learnt(name: str, values: np.ndarray, day_first: bool = False) -> list[Number | Category]:
    """Return what a column holds; of dates what each part holds."""
    if values.dtype.kind != "M":
        return [_learnt(name, values)]
    found = []
    for part, numbers_or_text in parts_of(values).items():
        column = _learnt(f"{name}: {part}", numbers_or_text)
        found.append(dataclasses.replace(column, date=DatePart(name, part, day_first)))
    return found


def _learnt(name: str, values: np.ndarray) -> Number | Category:
    if values.dtype.kind == "U":
        return Category(name, tuple(sorted(set(values.tolist()))))
    if values.dtype == object and any(issubclass(kind, str) for kind in set(map(type, values))):
        for i in _unlike(values, str):
            raise bad_argument(
                _where(name, i), "text, as others in the column", values[i], "Fill gaps; make text of all values or of none."
            )
        return Category(name, tuple(sorted({str(value) for value in values})))
    numbers_ = _numbers(name, values)
    there = ~np.isnan(numbers_)
    if not there.any():
        raise bad_argument(_where(name), "a sequence with at least one number", list(values), "Leave the column out.")
    gaps, numbers_ = not there.all(), numbers_[there]
    # From the first value on: exact for numbers that are all the same, and for whole numbers far from zero.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = numbers_[0] + np.mean(numbers_ - numbers_[0])
        variance = np.mean(np.square(numbers_ - mean))
    if not np.isfinite(variance):
        raise bad_argument(_where(name), "of a variance that float64 can hold", float(variance), "Scale the numbers down.")
    return Number(name, float(mean), float(variance) or 1.0, gaps)


def of_part(column: Number | Category, values: np.ndarray) -> np.ndarray:
    """Return the values of a column, those of a part of dates from the dates or their text."""
    if column.date is None:
        return values
    if values.dtype.kind != "M":
        texts = ["" if _is_missing(value) or value != value or is_gap(str(value)) else str(value) for value in values]
        dates = parsed(texts, column.date.day_first)
        for i in [i for i, text in enumerate(texts) if text and np.isnat(dates[i])][:1]:
            raise bad_argument(_where(column.date.column, i), "a date", values[i], "Write it as 2024-01-31.")
        values = dates
    return part_of(values, column.date.part)


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    """Return `values` as float64, all finite, and NaN where one is missing."""
    if values.dtype == object:
        values = values.copy()
        values[[_is_missing(value) for value in values]] = math.nan
    for i in _unlike(values, (numbers.Real, np.bool_)):
        raise bad_argument(_where(name, i), "a number", values[i], "Make numbers of all values, or text of all.")
    try:
        found = values.astype("float64")
    except OverflowError:
        raise bad_argument(_where(name), "of numbers that float64 can hold", list(values), "Scale the numbers down.") from None
    for i in np.flatnonzero(np.isinf(found))[:1]:
        raise bad_argument(_where(name, i), "a finite number", float(found[i]), "Leave out the row, or the value.")
    return found


def _is_missing(value: Any) -> bool:
    # pandas's NA is equal to nothing, nor unequal.
    return value is None or type(value).__name__ == "NAType"


def _parsed(values: np.ndarray) -> np.ndarray:
    """Return `values` with numbers in place of text that is one, as rows of a CSV file have it; other text stays."""
    if values.dtype.kind in "OU":
        values = values.astype(object)
        for i, value in enumerate(values):
            values[i] = _number(value) if isinstance(value, str) else value
    return values


def _number(text: str) -> float | str:
    try:
        return math.nan if is_gap(text) else float(text)
    except ValueError:
        return text


def is_gap(text: str) -> bool:
    """Return whether text in a column of numbers says that the number is missing.

    >>> is_gap(""), is_gap("NA"), is_gap("none"), is_gap("0")
    (True, True, False, False)
    """
    return text.strip().lower() in MISSING


def normalized(column: Number, values: np.ndarray) -> np.ndarray:
    """Return numbers as features; where one is missing NaN, or the mean if no feature marks gaps."""
    values = _parsed(values)
    with np.errstate(over="ignore"):
        found = ((_numbers(column.name, values) - column.mean) / math.sqrt(column.variance)).astype("float32")
    if not column.gaps:
        found[np.isnan(found)] = 0.0
    for i in np.flatnonzero(np.isinf(found))[:1]:
        rule = f"a number that float32 can hold after - {column.mean!r}, / {math.sqrt(column.variance)!r}"
        raise bad_argument(_where(column.name, i), rule, float(values[i]), "Leave out the row, or learn from a table that has such rows.")
    return found


def codes(column: Category, values: np.ndarray) -> Any:
    for i in _unlike(values, (str, numbers.Real, np.bool_)):
        raise bad_argument(_where(column.name, i), "text or a number", values[i], 'Fill gaps with text, such as "".')
    if values.dtype.kind == "U":
        return pd.Index(column.vocabulary, dtype=object).get_indexer(pd.Index(values.astype(object)))
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
