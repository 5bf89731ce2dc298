"""Any KerasTuner search, watched: each trial is seeded, monitored, scored whatever comes, and recorded with its reason."""

import gc
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
from rich.console import Console

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument, integer
from keras_ext._html import is_notebook
from keras_ext._wording import one_line
from keras_ext.callbacks import Finding, SaturationMonitor
from keras_ext.search.placeholder_scores import PlaceholderScores
from keras_ext.search.project_folder import atomic_state_files, recover
from keras_ext.search.records import ENDED, Record, active, collect, in_order, number_of, record_of, trials_of
from keras_ext.search.report.view import View
from keras_ext.search.together.side_by_side import SideBySide, models_at_once
from keras_ext.search.trial_report import TrialReport, write_diagnosis
from keras_ext.search.trial_run import Listener, Runner
from keras_ext.search.tuners.pruning import Pruning, pruner_for, pruning_of

# Methods of a tuner that a Watch takes the places of.
_TAKEN = ("search", "run_trial", "on_trial_end")
# What may differ in the errors of trials that all fail alike: sizes, for example.
_NUMBERS = re.compile(r"\d+([.,]\d+)?")
# FailedTrialError, which says that it is of one trial alone, ends a search after so many times as many failures.
_MORE = 3
# After these trials, garbage collection leaves out the programs that they compiled (gc.freeze).
_COMPILED = (1, 3)


def watch(
    tuner: Any,
    monitor: SaturationMonitor,
    *,
    pruner: Any = None,
    seed: int | None = None,
    view: View | None = None,
    together: Any = "auto",
) -> Any:
    """Let `monitor` observe every trial of a KerasTuner `tuner`, and keep why each ended; returns the tuner.

    With `SaturationMonitor(x, y, on_critical="stop")` unpromising trials end early. Their score is their best finite one. A trial without
    one gets the worst score of the search so far: KerasTuner's oracles learn nothing from failed trials, and three failures in a row end
    the search. Until there is a score it gets the placeholder 1e9 (-1e9 where more is better).

    A trial that raises (its model cannot be built, or memory runs out) fails alone: the search goes on. Only if from its start on as many
    trials in a row as `max_consecutive_failed_trials` allows fail with the same error it ends, as then the error is not the trial's. Three
    times as many may fail with a FailedTrialError, such as that of a model above `max_model_size`.

    Every trial's folder gets `diagnosis.json`, from which `results` makes its table, also in another process. State files are written
    whole, so that a search which was killed goes on (a new tuner of the same directory and `overwrite=False`, watched again). Trial k
    starts from weights that depend on `seed` and k alone. In Hyperband a promoted trial goes on with its optimizer's state, too. Models
    are built under the dtype policy of the time of this call, which KerasTuner forgets.

    In a distributed search of KerasTuner each process watches its tuner: the workers monitor their trials, and the chief's `results` has
    all of them. There a placeholder stays, and all processes need the same `seed`.

    Args:
        tuner: a KerasTuner tuner of any kind, before its `search`.
        monitor: is copied for each trial; the findings of all are also reported to its `on_finding`.
        pruner: ends trials whose score after an epoch is poor among those of the others. `"median"` ends one whose best score so far is
            worse than the median after that epoch, once five trials are complete. `"patient"` ends such a trial only if the monitor has
            found something in it, or its score no longer improves. `"halving"` lets the best quarter go on after 1, 4, 16, ... epochs
            (successive halving; trials that train at once are judged together). `"hyperband"` does so with the best third, and leaves
            some trials more epochs. `"wilcoxon"` compares the trainings of a trial with those of the best one, for tuners of several
            `executions_per_trial`. `"none"`, or an Optuna pruner, whose steps are epochs counted from 1. A pruned trial keeps its best
            score. None: that of the tuner, if it is an `OptunaTuner`. Not for Hyperband.
        seed: of the trials' weights; that of the tuner's oracle if None.
        view: shows the trials while they run; None: a table that changes in place in a notebook, unless `verbose` of `search` is 0, and
            KerasTuner's display elsewhere.
        together: most trials that train at once, as one program whose steps are those of all models of one structure. `"auto"`: as many as
            pay on this backend and device. 1: one after another in programs that they share. `"off"`: each compiles its own. Each trial
            trains as it would alone. The page on trials trained together lists the settings in which trials of one structure may differ.
            A tuner that learns, and a pruner, know less of trials that run at once.

    Raises:
        TypeError: `monitor` is no SaturationMonitor, `tuner` no tuner, or `pruner` none.
        ValueError: the tuner is watched already; no pruner has this name; the tuner is Hyperband, or `"wilcoxon"` has one training a trial.

    Examples:
        >>> import numpy as np, tempfile
        >>> def build(hp):
        ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 8), "relu"), keras.layers.Dense(1)])
        ...     model.compile("adam", "mse")
        ...     return model
        >>> x, y = np.random.default_rng(0).normal(size=(64, 4)), np.zeros((64, 1))
        >>> tuner = keras_tuner.RandomSearch(build, objective="loss", max_trials=2, directory=tempfile.mkdtemp())
        >>> tuner = watch(tuner, SaturationMonitor(x, y, on_critical="stop"))
        >>> tuner.search(x, y, epochs=1, verbose=0)
        >>> from keras_ext.search import results
        >>> [(record.epochs, record.ended) for record in results(tuner)]
        [(1, ''), (1, '')]
    """
    if not isinstance(tuner, keras_tuner.engine.base_tuner.BaseTuner):
        raise bad_argument("tuner", "a KerasTuner tuner", tuner, error=TypeError)
    if not isinstance(monitor, SaturationMonitor):
        raise bad_argument("monitor", "a SaturationMonitor", monitor, error=TypeError)
    if is_watched(tuner):
        raise ValueError("`tuner` is watched already. Watch it once.")
    pruner = pruner_for(tuner, pruner)
    recover(tuner)
    seed_of_weights = keras_private.own_oracle(tuner).seed if seed is None else integer("seed", seed, 0)
    count = models_at_once(together)
    runner = _Here(tuner, monitor, seed_of_weights, keras.config.dtype_policy(), count, pruner is not None)
    Watch(tuner, runner, monitor.on_finding, view, pruner, count)
    return tuner


def is_watched(tuner: Any) -> bool:
    """Return whether `watch` has this tuner."""
    return isinstance(getattr(tuner.run_trial, "__self__", None), Watch)


class _Here(Runner):
    """Runs trials in this process: what it forgets between them is on disk. A child process is renewed before it would forget."""

    def run(self, trial: Any, reported: TrialReport, listener: Listener, *args: Any, **kwargs: Any) -> Any:
        """Run one trial as a `Runner` does."""
        with _backend.programs_on_disk():
            return super().run(trial, reported, listener, *args, **kwargs)


class Watch:
    """The watch over each trial of one tuner, wherever it runs.

    Args:
        tuner: a KerasTuner tuner.
        runner: runs its trials; None for trials that run elsewhere, whose outcomes go to `conclude`.
        on_finding: function that is called with each finding.
        view: shows the trials.
        pruner: of Optuna; ends trials early.
        together: most trials under way in this process.
    """

    def __init__(
        self,
        tuner: Any,
        runner: Any,
        on_finding: Callable[[Finding], None] | None,
        view: View | None,
        pruner: Any = None,
        together: int = 1,
    ) -> None:
        self._pruner, self._pruning, self._together = pruner, None, together
        self._tuner, self._runner, self._on_finding, self._view = tuner, runner, on_finding, view
        self._search, self._end = tuner.search, tuner.on_trial_end
        self._patience = keras_private.own_oracle(tuner).max_consecutive_failed_trials
        # Of each trial that failed, at its last try.
        self._errors: dict[str, str] = {}
        # Trials that have ended since the search began; None outside it.
        self._ended: int | None = None
        self._placeholders = PlaceholderScores(tuner)
        self._best: Record | None = None
        self._taken = [name for name in _TAKEN if runner is not None or name != "run_trial"]
        self._own = {name: vars(tuner)[name] for name in self._taken if name in vars(tuner)}
        for name in self._taken:
            setattr(tuner, name, getattr(self, name))
        keras_private.own_oracle(tuner).max_consecutive_failed_trials = math.inf

    def detach(self) -> None:
        """Give the tuner its methods back."""
        for name in self._taken:
            delattr(self._tuner, name)
        vars(self._tuner).update(self._own)
        keras_private.own_oracle(self._tuner).max_consecutive_failed_trials = self._patience

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Search, with every state file written whole."""
        if self._view is None and self._runner is not None and is_notebook() and kwargs.get("verbose", "auto") != 0:
            return self._search_in_notebook(*args, **kwargs)
        self.begin()
        self._ended = 0
        # KerasTuner collects garbage twice a trial, among all objects of all libraries: a fifth of a second each time.
        gc.freeze()
        try:
            with atomic_state_files():
                if self._together > 1 and keras_private.has_keras_tuners_loop(self._tuner):
                    SideBySide(self._tuner, self._together, self._view.check if self._view else lambda: None).search(*args, **kwargs)
                else:
                    self._search(*args, **kwargs)
        finally:
            self._ended = None
            gc.unfreeze()

    def _search_in_notebook(self, *args: Any, **kwargs: Any) -> None:
        total = None if isinstance(self._tuner, keras_tuner.Hyperband) else self._tuner.oracle.max_trials
        try:
            with View(Console(), self._tuner.oracle.objective.name, total) as self._view:
                # KerasTuner's display and Keras's bars would clear the cell.
                self.search(*args, **{**kwargs, "verbose": 0})
        finally:
            self._view = None

    def begin(self) -> None:
        """Let the pruner know the trials that earlier processes ended, and the view count them."""
        self._pruning = pruning_of(self._tuner, self._pruner)
        if self._view:
            known = collect(self._tuner)
            self._view.knows(known)
            self._best = next((record for record in known if record.score is not None), None)

    def listener(self, trial: Any) -> Listener:
        """Return who is to hear what happens in this trial."""
        return _Teller(trial, self._on_finding, self._view, self._pruning)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one trial and write `diagnosis.json` into its folder."""
        reported = TrialReport()
        return self.conclude(trial, reported, lambda: self._runner.run(trial, reported, self.listener(trial), *args, **kwargs))

    def conclude(self, trial: Any, reported: TrialReport, run: Callable[[], Any]) -> Any:
        """Return the results that `run` returns, with finite scores, and write `diagnosis.json` into the trial's folder."""
        try:
            found, reported.stands_in = self._placeholders.finite(trial, run())
            return found
        except Exception as error:
            reported.error = reported.error or one_line(error)
            self._end_if_all_fail_alike(trial, reported.error, error)
            raise
        finally:
            write_diagnosis(self._tuner, trial, reported)

    def on_trial_end(self, trial: Any) -> None:
        """Let KerasTuner record the trial, replace placeholders of its score, and show it."""
        self._end(trial)
        self._placeholders.renew()
        if self._ended is not None:
            self._ended += 1
            if self._ended in _COMPILED:
                gc.collect()
                gc.freeze()
        if self._pruning is not None:
            self._pruning.study.tell()
        known = trials_of(self._tuner).get(trial.trial_id)
        if self._view and known is not None and known.status in ENDED:
            mine = record_of(self._tuner, known)
            others = [] if self._best is None else [self._best]
            first = in_order([mine, *others], self._tuner.oracle.objective.direction)[0]
            self._best = first if first.score is not None else None
            self._view.trial_ends(mine, self._best)

    def _end_if_all_fail_alike(self, trial: Any, reported: str, error: Exception) -> None:
        # A FailedTrialError says that it is of this trial alone, until it is of very many.
        is_own = isinstance(error, keras_tuner.errors.FailedTrialError)
        self._errors[trial.trial_id] = _NUMBERS.sub("", reported) if is_own else reported
        has_completed = any(t.status == "COMPLETED" for t in trials_of(self._tuner).values())
        patience = self._patience * (_MORE if is_own else 1)
        if not has_completed and len(self._errors) >= patience and len(set(self._errors.values())) == 1:
            raise keras_tuner.errors.FatalRuntimeError(
                f"All {len(self._errors)} trials failed with the same error, so it is not the trial's: {reported}"
            ) from error


class _Teller(Listener):
    """Tells the view, the pruner, and who listens to the monitor, of one trial."""

    def __init__(self, trial: Any, on_finding: Callable[[Finding], None] | None, view: View | None, pruning: Pruning | None = None) -> None:
        self._trial, self._pruning = trial, pruning
        if pruning is not None:
            pruning.study.begin(trial)
        self._number, self._values = number_of(trial), active(trial.hyperparameters)
        self._on_finding, self._view = on_finding, view

    def begins(self, epochs: int) -> None:
        if self._view:
            self._view.trial_begins(self._number, self._values, epochs)

    def batch_begins(self) -> None:
        if self._view:
            self._view.check()

    def epoch_ends(self, epoch: int, score: float | None) -> str | None:
        if self._view:
            self._view.epoch_ends(self._number, epoch, score)
        return None if self._pruning is None else self._pruning.epoch_ends(self._trial, epoch, score)

    def execution_ends(self, scores: Sequence[float | None]) -> str | None:
        return None if self._pruning is None else self._pruning.execution_ends(scores)

    def finds(self, finding: Finding) -> None:
        if self._on_finding is not None:
            self._on_finding(finding)
        if self._view:
            self._view.finds(self._number, finding)
        if self._pruning is not None:
            self._pruning.study.finds(self._trial, str(finding))
