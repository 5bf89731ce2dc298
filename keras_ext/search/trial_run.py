"""One trial, run in this process: seeded, observed, and reported."""

import contextlib
import copy
import inspect
import itertools
import math
import random
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._warnings import warn
from keras_ext._wording import one_line
from keras_ext.callbacks import Finding, SaturationMonitor
from keras_ext.search.executions import Executions, current, of_trial
from keras_ext.search.objectives import check_objective
from keras_ext.search.stop_reasons import StopReason, stop_reasons
from keras_ext.search.together.batch_hooks import LateBatchHooks
from keras_ext.search.together.shared_models import SharedModels
from keras_ext.search.together.trial_thread import TrialThread
from keras_ext.search.trial_report import TrialReport, as_json


class Listener:
    """Hears what happens in a trial; this one does nothing with it."""

    def begins(self, epochs: int) -> None:
        """The trial begins; it is to take so many epochs."""

    def batch_begins(self) -> None:
        """A batch begins: the moment to end the search."""

    def epoch_ends(self, epoch: int, score: float | None) -> str | None:
        """So many epochs are done; the last left this score. Return why the trial is to end now, or None."""

    def execution_ends(self, scores: Sequence[float | None]) -> str | None:
        """A training of the trial has ended, and others follow; the best score of each so far. Return why they are left out, or None."""

    def finds(self, finding: Finding) -> None:
        """The monitor has found something."""


class Runner:
    """Runs the trials of one KerasTuner `tuner` in this process.

    Args:
        tuner: whose `run_trial` it calls.
        monitor: is copied for each trial; None observes none.
        seed: of the trials' weights.
        policy: dtype policy that models are built under.
        together: most trials of one structure that train at once; 1: they share programs one after another, 0: they share none.
        prunes: whether trials may be pruned.
    """

    def __init__(
        self, tuner: Any, monitor: SaturationMonitor | None, seed: int, policy: Any, together: int = 1, prunes: bool = False
    ) -> None:
        self._tuner, self._monitor, self._seed, self._run = tuner, monitor, seed, tuner.run_trial
        self._models = SharedModels(tuner, together, prunes) if together else None
        # How many trials compiled programs of their own, and whether as many of these as are remembered.
        self._compiled, self._is_full, self._has_warned = 0, False, False
        build_under(tuner, policy, self._models)

    def run(self, trial: Any, reported: TrialReport, listener: Listener, *args: Any, **kwargs: Any) -> Any:
        """Run one trial with the arguments of `search`, and return what its `run_trial` does; what happens goes into `reported`."""
        if self._is_full:
            _backend.forget_programs()
            self._is_full = False
        set_seed(seed_of_trial(self._seed, trial.trial_id))
        values = trial.hyperparameters.values
        given = _fit_arguments(args, kwargs)
        first = values.get("tuner/initial_epoch", given.get("initial_epoch", 0))
        last = values.get("tuner/epochs", given.get("epochs", 1))
        reported.planned_epochs = last - first
        listener.begins(last - first)
        kwargs = self._with_callbacks(self._callbacks(reported, listener, first, kwargs.get("callbacks") or ()), kwargs)
        trainings = self._executions(reported, listener)
        began, sharing, thread = time.monotonic(), None, TrialThread.current()
        waited = thread.waited if thread else 0.0
        try:
            folder = self._tuner.get_trial_dir(trial.trial_id)
            with contextlib.nullcontext() if self._models is None else self._models.sharing(folder) as sharing, of_trial(trainings):
                return trainings.trained(self._run(trial, *args, **kwargs))
        except Exception as error:
            reported.error = one_line(error)
            raise
        finally:
            reported.seconds = round(time.monotonic() - began - (thread.waited - waited if thread else 0.0), 3)
            if sharing is not None:
                reported.program = sharing.program
            if not reported.program.startswith("shared"):
                self._compiled += 1
                self._is_full = self._compiled % _backend.trials_remembered() == 0

    def _executions(self, reported: TrialReport, listener: Listener) -> Executions:
        """Return what counts the trainings of a trial; a loop of KerasTuner's own over them leaves out those after a pruner's decision."""

        def ended() -> None:
            if reported.pruned is None and trainings.number + 1 < getattr(self._tuner, "executions_per_trial", 1):
                reported.pruned = listener.execution_ends(tuple(reported.executions))

        is_known = _is_of_keras_tuner(type(self._tuner).run_trial)
        trainings = Executions(lambda: is_known and reported.pruned is not None, ended)
        return trainings

    def _with_callbacks(self, callbacks: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `run_trial` with these callbacks, if it takes any."""
        taken = inspect.signature(self._run).parameters.values()
        if any(each.name == "callbacks" or each.kind == each.VAR_KEYWORD for each in taken):
            return {**kwargs, "callbacks": [*callbacks, *(kwargs.get("callbacks") or [])]}
        if not self._has_warned:
            self._has_warned = True
            name = f"{type(self._tuner).__name__}.run_trial"
            warn(f"{name} takes no `callbacks`, so that its trials are not monitored. Add `callbacks` to its arguments.")
        return kwargs

    def _callbacks(self, reported: TrialReport, listener: Listener, first: int, others: Sequence[Any]) -> list[Any]:
        objective = self._tuner.oracle.objective

        # Functions, not methods: KerasTuner copies the callbacks deeply, and a function stays itself.
        def found(finding: Finding) -> None:
            reported.findings.append(as_json(finding))
            listener.finds(finding)

        def epoch_ended(epoch: int, logs: dict[str, Any] | None) -> bool:
            score = (logs or {}).get(objective.name)
            note_epoch(executions, reported, epoch - first, float(score) if score is not None and math.isfinite(score) else None, best)
            reason = listener.epoch_ends(epoch + 1 - first, reported.scores[epoch - first])
            if reason is not None and epoch + 1 - first < reported.planned_epochs:
                reported.pruned = reason
            return reported.pruned is not None

        def stopped(reason: str) -> None:
            reported.stopped = reason

        executions: list[list[float | None]] = []
        best = max if objective.direction == "max" else min
        thread = TrialThread.current()

        def batch_begins() -> None:
            listener.batch_begins()
            if thread is not None:
                thread.check()

        # A training in a `fit` or `run_trial` of the user's own may log less.
        run, fit = type(self._tuner).run_trial, getattr(type(self._tuner.hypermodel), "fit", None)
        is_theirs = fit is keras_tuner.HyperModel.fit and _is_of_keras_tuner(run)
        reporter = _Reporter(epoch_ended, batch_begins, objective if is_theirs else None, stop_reasons(others, objective), stopped)
        if self._monitor is None:
            return [reporter]
        monitor = copy.copy(self._monitor)
        monitor.on_finding = found
        return [monitor, reporter]


class _Reporter(LateBatchHooks):
    """Reports each epoch that ends and each batch that begins, and ends the training where the report of an epoch says so."""

    def __init__(
        self,
        epoch_ended: Callable[[int, dict[str, Any] | None], bool],
        batch_begins: Callable[[], None],
        objective: Any,
        reasons: Sequence[StopReason],
        stopped: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._epoch_ended, self._batch_begins, self._objective = epoch_ended, batch_begins, objective
        self._reasons, self._stopped = reasons, stopped
        self._logs: dict[str, Any] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._logs = logs
        if self._epoch_ended(epoch, logs):
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._check()
        if self.model.stop_training:
            for reason in filter(None, (each(self.model.history.history) for each in self._reasons)):
                self._stopped(reason)

    def _check(self) -> None:
        """Check the logs of an epoch, which callbacks after this one may have added to."""
        if self._logs and self._objective is not None:
            check_objective(self._objective, self._logs)
            self._objective = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batch_begins()


def _is_of_keras_tuner(run_trial: Callable[..., Any]) -> bool:
    """Return whether a tuner's `run_trial` is none of a user's own."""
    return run_trial.__module__.startswith(("keras_tuner.", "keras_ext."))


def note_epoch(
    executions: list[list[float | None]], reported: TrialReport, epoch: int, score: float | None, best: Callable[..., Any]
) -> None:
    """Keep the score after an epoch, counted from 0, in the scores of its execution, and in the report."""
    if epoch == 0 or not executions:
        executions.append([])
    executions[-1] += [None] * (epoch - len(executions[-1])) + [score]
    there = [each[epoch] for each in executions if len(each) > epoch]
    finite = [each for each in there if each is not None]
    # A training may begin at a later epoch than the report.
    reported.scores += [None] * (epoch - len(reported.scores))
    reported.scores[epoch : epoch + 1] = [sum(finite) / len(finite) if len(finite) == len(there) else None]
    reported.epochs = len(reported.scores)
    reported.executions = [best((each for each in scores if each is not None), default=None) for scores in executions]


def _fit_arguments(args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `search` by the names that `fit` gives them; those of a `run_trial` that takes others as they are."""
    try:
        return inspect.signature(keras.Model.fit).bind_partial(None, *args, **kwargs).arguments
    except TypeError:
        return kwargs


class TrialLoop:
    """KerasTuner's loop over the trials of one `tuner`, of which several may be under way."""

    def __init__(self, tuner: Any) -> None:
        self._tuner = tuner
        # Whether the oracle had no trial when it was last asked: it has none until one ends, which another process would not show here.
        self._waits, self._is_alone = False, isinstance(tuner.oracle, keras_tuner.Oracle)

    def begin(self) -> Any:
        """Return a trial that the oracle begins beside those under way; None where none is left or it waits for one of them.

        KerasTuner gives the process of one name the same trial until it ends, so that each trial is asked for by another name.
        """
        if self._waits and self._is_alone:
            return None
        oracle = self._tuner.oracle
        self._tuner.pre_create_trial()
        trial = oracle.create_trial(next(name for i in itertools.count() if (name := f"tuner{i}") not in oracle.ongoing_trials))
        self._waits = trial.status != "RUNNING"
        if self._waits:
            return None
        self._tuner.on_trial_begin(trial)
        return trial

    def end(self, trial: Any, run: Callable[[], Any]) -> None:
        """Let KerasTuner record what `run` returns or raises as the result of a trial, which ends with it."""
        keras_private.keras_tuner_records(self._tuner, trial, run)
        self._tuner.on_trial_end(trial)
        self._waits = False


def build_under(tuner: Any, policy: Any, models: SharedModels | None = None) -> None:
    """Let a KerasTuner `tuner` build its models under this dtype policy, and the distribution over devices that holds now.

    KerasTuner clears the session before it builds a model, and both with it. The optimizer of a model gets its slots before Hyperband loads
    the weights of the trial that it goes on with. The trainings of a trial are counted.
    """
    if tuner.hypermodel is None:
        return
    build, fit, distribution = tuner.hypermodel.build, tuner.hypermodel.fit, keras.distribution.distribution()

    def fit_so(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        running = current()
        return fit(hp, model, *args, **kwargs) if running is None else running.fit(model, lambda: fit(hp, model, *args, **kwargs))

    def build_so(hp: Any) -> Any:
        running = current()
        return built(hp) if running is None else running.build(lambda: built(hp))

    def built(hp: Any) -> Any:
        keras.config.set_dtype_policy(policy)
        keras.distribution.set_distribution(distribution)
        model = build(hp)
        if "tuner/trial_id" in hp.values:
            load = model.load_weights

            def load_weights(*args: Any, **kwargs: Any) -> None:
                del model.load_weights
                model.optimizer.build(model.trainable_variables)
                load(*args, **kwargs)

            model.load_weights = load_weights
        if models is not None:
            models.attach(model)
        return model

    tuner.hypermodel.build, tuner.hypermodel.fit = build_so, fit_so


def seed_of_trial(seed: int, trial_id: str) -> int:
    """Return the seed of a trial's weights, which depend on it alone, whatever ran before in this process.

    >>> seed_of_trial(0, "07"), seed_of_trial(1, "07")
    (7, 1000010)
    """
    number = int(trial_id) if trial_id.isdecimal() else zlib.crc32(trial_id.encode())
    return (seed * 1_000_003 + number) % 2**31


def set_seed(seed: int) -> None:
    """Seed all generators that a network's first weights may come from, before Keras's session is cleared.

    `keras.utils.set_random_seed` imports TensorFlow wherever that is installed, for tf.data: 400 MB, and twice the time in the garbage
    collector, which KerasTuner calls twice a trial. What it does beside is undone as the session is cleared.
    """
    if "tensorflow" in sys.modules:
        keras.utils.set_random_seed(seed)
        return
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
