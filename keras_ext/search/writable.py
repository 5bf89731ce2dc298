"""Whether a folder can be written, asked before anything long begins."""

import tempfile
from pathlib import Path

from keras_ext._checks import BadInput


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
