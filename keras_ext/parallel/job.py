"""The data that travel between a search and the processes of its trials."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search.trial_report import TrialReport

# Where a pruner decides, a trial waits for the search's answer to these.
ANSWERED = ("epoch_ends", "execution_ends")
# Tells the search what happens in the trial of a name, and returns its answer if there is one.
Report = Callable[[str, str, tuple[Any, ...]], Any]


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
        together: most trials of a process that train at once; 1: they share programs one after another, 0: they share none.
        prunes: whether the search answers at the end of each epoch and training whether the trial goes on.
        token: the same in each process.
    """

    make_tuner: Callable[[str], Any]
    monitor: SaturationMonitor | None
    seed: int
    policy: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    strategy: str | None = None
    memory_limit: int | None = None
    together: int = 1
    prunes: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def answers(self, what: str) -> bool:
        """Return whether a trial that tells this waits for an answer."""
        return self.prunes and what in ANSWERED


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
