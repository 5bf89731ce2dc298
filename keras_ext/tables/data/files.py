"""Checks that all files of data share, and the wording of names."""

from collections.abc import Iterable
from pathlib import Path

from keras_ext._checks import BadInput


def existing(path: str | Path) -> Path:
    """Return the path of a file that is there.

    Raises:
        BadInput: it is not, or is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise BadInput(f"{path}: is a folder. Give a .npz or .csv file.")
    if not path.is_file():
        raise BadInput(f"{path}: no such file. Check the path.")
    return path


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, the first ten of them.

    >>> listed(["a", "b"]), listed([])
    ('"a", "b"', 'none')
    """
    quoted = [f'"{name}"' for name in names]
    return ", ".join(quoted[:10]) + (f" and {len(quoted) - 10} more" if len(quoted) > 10 else "") if quoted else "none"
