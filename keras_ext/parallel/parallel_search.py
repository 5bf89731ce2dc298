"""A search whose trials run in other processes: KerasTuner's own loop, with several trials under way and none lost with its process."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_ext._atomic import write_bytes
from keras_ext.callbacks import Finding
from keras_ext.parallel.job import ANSWERED, Failure, Job, Outcome
from keras_ext.parallel.workers import WorkerEvent, Workers
from keras_ext.search.project_folder import atomic_state_files
from keras_ext.search.report.view import View
from keras_ext.search.trial_report import TrialReport, as_json
from keras_ext.search.trial_run import Listener, TrialLoop, build_under
from keras_ext.search.watch import Watch

_WAIT = 0.2


@dataclass(frozen=True)
class RetryPolicy:
    """When a trial is given up.

    Args:
        max_retries: how often a trial whose process died is run again.
        trial_timeout: seconds after which a trial fails; None: never.
    """

    max_retries: int = 2
    trial_timeout: float | None = None


@dataclass
class _Running:
    trial: Any
    job: Job
    listener: Listener
    # Of the process that it shares with others, once it has started.
    group: int = -1
    reported: TrialReport = field(default_factory=TrialReport)
    deaths: int = 0
    began: float | None = None


class TrialError(RuntimeError):
    """A trial in another process raised; the text is what it said there."""


_ERRORS = {"fatal": keras_tuner.errors.FatalRuntimeError, "failed": keras_tuner.errors.FailedTrialError, "invalid": TrialError}


class ParallelSearch:
    """Runs the search of one KerasTuner `tuner`, of which each trial runs in a process of `workers`.

    Args:
        tuner: its oracle chooses the trials and gets their results.
        workers: the processes.
        at_once: most processes, each with a trial or a group of trials under way.
        retry_policy: when a trial is given up.
        on_finding: function that is called with each finding.
        view: shows the trials.
        verbose: whether KerasTuner prints what becomes of each trial; None for its default.
        pruner: of Optuna; ends trials early, which wait for its answer at the end of each epoch and training.
        together: most trials of a group.
    """

    def __init__(
        self,
        tuner: Any,
        workers: Workers,
        at_once: int,
        retry_policy: RetryPolicy,
        on_finding: Callable[[Finding], None] | None = None,
        view: View | None = None,
        verbose: Any = None,
        pruner: Any = None,
        together: int = 1,
    ) -> None:
        self._tuner, self._workers, self._at_once, self._retry_policy, self._view = tuner, workers, at_once, retry_policy, view
        self._together = together
        if verbose is not None:
            tuner.oracle.verbose = verbose
        build_under(tuner, keras.config.dtype_policy())
        self._watch, self._prunes = Watch(tuner, None, on_finding, view, pruner), pruner is not None
        self._running: dict[str, _Running] = {}
        self._groups = 0
        self._loop = TrialLoop(tuner)

    def search(self) -> None:
        """Search to the end. An interruption ends the trials under way, which start again when the search goes on."""
        self._watch.begin()
        with atomic_state_files():
            try:
                self._tuner.on_search_begin()
                while self._start_what_may_start():
                    for event in self._workers.events(_WAIT):
                        self._hear(event)
                    self._check_time()
                    if self._view:
                        self._view.check()
                self._tuner.on_search_end()
            finally:
                self._workers.close()
                self._watch.detach()

    def _start_what_may_start(self) -> bool:
        """Start trials until enough are under way, and return whether any is."""
        while len({running.group for running in self._running.values()}) < self._at_once:
            group: list[_Running] = []
            while len(group) < self._together and (trial := self._loop.begin()) is not None:
                group.append(_Running(trial, self._job(trial), self._watch.listener(trial)))
                self._running[trial.trial_id] = group[-1]
            if not group:
                break
            self._start(group)
        return bool(self._running)

    def _start(self, group: Sequence[_Running]) -> None:
        for running in group:
            running.group = self._groups
        self._groups += 1
        self._workers.start([running.job for running in group])

    def _job(self, trial: Any) -> Job:
        before, files = [], {}
        parent = trial.hyperparameters.values.get("tuner/trial_id")
        if parent is not None:
            before.append(self._tuner.oracle.get_trial(parent).get_state())
            folder, project = Path(self._tuner.get_trial_dir(parent)), Path(self._tuner.project_dir)
            files = {p.relative_to(project).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        return Job(trial.trial_id, (*before, trial.get_state()), files)

    def _hear(self, event: WorkerEvent) -> None:
        running = self._running.get(event.name)
        if running is None:
            return  # of a trial that was given up
        if event.what == "started":
            running.began = time.monotonic()
        elif event.what == "exceeds":
            took, limit = (f"{size / 2**20:,.0f} MiB" for size in event.values)
            self._workers.kill(event.name)
            self._fail(running, f"out of memory: it took {took} of {limit} that a trial may take")
        elif event.what == "ended":
            self._end(running, *event.values)
        elif event.what == "died":
            self._died(running, *event.values)
        else:
            _note(running.reported, event)
            answer = getattr(running.listener, event.what)(*event.values)
            if self._prunes and event.what in ANSWERED:
                self._workers.answer(event.name, answer)

    def _died(self, running: _Running, reason: str) -> None:
        running.deaths += 1
        if running.deaths > self._retry_policy.max_retries:
            times = "time" if running.deaths == 1 else "times"
            self._fail(running, f"its process died {running.deaths} {times}: {reason}")
            return
        running.began, running.reported = None, TrialReport()
        # Alone: what ended the process of a group may end that of the others again.
        self._start([running])

    def _check_time(self) -> None:
        limit, now = self._retry_policy.trial_timeout, time.monotonic()
        if limit is None:
            return
        for running in [r for r in self._running.values() if r.began is not None and now - r.began > limit]:
            self._workers.kill(running.job.name)
            self._fail(running, f"it took longer than {limit:g} s")

    def _fail(self, running: _Running, reason: str) -> None:
        seconds = 0.0 if running.began is None else round(time.monotonic() - running.began, 3)
        self._end(running, Outcome(None, replace(running.reported, error=reason, seconds=seconds), {}, {}, Failure("failed", reason)))

    def _end(self, running: _Running, outcome: Outcome) -> None:
        trial = running.trial
        del self._running[trial.trial_id]
        self._loop.end(trial, lambda: self._watch.conclude(trial, outcome.reported, lambda: self._delivered(trial, outcome)))

    def _delivered(self, trial: Any, outcome: Outcome) -> Any:
        """Return the results of a trial that ran elsewhere, or raise its error."""
        if outcome.failure is not None:
            raise _ERRORS[outcome.failure.kind](outcome.failure.text or outcome.failure.line)
        folder = Path(self._tuner.get_trial_dir(trial.trial_id))
        for path, content in outcome.files.items():
            write_bytes(folder / path, content)
        trial.hyperparameters = keras_tuner.engine.trial.Trial.from_state(outcome.state).hyperparameters
        return outcome.found


def _note(reported: TrialReport, event: WorkerEvent) -> None:
    """Keep what a trial reports while it runs, for the case that it does not come to an end of its own."""
    if event.what == "begins":
        (reported.planned_epochs,) = event.values
    elif event.what == "epoch_ends":
        epoch, score = event.values
        reported.scores[epoch - 1 : epoch] = [score]
        reported.epochs = max(reported.epochs, epoch)
    elif event.what == "execution_ends":
        reported.executions = list(*event.values)
    elif event.what == "finds":
        reported.findings.append(as_json(*event.values))
