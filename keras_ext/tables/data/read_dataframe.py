"""Files of tables as data frames: pandas reads CSV, Parquet and Excel files."""

from pathlib import Path

import pandas as pd

from keras_ext._checks import BadInput
from keras_ext._wording import one_line
from keras_ext.tables.data.files import existing
from keras_ext.tables.data.read_csv import AS_TEXT, Kept, read_csv

# What Parquet and Excel need beyond pandas: the library, and the extra of this package that brings it.
_NEEDED = {".parquet": ("pyarrow", "parquet"), ".xlsx": ("openpyxl", "excel")}
_KINDS = (".csv", ".tsv", *_NEEDED)
_PACKED = (".gz", ".bz2", ".xz", ".zip")


def is_table(path: str | Path) -> bool:
    """Return whether a file's name ends as that of a table, compressed or not.

    >>> is_table("a.csv"), is_table("a.CSV.gz"), is_table("a.gz")
    (True, True, False)
    """
    return _kind(path) in _KINDS


def read_frame(path: str | Path, kept: Kept | None = None) -> pd.DataFrame:
    """Return a table's columns by their names: each holds numbers, NaN where one is missing, text, empty where there is none, or dates.

    The index has the number of each sample's line in the file, and its name says whether these are lines or rows.

    Args:
        path: the file.
        kept: of CSV: says which columns stay text if they hold numbers, such as 0150. None: all of them.

    Raises:
        BadInput: the file cannot be read, has no names, or its lines differ in length.
    """
    path = existing(path)
    kind = _kind(path)
    try:
        frame = _parquet(path) if kind == ".parquet" else _excel(path) if kind == ".xlsx" else _named(*read_csv(path, kept), "line")
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
    # Columns of numbers stay where they are: a large table has most of its memory in them.
    return frame.assign(**{name: _plain(column) for name, column in frame.items() if column.dtype.kind not in "iuf"})


def _kind(path: str | Path) -> str:
    path = Path(path)
    return Path(path.stem if path.suffix.lower() in _PACKED else path.name).suffix.lower()


def _excel(path: Path) -> pd.DataFrame:
    frame = pd.read_excel(path, engine="openpyxl", **AS_TEXT).fillna("")
    frame = frame[(frame != "").any(axis=1)]
    frame.index += 1
    return _named(list(frame.iloc[0].str.strip()) if len(frame) else [], frame.iloc[1:], "row")


def _named(names: list[str], frame: pd.DataFrame, line: str) -> pd.DataFrame:
    """Return lines with the names of their columns."""
    if not len(frame):
        raise BadInput(f"needs a header line and samples, found {1 if names else 0} lines.")
    if pd.to_numeric(pd.Series(names), errors="coerce").notna().all():
        raise BadInput("the first line holds numbers, not names. Put a line with the columns' names on top.")
    return frame.set_axis(names, axis=1).set_axis(pd.Index(frame.index, name=line))


def _parquet(path: Path) -> pd.DataFrame:
    frame = pd.read_parquet(path, engine="pyarrow")
    if any(frame.index.names):
        frame = frame.reset_index()
    return frame.set_axis(list(map(str, frame.columns)), axis=1).set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))


def _plain(column: pd.Series) -> pd.Series:
    if column.dtype.kind == "M":
        return column if getattr(column.dtype, "tz", None) is None else column.dt.tz_convert(None)
    return column.astype(str).where(column.notna(), "").str.strip()
