"""The file of a search's Optuna study, readable after a kill at any moment."""

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class Journal(JournalFileBackend):
    """Optuna's journal in a file that one process writes, with several entries in one write where they belong together.

    A killed process may have left its last line half written, and its lock unreleased: both are removed.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
        if path.is_file():
            written = path.read_bytes()
            if not written.endswith(b"\n"):
                with path.open("r+b") as file:
                    file.truncate(written.rfind(b"\n") + 1)
        super().__init__(str(path), JournalFileOpenLock(str(path)))
        # How many entries of the file Optuna has read, and those that wait to be written.
        self._read, self._waiting = 0, None
        self._path, self._size = path, -1

    @contextlib.contextmanager
    def in_one_write(self) -> Iterator[None]:
        """Write all entries that are made while the block runs at its end, whole or not at all."""
        self._waiting: list[dict[str, Any]] | None = []
        try:
            yield
        finally:
            waiting, self._waiting = self._waiting, None
            if waiting:
                self.append_logs(waiting)
                self._read += len(waiting)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries, or keep them until they all are to be written."""
        if self._waiting is None:
            super().append_logs(logs)
        else:
            self._waiting += copy.deepcopy(logs)  # Optuna goes on to change what it gave and what it reads

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the entries from this number on, those that wait to be written last."""
        # Optuna reads several times an epoch: a file that has not grown since has nothing new.
        size = self._path.stat().st_size
        if size != self._size or log_number_from < self._read:
            for number, entry in enumerate(super().read_logs(log_number_from), start=log_number_from):
                self._read = max(self._read, number + 1)
                yield entry
            self._size = size
        yield from copy.deepcopy((self._waiting or [])[max(log_number_from - self._read, 0) :])
