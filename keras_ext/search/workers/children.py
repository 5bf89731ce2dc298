"""Workers on this machine, without Ray: a child process that is renewed every few trials, so that memory does not grow with them."""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator

import keras

from keras_ext.search.workers.job import Job, Shared
from keras_ext.search.workers.loop import News


class Children:
    """One child process at a time, which runs trials one after the other.

    Args:
        shared: what the trials have in common; can be pickled.
        trials: after so many trials a new process takes over.
    """

    def __init__(self, shared: Shared, trials: int) -> None:
        # Now: the search goes on to wrap what the tuner and `shared` have in common.
        self._shared, self._trials = pickle.dumps(shared), trials
        self._left = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._news: queue.Queue[tuple[int, News]] = queue.Queue()
        self._name = ""

    def start(self, job: Job) -> None:
        """Begin to run a trial."""
        if not self._left or self._process is None or self._process.poll() is not None:
            self._begin()
        self._left -= 1
        self._name = job.name
        assert self._process is not None
        self._send(pickle.dumps(job))

    def news(self, timeout: float) -> Iterator[News]:
        """Yield all that has happened; wait for the first of it for at most `timeout` seconds."""
        while True:
            try:
                process, news = self._news.get(timeout=timeout or None, block=timeout > 0)
            except queue.Empty:
                return
            name, timeout = self._name, 0.0
            if self._process is not None and process == self._process.pid and name:
                if news.what in ("ended", "died"):
                    self._name = ""
                yield News(name, news.what, news.values)

    def kill(self, name: str) -> None:
        """End the process of a trial."""
        self._name = ""
        self._left = 0
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.poll() is None:
            self.kill(self._name)

    def _begin(self) -> None:
        if self._process is not None and self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        # Of this process's paths, so that it finds the same modules; a session of its own, so that Ctrl-C ends the search and not, in the
        # midst of XLA's compiler, the child.
        environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        words = [sys.executable, "-m", "keras_ext.search.workers.child"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._left = self._trials
        self._send(self._shared)

    def _send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which `_listen` tells
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            while True:
                what, values = pickle.load(process.stdout)
                self._news.put((process.pid, News("", what, values)))
        except (EOFError, pickle.UnpicklingError):
            code = process.wait()
        how = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._news.put((process.pid, News("", "died", (how,))))
