"""Checks that a folder can be written before anything long begins, and the error where it no longer can."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_ext._checks import BadInput
from keras_ext._wording import reason


def check_writable(folder: Path) -> None:
    """Make `folder` if it is missing, and try to write there.

    Raises:
        BadInput: it cannot be written, or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(bytes(2**16))
            file.flush()
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}). Give another folder, or make room.") from None


@contextlib.contextmanager
def reported_where_not_writable(path: Path, fix: str) -> Iterator[None]:
    """Let what the block cannot write at `path`, or in that folder, end in one line with `fix`.

    Raises:
        BadInput: it cannot be written, or its disk is full.
    """
    try:
        yield
    except (ConnectionError, TimeoutError, ChildProcessError):
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({reason(error)}). {fix}") from error
