"""A search in which several trials are under way: those of one structure take their steps in one program."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from keras_ext import _backend
from keras_ext._checks import bad_argument, integer
from keras_ext.search.together.stacked_program import Request
from keras_ext.search.together.trial_thread import Rung, TrialThread
from keras_ext.search.trial_run import TrialLoop


def models_at_once(together: Any, is_alone: bool = False) -> int:
    """Return the number that `together` stands for on this backend; 0 for none. `is_alone`: a process runs one trial at a time.

    Raises:
        ValueError: `together` is no number, `"auto"` or `"off"`, or above 1 on TensorFlow.
    """
    programs = _backend.step_programs()
    if together == "off":
        return 0
    if together == "auto":
        return 1 if is_alone else programs.side_by_side()
    if isinstance(together, str):
        raise bad_argument("together", 'a number of trials, "auto" or "off"', together)
    count = integer("together", together, 1)
    if count > 1 and programs.StackedSteps is None:
        raise bad_argument("together", '1, "auto" or "off" on TensorFlow', together, "There trials of one structure run one after another.")
    return 1 if is_alone else count


@dataclass
class _Open:
    """A trial under way.

    Args:
        thread: runs it.
        place: how many trials had begun before it.
        cohort: how often trials had begun before it: those that begin at once are of one.
    """

    thread: TrialThread
    place: int
    cohort: int


class Turns:
    """Runs trials, each in a thread of its own, one of them at a time.

    A trial pauses where its model is to train, and its steps are taken with those of the other trials that wait for the same program. A
    trial that has waited while `most` others began goes first.

    Args:
        most: trials under way.
        check: is called between programs, and may raise to end all of them.
    """

    def __init__(self, most: int, check: Callable[[], None] = lambda: None) -> None:
        self._most, self._check = most, check
        self._open: list[_Open] = []
        self._begun = self._cohorts = 0

    def run(self, next_trial: Callable[[], Callable[[], None] | None]) -> None:
        """Run the trials that `next_trial` returns as functions, until it returns None. An interruption ends those under way."""
        try:
            while self._begin_trials(next_trial):
                group = self._next_group()
                requests = [each.thread.request for each in group]
                if isinstance(requests[0], Request):
                    requests[0].program.run(requests)
                self._resume(group)
                self._check()
        finally:
            for each in self._open:
                each.thread.close()

    def _begin_trials(self, next_trial: Callable[[], Callable[[], None] | None]) -> bool:
        """Begin trials until enough wait for a program, and return whether any does."""
        while len(self._open) < self._most and (function := next_trial()) is not None:
            self._open.append(_Open(TrialThread(function), self._begun, self._cohorts))
            self._begun += 1
            self._resume(self._open[-1:])
            self._check()
        self._cohorts += 1
        return bool(self._open)

    def _resume(self, group: Sequence[_Open]) -> None:
        for each in group:
            each.thread.resume()
            if each.thread.is_done:
                self._open.remove(each)

    def _next_group(self) -> list[_Open]:
        groups = defaultdict(list)
        for each in self._open:
            groups[each.thread.request.key].append(each)
        steps: list[list[_Open]] = []
        for group in groups.values():
            if not isinstance(group[0].thread.request, Rung):
                steps.append(group)
            elif self._is_complete(group):
                return group

        def first(group: list[_Open]) -> Any:
            return self._begun - group[0].place > 2 * self._most, len(group), -group[0].place

        return max(steps, key=first)

    def _is_complete(self, group: Sequence[_Open]) -> bool:
        """Return whether all trials that began with the last of `group`, or before, have come as far."""
        last = max(each.cohort for each in group)
        return all(each.thread.epoch >= group[0].thread.epoch for each in self._open if each.cohort <= last)


class SideBySide:
    """Runs the search of one KerasTuner `tuner`, whose trials take their steps together.

    Args:
        tuner: whose `run_trial` runs one trial.
        most: trials under way.
        check: as of `Turns`.
    """

    def __init__(self, tuner: Any, most: int, check: Callable[[], None]) -> None:
        self._tuner, self._turns = tuner, Turns(most, check)
        self._last: Any = None
        self._loop = TrialLoop(tuner)

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Search to the end. An interruption ends the trials under way, which start again when the search goes on."""
        if kwargs.get("verbose") is not None:
            self._tuner.oracle.verbose = kwargs["verbose"]
        self._tuner.on_search_begin()
        self._turns.run(lambda: self._next(args, kwargs))
        self._tuner.on_search_end()

    def _next(self, args: Any, kwargs: Any) -> Callable[[], None] | None:
        if self._last is not None:
            # What only its model asks for is drawn for the next trial, as it would be if this one had ended.
            self._tuner.oracle.update_space(self._last.hyperparameters)
        trial = self._last = self._loop.begin()
        return None if trial is None else lambda: self._run(trial, args, dict(kwargs))

    def _run(self, trial: Any, args: Any, kwargs: Any) -> None:
        self._loop.end(trial, lambda: self._tuner.run_trial(trial, *args, **kwargs))
