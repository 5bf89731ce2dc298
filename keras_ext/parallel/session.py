"""The process of trials that a search keeps apart: what it does, and what it keeps from trial to trial."""

import contextlib
import io
import math
import os
import shutil
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_ext import _backend
from keras_ext._wording import one_line
from keras_ext.callbacks import Finding
from keras_ext.parallel.job import Failure, Job, Outcome, Report, Shared
from keras_ext.parallel.memory_limit import memory_limit
from keras_ext.search.strategy import over_all_devices
from keras_ext.search.together.side_by_side import Turns
from keras_ext.search.trial_report import TrialReport
from keras_ext.search.trial_run import Listener, Runner

# KerasTuner's own file of a trial, which stays with the oracle.
_OWN = "trial.json"

_sessions: dict[str, "Session"] = {}


def session_of(shared: Shared) -> "Session":
    """Return this process's session of a search: trials of one structure share their programs there."""
    if shared.token not in _sessions:
        _sessions.clear()
        _sessions[shared.token] = Session(shared)
    return _sessions[shared.token]


class Session:
    """Runs trials of one search in this process.

    Args:
        shared: what the trials have in common.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._folder: str | None = None
        self._tuner: Any = None
        self._runner: Any = None

    def work(self, jobs: Sequence[Job], report: Report) -> None:
        """Run trials, several of them in turns; `report` is called with the progress of each, and in the end with its `Outcome`."""
        functions = iter([partial(self._work, job, report) for job in jobs])
        if len(jobs) == 1:
            next(functions)()
        else:
            Turns(len(jobs)).run(lambda: next(functions, None))

    def _work(self, job: Job, report: Report) -> None:
        shared = self._shared
        report(job.name, "started", (os.getpid(),))
        reported = TrialReport()
        state, files, found, failure = job.states[-1], {}, None, None
        with memory_limit(shared.memory_limit, lambda took, limit: report(job.name, "exceeds", (took, limit))):
            try:
                self._begin()
                trial = self._trial(job)
                args = [_made(value) for value in shared.args]
                kwargs = {name: _made(value) if name in _DATA else value for name, value in shared.kwargs.items()}
                found = _plain(self._runner.run(trial, reported, _Sender(job.name, report), *args, **kwargs))
                state, files = trial.get_state(), _files(Path(self._tuner.get_trial_dir(job.name)))
            except Exception as error:
                reported.error = reported.error or one_line(error)
                failure = Failure(_kind(error), reported.error, traceback.format_exc())
            finally:
                self._forget(job)
        report(job.name, "ended", (Outcome(found, reported, state, files, failure),))

    def _begin(self) -> None:
        """Make the tuner, for the first trial, and its folder."""
        if self._runner is not None:
            Path(self._tuner.project_dir).mkdir(parents=True, exist_ok=True)
            return
        shared = self._shared
        _backend.prepare_devices()
        self._folder = tempfile.mkdtemp(prefix="keras_ext_trial_")
        with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints what it does
            self._tuner = shared.make_tuner(self._folder)
        over_all_devices(self._tuner, shared.strategy)
        policy = keras.dtype_policies.deserialize(shared.policy)
        self._runner = Runner(self._tuner, shared.monitor, shared.seed, policy, shared.together, shared.prunes)

    def _trial(self, job: Job) -> Any:
        for path, content in job.files.items():
            target = Path(self._tuner.project_dir, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        trial = None
        for state in job.states:
            trial = keras_tuner.engine.trial.Trial.from_state(state)
            self._tuner.oracle.trials[trial.trial_id] = trial
        return trial

    def _forget(self, job: Job) -> None:
        """Leave nothing of a trial, and of those that it went on with; with the last under way nothing on the disk."""
        if self._tuner is None:
            return
        trials = self._tuner.oracle.trials
        for state in job.states:
            trials.pop(state["trial_id"], None)
        if not trials and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


# Arguments of fit that may be functions which make the data; callbacks are functions of another kind.
_DATA = ("x", "y", "sample_weight", "validation_data")


class _Sender(Listener):
    """Tells the search's process what happens in the trial."""

    def __init__(self, name: str, report: Report) -> None:
        self._report = partial(report, name)

    def begins(self, epochs: int) -> None:
        self._report("begins", (epochs,))

    def epoch_ends(self, epoch: int, score: float | None) -> str | None:
        return self._report("epoch_ends", (epoch, float(score) if score is not None and math.isfinite(score) else None))

    def execution_ends(self, scores: Sequence[float | None]) -> str | None:
        return self._report("execution_ends", (tuple(scores),))

    def finds(self, finding: Finding) -> None:
        self._report("finds", (finding,))


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
