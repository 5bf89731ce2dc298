"""Workers on Ray: each trial is a Ray task with a process of its own, on any machine of the cluster."""

import asyncio
import collections
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import ray
import ray.exceptions as deaths

from keras_ext._wording import one_line
from keras_ext.parallel.job import Failure, Job, Outcome, Shared
from keras_ext.parallel.session import session_of
from keras_ext.parallel.workers import WorkerEvent
from keras_ext.search.trial_report import TrialReport

_DEATHS = (deaths.WorkerCrashedError, deaths.NodeDiedError, deaths.ObjectLostError, deaths.OwnerDiedError)


class RayWorkers:
    """Ray tasks.

    Args:
        shared: what the trials have in common; goes into Ray's object store once.
        resources: of Ray, that a trial needs: `{"CPU": 1, "GPU": 0.25}`.
        trials: that one process runs, or groups of trials that run together, one after the other.

    Raises:
        TypeError: something cannot be sent to another process.
    """

    def __init__(self, shared: Shared, resources: dict[str, float], trials: int) -> None:
        try:
            self._shared = ray.put(shared)
        except TypeError as error:
            cause = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
            raise TypeError(
                f"What a trial needs must travel to other processes, and something cannot: {cause}. Of data that cannot, give a function "
                "without arguments that makes it."
            ) from None
        rest = {name: amount for name, amount in resources.items() if name not in ("CPU", "GPU")}
        cores = max(1, int(resources.get("CPU", 1)))
        self._task: Any = ray.remote(
            num_cpus=resources.get("CPU", 1),
            num_gpus=resources.get("GPU", 0),
            resources=rest,
            max_calls=trials,
            max_retries=0,  # who is run again, and how often, is the search's own matter
            num_returns="streaming",
            runtime_env={"env_vars": _environment(cores)},
        )(_stream)
        self._answers: Any = ray.remote(num_cpus=0)(_Answers).remote() if shared.prunes else None
        # The stream of events of each trial's task.
        self._running: dict[str, Any] = {}

    def start(self, jobs: Sequence[Job]) -> None:
        """Begin to run trials in one process as soon as the cluster has what it needs."""
        stream = self._task.remote(self._shared, list(jobs), self._answers)
        self._running |= {job.name: stream for job in jobs}

    def events(self, timeout: float) -> Iterator[WorkerEvent]:
        """Yield all that has happened; wait for the first of it for at most `timeout` seconds."""
        while True:
            streams = list(dict.fromkeys(self._running.values()))
            if not streams:
                time.sleep(timeout)
                return
            ready, _ = ray.wait(streams, num_returns=1, timeout=timeout)
            if not ready:
                return
            ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
            for stream in ready:
                for event in self._next(stream):
                    if self._running.get(event.name) is not stream:
                        continue  # it was killed upon the event before
                    if event.what in ("ended", "died"):
                        del self._running[event.name]
                    yield event
            timeout = 0.0

    def kill(self, name: str) -> None:
        """End the process of a trial."""
        stream = self._running.pop(name, None)
        if stream is not None:
            ray.cancel(stream, force=True)

    def answer(self, name: str, reason: str | None) -> None:
        """Answer a trial that waits at the end of an epoch or a training."""
        assert self._answers is not None
        self._answers.put.remote(name, reason)

    def close(self) -> None:
        """End all processes."""
        for name in list(self._running):
            self.kill(name)
        if self._answers is not None:
            ray.kill(self._answers)

    def _next(self, stream: Any) -> list[WorkerEvent]:
        """Return the next event of a task; where the task has ended without one, that of each of its trials."""
        names = [name for name, known in self._running.items() if known is stream]
        try:
            return [WorkerEvent(*ray.get(next(stream)))] if names else []
        except deaths.OutOfMemoryError:
            return [_failed(name, "out of memory: Ray ended its process, as the machine had none left") for name in names]
        except _DEATHS as error:
            return [WorkerEvent(name, "died", (one_line(error),)) for name in names]
        except (deaths.RayError, StopIteration) as error:
            # Such as a module of the user's that the other machine has not.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reported = lines[-1] if lines else one_line(error)
            return [_failed(name, f"its process could not begin: {reported}", "invalid") for name in names]


def _failed(name: str, line: str, kind: str = "failed") -> WorkerEvent:
    return WorkerEvent(name, "ended", (Outcome(None, TrialReport(error=line), {}, {}, Failure(kind, line)),))


def _environment(cores: int) -> dict[str, str]:
    """Return the environment of a trial's process: Keras's backend, and no more threads and GPU memory than its share."""
    reported = {
        "KERAS_BACKEND": keras.backend.backend(),
        "OMP_NUM_THREADS": str(cores),
        "TF_NUM_INTRAOP_THREADS": str(cores),
        "TF_NUM_INTEROP_THREADS": str(cores),
        "NPROC": str(cores),  # of XLA's thread pool
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    # Modules of the user's own are found where they are here; what is installed, each machine has itself.
    paths = [path for path in sys.path if path and not path.startswith((sys.prefix, sys.base_prefix))]
    reported["PYTHONPATH"] = os.pathsep.join([*paths, "${PYTHONPATH}"])
    kept = ("TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS", "JAX_PLATFORMS", "KERAS_HOME")
    return reported | {name: os.environ[name] for name in kept if name in os.environ}


class _Answers:
    """Hands the search's answers to the trials that wait for them; a process of its own, which both sides reach."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Queue[str | None]] = collections.defaultdict(asyncio.Queue)

    async def put(self, name: str, reason: str | None) -> None:
        await self._waiting[name].put(reason)

    async def get(self, name: str) -> str | None:
        return await self._waiting[name].get()

    async def begin(self, name: str) -> None:
        """Forget what an earlier process of the trial did not come to ask."""
        self._waiting.pop(name, None)


def _stream(shared: Shared, jobs: Sequence[Job], answers: Any = None) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Run trials and yield what they report while they run; Ray hands each over at once."""
    reported: queue.Queue[tuple[str, str, tuple[Any, ...]]] = queue.Queue()

    def report(name: str, what: str, values: tuple[Any, ...]) -> str | None:
        reported.put((name, what, values))
        return ray.get(answers.get.remote(name)) if answers is not None and shared.answers(what) else None

    def run() -> None:
        try:
            if answers is not None:
                ray.get([answers.begin.remote(job.name) for job in jobs])
            session_of(shared).work(jobs, report)
        except Exception as error:  # what a session does not catch must not leave the search waiting
            line = one_line(error)
            for job in jobs:
                outcome = Outcome(None, TrialReport(error=line), job.states[-1], {}, Failure("failed", line))
                reported.put((job.name, "ended", (outcome,)))

    threading.Thread(target=run, daemon=True).start()
    left = {job.name for job in jobs}
    while left:
        name, what, values = reported.get()
        if name in left:
            yield name, what, values
        if what == "ended":
            left.discard(name)
