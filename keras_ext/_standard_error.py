"""Standard error while the package runs as the command `keras-ext`.

TensorFlow and XLA write their start-up notes to file descriptor 2 from C++, before any of their switches counts, and into the middle of a
live picture. As a command the package therefore keeps the descriptor for its own words and sends theirs to a file. Used as a library it
touches nothing.
"""

import atexit
import os
import sys
import tempfile
from pathlib import Path


class Redirect:
    """Sends what is written to standard error into a file until the process ends.

    Unless `forget` is called, all of it is shown at the end: a traceback that nobody caught is not lost.
    """

    def __init__(self) -> None:
        self._user = os.dup(2)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (open until the process ends)
        os.dup2(self._file.fileno(), 2)
        self._wanted = True
        atexit.register(self._end)

    def say(self, text: str) -> None:
        """Write a line to the user."""
        os.write(self._user, f"{text}\n".encode())

    def forget(self) -> None:
        """Show nothing at the end: the command ended as it should."""
        self._wanted = False

    def into(self, path: Path) -> None:
        """Append what came so far, and what comes, to the file at `path`."""
        sys.stderr.flush()
        file = path.open("a+b", buffering=0)
        file.write(self._text())
        os.dup2(file.fileno(), 2)
        self._file.close()
        self._file = file

    def _text(self) -> bytes:
        self._file.seek(0)
        return self._file.read()

    def _end(self) -> None:
        sys.stderr.flush()
        os.dup2(self._user, 2)
        if self._wanted:
            os.write(2, self._text())


def runs_as_command() -> bool:
    """True in `keras-ext ...` and `python -m keras_ext ...`."""
    words = sys.orig_argv
    as_module = "-m" in words and words[words.index("-m") + 1 :][:1] == ["keras_ext"]
    return as_module or Path((sys.argv or [""])[0]).name in ("keras-ext", "keras-ext.exe")


redirect = Redirect() if runs_as_command() else None


def report(line: str) -> None:
    """Write a line to the user's standard error, whatever it is redirected to."""
    if redirect is None:
        print(line, file=sys.stderr)
    else:
        redirect.say(line)
