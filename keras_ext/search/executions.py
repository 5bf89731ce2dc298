"""The trainings of the trial that runs: the number of each, and their end where a pruner has ended the trial."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class Executions:
    """Counts the trainings of a trial (KerasTuner's `executions_per_trial`).

    Args:
        is_over: function that returns whether the trainings that follow are left out.
        ended: is called after each training.
    """

    def __init__(self, is_over: Callable[[], bool] = lambda: False, ended: Callable[[], None] = lambda: None) -> None:
        self._is_over, self._ended = is_over, ended
        # Of the training that runs, or ran last.
        self.number = -1
        self._runs, self._left_out = False, 0
        # Of the training before those that are left out.
        self._model: Any = None
        self._found: Any = None

    def build(self, build: Callable[[], Any]) -> Any:
        """Return the model that `build` returns, or the last one where nothing trains it."""
        return build() if self._model is None else self._model

    def fit(self, model: Any, fit: Callable[[], Any]) -> Any:
        """Return what `fit` returns, or where the training is left out what the last one returned."""
        if self._runs:  # a hypermodel of two tuners
            return fit()
        if self._model is not None:
            self._left_out += 1
            return self._found
        self.number += 1
        self._runs = True
        try:
            self._found = fit()
        finally:
            self._runs = False
        self._ended()
        if self._is_over():
            self._model = model
        return self._found

    def trained(self, found: Any) -> Any:
        """Return the results of a trial without those of the trainings that were left out."""
        return found[: len(found) - self._left_out] if self._left_out and isinstance(found, list) else found


_current: ContextVar[Executions | None] = ContextVar("executions", default=None)


def current() -> Executions | None:
    """Return the executions of the trial that runs in this thread, or None."""
    return _current.get()


@contextmanager
def of_trial(executions: Executions) -> Iterator[Executions]:
    """Make these the current ones while the block runs."""
    token = _current.set(executions)
    try:
        yield executions
    finally:
        _current.reset(token)
