"""One trial in a process of its own: what goes there, what is done there, and what comes back."""

import contextlib
import io
import math
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_ext import _backend
from keras_ext._wording import one_line
from keras_ext.callbacks import Finding, SaturationMonitor
from keras_ext.search.strategy import over_all_devices
from keras_ext.search.trial_run import Listener, Runner, TrialReport

# KerasTuner's own file of a trial, which stays with the oracle.
_OWN = "trial.json"
_SNAPSHOT_A_SECOND = 5
_SECONDS_TO_BE_KILLED = 5
# Tells the search what happens, and returns its answer, of which there is one at the end of an epoch where a pruner decides.
Report = Callable[[str, tuple[Any, ...]], Any]


@dataclass(frozen=True)
class Shared:
    """The data and functions that all trials of a search share.

    Args:
        make_tuner: function of a folder that returns a tuner whose project lies there.
        monitor: observes each trial.
        seed: of the trials' weights.
        policy: config of the dtype policy that models are built under.
        args: of `search`, in their order; a function without arguments stands for what it returns in the trial's process.
        kwargs: of `search` likewise.
        strategy: how a trial uses several devices.
        memory_limit: bytes of main memory that a trial may take.
        share_programs: let trials of one structure and process share their compiled steps.
        prunes: whether the search answers at the end of each epoch whether the trial goes on.
    """

    make_tuner: Callable[[str], Any]
    monitor: SaturationMonitor | None
    seed: int
    policy: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    strategy: str | None = None
    memory_limit: int | None = None
    share_programs: bool = True
    prunes: bool = False


@dataclass(frozen=True)
class Job:
    """A trial that is to run.

    Args:
        name: KerasTuner's name of it.
        states: its state, last, and before it those of the trials that it goes on with.
        files: the files of these, by their paths in the project's folder.
    """

    name: str
    states: tuple[dict[str, Any], ...]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Failure:
    """Why a trial failed.

    Args:
        kind: `"fatal"` ends the search, `"failed"` the trial, after `"invalid"` KerasTuner may try it again.
        line: in one line.
        text: with the traceback.
    """

    kind: str
    line: str
    text: str = ""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a trial.

    Args:
        found: what `run_trial` returned.
        reported: what is known of it.
        state: the trial's state, with hyperparameters that its model asked for.
        files: that it left in its folder, by their paths there.
        failure: why there is no `found`.
    """

    found: Any
    reported: TrialReport
    state: dict[str, Any]
    files: dict[str, bytes]
    failure: Failure | None = None


def work(shared: Shared, job: Job, report: Report) -> Outcome:
    """Run one trial in this process and return what came of it; `report` is called with its progress."""
    report("started", (os.getpid(),))
    with _within(shared.memory_limit, report), tempfile.TemporaryDirectory(prefix="keras_ext_trial_") as folder:
        reported = TrialReport()
        state, files, found, failure = job.states[-1], {}, None, None
        try:
            _backend.prepare_devices()
            with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints what it does
                trial, tuner, runner = _prepared(shared, job, folder)
            args = [_made(value) for value in shared.args]
            kwargs = {name: _made(value) if name in _DATA else value for name, value in shared.kwargs.items()}
            found = _plain(runner.run(trial, reported, _Sender(report), *args, **kwargs))
            state, files = trial.get_state(), _files(Path(tuner.get_trial_dir(job.name)))
        except Exception as error:
            reported.error = reported.error or one_line(error)
            failure = Failure(_kind(error), reported.error, traceback.format_exc())
        return Outcome(found, reported, state, files, failure)


# Arguments of fit that may be functions which make the data; callbacks are functions of another kind.
_DATA = ("x", "y", "sample_weight", "validation_data")


class _Sender(Listener):
    """Tells the search's process what happens in the trial."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def begins(self, epochs: int) -> None:
        self._report("begins", (epochs,))

    def epoch_ends(self, epoch: int, score: float | None) -> str | None:
        return self._report("epoch_ends", (epoch, float(score) if score is not None and math.isfinite(score) else None))

    def finds(self, finding: Finding) -> None:
        self._report("finds", (finding,))


def _prepared(shared: Shared, job: Job, folder: str) -> tuple[Any, Any, Runner]:
    tuner = shared.make_tuner(folder)
    over_all_devices(tuner, shared.strategy)
    for path, content in job.files.items():
        target = Path(tuner.project_dir, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    trial = None
    for state in job.states:
        trial = keras_tuner.engine.trial.Trial.from_state(state)
        tuner.oracle.trials[trial.trial_id] = trial
    policy = keras.dtype_policies.deserialize(shared.policy)
    return trial, tuner, Runner(tuner, shared.monitor, shared.seed, policy, int(shared.share_programs))


def _made(value: Any) -> Any:
    return value() if callable(value) else value


def _plain(found: Any) -> Any:
    """Return the results of a trial without the model that a History holds."""
    if isinstance(found, list):
        return [_plain(each) for each in found]
    if isinstance(found, keras.callbacks.History):
        history = keras.callbacks.History()
        history.history, history.epoch = found.history, found.epoch
        return history
    return found


def _files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != _OWN}


def _kind(error: Exception) -> str:
    if isinstance(error, keras_tuner.errors.FatalError):
        return "fatal"
    return "failed" if isinstance(error, keras_tuner.errors.FailedTrialError) else "invalid"


@contextlib.contextmanager
def _within(limit: int | None, report: Report) -> Iterator[None]:
    """Report when the resident set of this process grows over `limit` bytes, so that the search ends it; if it does not, end it here.

    A limit on addresses (`resource.RLIMIT_AS`) would count what the frameworks reserve and never use.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1 / _SNAPSHOT_A_SECOND):
            if limit is not None and resident() > limit:
                report("exceeds", (resident(), limit))
                time.sleep(_SECONDS_TO_BE_KILLED)
                os._exit(1)

    if limit is not None:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def resident() -> int:
    """Return the bytes of main memory that this process has now, or, where the system does not say, the most that it had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
