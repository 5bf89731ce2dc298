"""Files of tables as data frames: pandas reads CSV, Parquet and Excel files."""

import contextlib
import csv
import re
from pathlib import Path

import pandas as pd

from keras_ext._checks import BadInput
from keras_ext._wording import one_line
from keras_ext.tables.data.files import existing

# What Parquet and Excel need beyond pandas: the library, and the extra of this package that brings it.
_NEEDED = {".parquet": ("pyarrow", "parquet"), ".xlsx": ("openpyxl", "excel")}
_KINDS = (".csv", ".tsv", *_NEEDED)
_PACKED = (".gz", ".bz2", ".xz", ".zip")
# Not plain utf-8, of which pandas 2 decodes only cells that it has cut. Windows's own comes last: it takes most bytes for letters. Latin-1
# has no letter beyond it.
_ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")
# Cells stay the text that they are: 0150 may be a category.
_AS_TEXT = {"header": None, "dtype": str, "keep_default_na": False}


def is_table(path: str | Path) -> bool:
    """Return whether a file's name ends as that of a table, compressed or not.

    >>> is_table("a.csv"), is_table("a.CSV.gz"), is_table("a.gz")
    (True, True, False)
    """
    return _kind(path) in _KINDS


def read_frame(path: str | Path) -> pd.DataFrame:
    """Return a table's columns by their names: each holds numbers, NaN where one is missing, text, empty where there is none, or dates.

    The index has the number of each sample's line in the file, and its name says whether these are lines or rows.

    Raises:
        BadInput: the file cannot be read, has no names, or its lines differ in length.
    """
    path = existing(path)
    kind = _kind(path)
    try:
        frame = {".parquet": _parquet, ".xlsx": _excel}.get(kind, _csv)(path)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    except ImportError:
        library, extra = _NEEDED[kind]
        raise BadInput(f'{path}: needs {library}, which the extra "{extra}" brings. Install it: pip install {library}') from None
    except Exception as error:  # each reader and each compression has errors of its own
        what = f"{kind} file" if kind in _NEEDED else "CSV text file in UTF-8, UTF-16 or cp1252"
        raise BadInput(f"{path}: not a {what} ({one_line(error)}). Save it again as CSV UTF-8.") from None
    return _checked(frame, str(path))


def frame_of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a data frame of the user's own as `read_frame` returns that of a file; its columns may also hold objects and categories.

    Raises:
        BadInput: it has no rows, or names that are missing or twice.
    """
    if not len(frame):
        raise BadInput(f"{name}: has no rows. Give at least ten.")
    if any(frame.index.names):
        frame = frame.reset_index()
    named = frame.set_axis(list(map(str, frame.columns)), axis=1).set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))
    return _checked(named, name)


def _checked(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    names = list(frame.columns)
    if "" in names:
        raise BadInput(f"{where}: column {names.index('') + 1} has no name. Give it one in the first line, or remove it.")
    if len(set(names)) < len(names):
        raise BadInput(f'{where}: two columns are called "{next(name for name in names if names.count(name) > 1)}". Rename one.')
    return pd.DataFrame({name: _plain(column) for name, column in frame.items()}, frame.index)


def _kind(path: str | Path) -> str:
    path = Path(path)
    return Path(path.stem if path.suffix.lower() in _PACKED else path.name).suffix.lower()


def _csv(path: Path) -> pd.DataFrame:
    for encoding in _ENCODINGS[:-1]:
        with contextlib.suppress(UnicodeError):
            return _csv_in(encoding, path)
    return _csv_in(_ENCODINGS[-1], path)


def _csv_in(encoding: str, path: Path) -> pd.DataFrame:
    try:
        # The first line as one cell: no file of text has this separator.
        first = pd.read_csv(path, sep="\x1f", quoting=csv.QUOTE_NONE, nrows=1, encoding=encoding, **_AS_TEXT).iloc[0, 0]
        separator = max(",;\t|", key=re.sub('"[^"]*"', "", first).count)
        # The fast reader fills short lines up with empty cells; where a last cell is empty, the slow one shows which are missing.
        for engine in ("c", "python"):
            frame = pd.read_csv(path, sep=separator, engine=engine, encoding=encoding, skip_blank_lines=False, **_AS_TEXT)
            if (frame.iloc[:, -1] != "").all():
                break
    except pd.errors.EmptyDataError:
        raise BadInput("needs a header line and samples, found 0 lines.") from None
    except pd.errors.ParserError as error:
        long = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if long is None:
            raise
        raise _differs(int(long[2]), int(long[3]), int(long[1])) from None
    frame = frame.dropna(how="all")
    short = frame.isna().any(axis=1)
    if short.any():
        raise _differs(short.idxmax() + 1, frame[short].iloc[0].count(), frame.shape[1])
    return _named(frame if separator == "," else frame.apply(_with_points, separator=separator), "line")


def _differs(line: int, values: int, names: int) -> BadInput:
    return BadInput(f"line {line} has {values} values, the header {names} names. Fix that line.")


def _excel(path: Path) -> pd.DataFrame:
    frame = pd.read_excel(path, engine="openpyxl", **_AS_TEXT).fillna("")
    return _named(frame[(frame != "").any(axis=1)], "row")


def _named(frame: pd.DataFrame, line: str) -> pd.DataFrame:
    """Return the lines below the first, whose cells are the names of the columns."""
    if len(frame) < 2:
        raise BadInput(f"needs a header line and samples, found {len(frame)} lines.")
    names = frame.iloc[0].str.strip()
    if pd.to_numeric(names, errors="coerce").notna().all():
        raise BadInput("the first line holds numbers, not names. Put a line with the columns' names on top.")
    return frame.iloc[1:].set_axis(list(names), axis=1).set_axis(pd.Index(frame.index[1:] + 1, name=line))


def _parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path, engine="pyarrow")
    if any(frame.index.names):
        frame = frame.reset_index()
    return frame.set_axis(list(map(str, frame.columns)), axis=1).set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))


def _plain(column: pd.Series) -> pd.Series:
    if column.dtype.kind == "M":
        return column if getattr(column.dtype, "tz", None) is None else column.dt.tz_convert(None)
    return column if column.dtype.kind in "iuf" else column.astype(str).where(column.notna(), "").str.strip()


def _with_points(column: pd.Series, separator: str) -> pd.Series:
    """Return cells with a point for the decimal comma, as programs write it that put no commas between columns."""
    commas = column.str.fullmatch(r"\s*[+-]?\d+,\d+([eE][+-]?\d+)?\s*")
    # 1,250 is a number of thousands elsewhere; semicolons come from where the comma is before decimals.
    unclear = separator != ";" and column[commas].str.fullmatch(r"\s*[+-]?\d{1,3},\d{3}\s*").all()
    if unclear or column.str.contains(r"\d\.\d").any():
        return column
    return column.where(~commas, column.str.replace(",", "."))
