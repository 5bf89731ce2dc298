"""The steps that models of one structure take side by side in one program, where that is faster than one after another."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_ext import _backend
from keras_ext._wording import one_line

# A program takes as long to trace as about so many steps of `fit` take.
_STEPS_WORTH_TRACING = 300


@dataclass
class Request:
    """Batches that a model is to train on, or to be tested on.

    Args:
        program: that takes the steps.
        trains: whether the model trains.
        model: of the trial.
        state: of its training, where the backend keeps it beside the model; the new one when it is done.
        places: for each batch the places of its samples in `arrays`.
        arrays: `(x, y, sample_weight)` or fewer.
        done: how many of the batches the program took; 0: the model takes the next step by itself.
        together: how many models took them.
        seconds: this model's share of the time.
    """

    program: "StackedProgram"
    trains: bool
    model: Any
    state: Any
    places: Sequence[Any]
    arrays: Any
    done: int = 0
    together: int = 0
    seconds: float = 0.0

    @property
    def key(self) -> Any:
        """The same for requests that one run of the program can serve."""
        return id(self.program), self.trains, len(self.places[0]), id(self.arrays)


@dataclass
class StackedProgram:
    """Programs of the training and test steps of models of one structure.

    Args:
        model: the first of them.
        most: models at once.
        reading: function of a step that lets it read the numbers in which the models differ.
        steps: that models of the structure have asked for.
        refused: why no steps are taken side by side.
    """

    model: Any
    most: int
    reading: Callable[[Callable[..., Any]], Callable[..., Any]]
    steps: int = 0
    refused: str | None = None
    _own: list[float] = field(default_factory=list)
    _runs: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        stacked = _backend.step_programs().StackedSteps
        self._steps = {trains: stacked(self.model, trains, self.reading) for trains in (True, False)}
        self._traced: set[bool] = set()

    def takes(self) -> bool:
        """Return whether the program takes the next training step; if not, the model takes it by itself, whose time it wants to know."""
        known = len(self._own) >= 3 or not self._steps[True].has_own_steps
        return self.refused is None and self.steps >= _STEPS_WORTH_TRACING and known

    def note_own_step(self, seconds: float) -> None:
        """Keep the time that a model took for a training step by itself."""
        if len(self._own) < 3:
            self._own.append(seconds)

    def run(self, requests: Sequence[Request]) -> None:
        """Serve requests of one key, `most` at once, as far as the shortest goes."""
        count = min(len(request.places) for request in requests)
        while requests and self.takes():
            group, requests = requests[: self.most], requests[self.most :]
            try:
                self._take(group, count)
            except Exception as error:
                self._fail(group, error)
                requests = [*(group if self.refused is None else ()), *requests]

    def _take(self, group: Sequence[Request], count: int) -> None:
        trains, began = group[0].trains, time.monotonic()
        models, before, places = [each.model for each in group], [each.state for each in group], [each.places[:count] for each in group]
        states, seconds = self._steps[trains].run(models, before, places, group[0].arrays, self.most)
        self._traced.add(trains)
        for request, state in zip(group, states, strict=True):
            request.state, request.done, request.together = state, count, len(group)
            request.seconds = (time.monotonic() - began) / len(group)
        if trains and count > 1:
            self._compare(len(group), seconds)

    def _compare(self, models: int, seconds: float) -> None:
        """Take fewer models at once, or none, where they are slower than one after another."""
        self._runs[models] = self._runs.get(models, 0) + 1
        # The first step by itself compiles.
        if len(self._own) > 1 and self._runs[models] == 2 and seconds / models > min(self._own[1:]):
            self.most = models // 2
            if self.most == 0:
                self.refused = "its steps are faster one after another"

    def _fail(self, group: Sequence[Request], error: Exception) -> None:
        if _backend.step_programs().is_out_of_memory(error) and len(group) > 1:
            self.most = len(group) // 2
        else:
            # Each model takes the step by itself, and raises what is its own.
            begun = group[0].trains in self._traced
            self.refused = f"its step {'failed' if begun else 'cannot be traced'} ({one_line(error)})"
