"""Dates as numbers and categories: year, month, weekday, days since 1970, and the hour where there are times of day."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

PARTS = ("year", "month", "weekday", "days", "hour")
_WEEKDAYS = np.array(["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"])  # from 1970-01-01
_TIME = r"\s*\d{1,2}:\d\d(:\d\d(\.\d+)?)?\s*([AaPp][Mm])?\s*"
_DAY_OF_DIGITS = r"\s*(\d{1,2})([./-])(\d{1,2})[./-]\d{2,4}\b"


@dataclasses.dataclass(frozen=True)
class DatePart:
    """A part of a column of dates: the column's name, one of `PARTS`, and whether in its text the day stands before the month."""

    column: str
    part: str
    day_first: bool = False


def parsed(texts: Any, day_first: bool) -> np.ndarray:
    """Return text as dates (datetime64[s], UTC), NaT for empty text and what is no date; a time of day alone is one of 1970-01-01.

    >>> parsed(["31.1.2024", "", "10:15"], day_first=True).astype(str).tolist()
    ['2024-01-31T00:00:00', 'NaT', '1970-01-01T10:15:00']
    """
    texts = pd.Series(texts, dtype=object).astype(str)
    # Each date once: reading them takes by far the longest.
    unique = pd.Series(texts.unique(), dtype=object)
    whole = unique.where(~unique.str.fullmatch(_TIME), "1970-01-01 " + unique)
    try:
        found = pd.to_datetime(whole.where(whole != ""), dayfirst=day_first, utc=True)
    except (ValueError, OverflowError):  # they differ in form
        found = pd.to_datetime(whole, format="mixed", dayfirst=day_first, errors="coerce", utc=True)
    dates = pd.Series(found.to_numpy("datetime64[s]"), index=unique)
    return texts.map(dates).to_numpy("datetime64[s]")


def day_first(texts: Iterable[str]) -> bool | None:
    """Return whether the day stands before the month, as dots or a number above 12 say; None where nothing says it.

    >>> day_first(["1/2/2024", "31/1/2024"]), day_first(["1/31/2024"]), day_first(["1/2/2024"]), day_first(["2024-01-31"])
    (True, False, None, False)
    """
    found = pd.Series(list(texts), dtype=str).str.extract(rf"^{_DAY_OF_DIGITS}").dropna()
    if found.empty:
        return False
    first, second = pd.to_numeric(found[0]), pd.to_numeric(found[2])
    if (first > 12).any() or (found[1] == ".").all():
        return True
    return False if (second > 12).any() else None


def parts_of(dates: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parts in which dates differ: numbers (NaN where a date is missing), month and weekday as text (empty there).

    >>> sorted(parts_of(np.array(["2024-01-31", "2024-02-01"], "datetime64[s]")))
    ['days', 'month', 'weekday']
    """
    found = {part: part_of(dates, part) for part in PARTS}
    there = ~np.isnat(dates)
    differing = {part: values for part, values in found.items() if len(np.unique(values[there])) > 1}
    return differing or {"days": found["days"]}


def part_of(dates: np.ndarray, part: str) -> np.ndarray:
    """Return one of the `PARTS` of dates."""
    gaps = np.isnat(dates)
    whole = np.where(gaps, np.datetime64(0, "s"), dates)
    days, months, years = (whole.astype(f"datetime64[{unit}]") for unit in "DMY")
    if part in ("month", "weekday"):
        number = (months - years).astype(int) + 1 if part == "month" else days.astype(int) % 7
        names = number.astype(str) if part == "month" else _WEEKDAYS[number]
        return np.where(gaps, "", names)
    if part == "year":
        numbers = years.astype(int) + 1970.0
    else:
        numbers = days.astype("float64") if part == "days" else (whole - days).astype("float64") / 3600
    return np.where(gaps, np.nan, numbers)
