"""Processes that run trials: their interface, and the events that they report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from keras_ext.parallel.job import Job


@dataclass(frozen=True)
class WorkerEvent:
    """A message of a worker about a trial.

    Args:
        name: of the trial.
        what: `"started"`, `"exceeds"`, a method of `Listener`, `"ended"` (with an Outcome) or `"died"` (with the reason).
        values: that belong to it.
    """

    name: str
    what: str
    values: tuple[Any, ...] = ()


class Workers(Protocol):
    """Processes that run trials."""

    def start(self, jobs: Sequence[Job]) -> None:
        """Begin to run trials in one process, together if they are several."""
        ...

    def events(self, timeout: float) -> Iterator[WorkerEvent]:
        """Yield all that has happened; wait for the first of it for at most `timeout` seconds."""
        ...

    def kill(self, name: str) -> None:
        """End the process of a trial, of which no event is to come any more."""
        ...

    def answer(self, name: str, reason: str | None) -> None:
        """Answer a trial that waits at the end of an epoch or a training: why it is to end now, or None."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...
