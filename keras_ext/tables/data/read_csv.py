"""CSV files as data frames of text, and of numbers where the first lines say that a column has nothing else."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from keras_ext._checks import BadInput
from keras_ext.tables._columns import MISSING

# Not plain utf-8, of which pandas 2 decodes only cells that it has cut. Windows's own comes last: it takes most bytes for letters. Latin-1
# has no letter beyond it.
_ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")
# Cells stay the text that they are: 0150 may be a category.
AS_TEXT: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False}
# Lines that say which columns hold numbers alone; where a later one has something else, all is read again as text.
_LINES_READ = 500
_GAPS = sorted({form for text in MISSING for form in (text, text.upper(), text.capitalize())} | {"NaN", "n/A"})
# pandas 3.1 reads each number as the nearest float64 by itself, and warns of the argument.
_EXACT: dict[str, Any] = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
_COMMA = r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*"
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

# From the names of the columns, those whose cells are to stay text.
Kept = Callable[[list[str]], Collection[str]]
# The names of the columns, and the lines below them, whose index has their numbers in the file, from 1.
Lines = tuple[list[str], pd.DataFrame]


def read_csv(path: Path, kept: Kept | None = None) -> Lines:
    """Return the lines of a file.

    Args:
        path: the file.
        kept: says which columns stay text. None: all of them.

    Raises:
        BadInput: the file is empty, or its lines differ in length.
    """
    for encoding in _ENCODINGS[:-1]:
        with contextlib.suppress(UnicodeError):
            return _read(path, encoding, kept)
    return _read(path, _ENCODINGS[-1], kept)


def _read(path: Path, encoding: str, kept: Kept | None) -> Lines:
    options: dict[str, Any] = {"encoding": encoding, "skip_blank_lines": False, "engine": "c"}
    try:
        # The first line as one cell: no file of text has this separator.
        first = pd.read_csv(path, sep="\x1f", quoting=csv.QUOTE_NONE, nrows=1, encoding=encoding, **AS_TEXT).iloc[0, 0]
        options["sep"] = max(",;\t|", key=re.sub('"[^"]*"', "", first).count)
        found = None if kept is None else _with_numbers(path, options, kept)
        if found is not None:
            return found
        frame = pd.read_csv(path, **options, **AS_TEXT)
    except pd.errors.EmptyDataError:
        raise BadInput("needs a header line and samples, found 0 lines.") from None
    except pd.errors.ParserError as error:
        long = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if long is None:
            raise
        raise _differs(int(long[2]), int(long[3]), int(long[1])) from None
    frame.index += 1
    frame = frame.drop(index=_empty_lines(path, options, frame))
    names, frame = list(frame.iloc[0].str.strip()), frame.iloc[1:]
    return names, frame if options["sep"] == "," else frame.apply(_with_points, separator=options["sep"])


def _with_numbers(path: Path, options: dict[str, Any], kept: Kept) -> Lines | None:
    """Return the lines with columns of numbers read as such, which takes a fraction of the time and memory; None where it cannot be."""
    some = pd.read_csv(path, nrows=_LINES_READ, **options, **AS_TEXT)
    if len(some) < 2 or (some.iloc[0] == "").any():
        return None
    names, cells = list(some.iloc[0].str.strip()), some.iloc[1:]
    numeric, decimal = _numeric(cells, {place for place, name in zip(cells, names, strict=True) if name in kept(names)}, options["sep"])
    if not numeric:
        return None
    text = [place for place in cells if place not in numeric]
    try:
        frame = pd.read_csv(
            path,
            header=0,
            names=list(cells),
            dtype={place: "float64" if place in numeric else str for place in cells},
            keep_default_na=False,
            na_values=dict.fromkeys(numeric, _GAPS),
            decimal=decimal,
            **_EXACT,
            **options,
        )
    except (ValueError, OverflowError, pd.errors.ParserError):
        return None
    frame.index += 2
    empty = _empty_lines(path, options, frame)
    frame = frame.drop(index=empty) if empty else frame
    if text and options["sep"] != ",":
        frame[text] = frame[text].apply(_with_points, separator=options["sep"])
    return names, frame


def _numeric(cells: pd.DataFrame, stays_text: Collection[int], separator: str) -> tuple[set[int], str]:
    """Return the places of the columns that hold numbers alone, and what stands before their decimals."""
    points, commas, has_points = set(), set(), False
    for place, column in cells.items():
        filled = column[~column.str.strip().str.lower().isin(MISSING)]
        if place in stays_text or filled.empty:
            continue
        if pd.to_numeric(filled, errors="coerce").notna().all():
            points.add(place)
            has_points |= filled.str.contains(".", regex=False).any()
        elif separator == ";" and pd.to_numeric(_with_points(filled, separator), errors="coerce").notna().all():
            commas.add(place)
    return (points, ".") if has_points or not commas else (points | commas, ",")


def _empty_lines(path: Path, options: dict[str, Any], frame: pd.DataFrame) -> list[int]:
    """Return the numbers of the lines that are empty; pandas fills them up, and those that are short.

    Raises:
        BadInput: a line has fewer values than there are names.
    """
    last, empty = frame.iloc[:, -1], []
    if (last.isna() | (last == "")).any():
        with _opened(path, options["encoding"]) as file:
            for line, values in enumerate(csv.reader(file, delimiter=options["sep"]), start=1):
                if not values:
                    empty.append(line)
                elif len(values) < frame.shape[1]:
                    raise _differs(line, len(values), frame.shape[1])
    return empty


@contextlib.contextmanager
def _opened(path: Path, encoding: str) -> Iterator[TextIO]:
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
            yield io.TextIOWrapper(file, encoding, newline="")
    else:
        with _OPENERS.get(path.suffix.lower(), open)(path, "rt", encoding=encoding, newline="") as file:
            yield file


def _differs(line: int, values: int, names: int) -> BadInput:
    return BadInput(f"line {line} has {values} values, the header {names} names. Fix that line.")


def _with_points(column: pd.Series, separator: str) -> pd.Series:
    """Return cells with a point for the decimal comma, as programs write it that put no commas between columns."""
    commas = column.str.fullmatch(_COMMA)
    # 1,250 is a number of thousands elsewhere; semicolons come from where the comma is before decimals.
    unclear = separator != ";" and column[commas].str.fullmatch(r"\s*[+-]?\d{1,3},\d{3}\s*").all()
    if unclear or column.str.contains(r"\d\.\d").any():
        return column
    return column.where(~commas, column.str.replace(",", "."))
