"""Workers on this machine, without Ray: a child process that is renewed every few trials, so that memory does not grow with them."""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import keras

from keras_ext.parallel.job import Job, Shared
from keras_ext.parallel.workers import WorkerEvent


class Children:
    """One child process at a time, which runs trials one after the other, or together.

    Args:
        shared: what the trials have in common; can be pickled.
        trials: after so many trials, or groups of trials that run together, a new process takes over.
    """

    def __init__(self, shared: Shared, trials: int) -> None:
        # Now: the search goes on to wrap what the tuner and `shared` have in common.
        self._shared, self._trials = pickle.dumps(shared), trials
        self._left = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._events: queue.Queue[tuple[int, WorkerEvent]] = queue.Queue()
        # Of the trials that the process runs, and those that wait for it.
        self._names: set[str] = set()
        self._waiting: deque[Sequence[Job]] = deque()

    def start(self, jobs: Sequence[Job]) -> None:
        """Begin to run trials once those before them have ended."""
        self._waiting.append(jobs)
        self._begin_next()

    def _begin_next(self) -> None:
        if self._names or not self._waiting:
            return
        jobs = self._waiting.popleft()
        if not self._left or self._process is None or self._process.poll() is not None:
            self._begin()
        self._left -= 1
        self._names = {job.name for job in jobs}
        assert self._process is not None
        self._send(pickle.dumps(list(jobs)))

    def events(self, timeout: float) -> Iterator[WorkerEvent]:
        """Yield all that has happened; wait for the first of it for at most `timeout` seconds."""
        while True:
            try:
                process, event = self._events.get(timeout=timeout or None, block=timeout > 0)
            except queue.Empty:
                return
            timeout = 0.0
            if self._process is None or process != self._process.pid:
                continue
            names = [name for name in ([event.name] if event.name else sorted(self._names)) if name in self._names]
            if event.what in ("ended", "died"):
                self._names -= set(names)
            for name in names:
                yield replace(event, name=name)
            self._begin_next()

    def kill(self, name: str) -> None:
        """End the process of a trial."""
        self._names.clear()
        self._left = 0
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def answer(self, name: str, reason: str | None) -> None:
        """Answer a trial that waits at the end of an epoch or a training."""
        self._send(pickle.dumps((reason,)))

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.poll() is None:
            self.kill("")

    def _begin(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        # Of this process's paths, so that it finds the same modules; a session of its own, so that Ctrl-C ends the search and not, in the
        # midst of XLA's compiler, the child.
        environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        words = [sys.executable, "-m", "keras_ext.parallel.child"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._left = self._trials
        self._send(self._shared)

    def _send(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which `_listen` reports
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        try:
            while True:
                self._events.put((process.pid, WorkerEvent(*pickle.load(process.stdout))))
        except (EOFError, pickle.UnpicklingError):
            code = process.wait()
        how = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._events.put((process.pid, WorkerEvent("", "died", (how,))))
