"""The batches of an epoch in the parts that a program trains on at once."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

# Numbers in the batches that wait to be trained on.
_MOST_NUMBERS = 2**23


@dataclass(frozen=True)
class Batches:
    """Batches of one shape for one program, which has room for `room` of them: rows of `arrays`, or themselves where these are None."""

    batches: list[Any]
    room: int
    arrays: Any = None

    def padded(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Return one array of those of all batches, with a first axis of `room`."""
        stacked = np.zeros((self.room, *arrays[0].shape), arrays[0].dtype)
        stacked[: len(arrays)] = arrays
        return stacked


# Takes the steps of some batches, and returns the state after them: `(trains, state, batches, step)`. One step of the model by itself is
# `step(state, places, arrays)`.
Take = Callable[[bool, Any, Batches, Callable[[Any, Any, Any], Any]], Any]


@dataclass(frozen=True)
class Arrays:
    """Data that is all in memory, `(x, y, sample_weight)` or fewer, and the order in which each epoch takes its samples."""

    arrays: Any
    samples: int
    batch_size: int
    order: Callable[[], np.ndarray]

    @property
    def steps(self) -> int:
        """The number of batches."""
        return -(-self.samples // self.batch_size)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the places of the samples of each batch of an epoch."""
        order = self.order()
        for first in range(0, self.samples, self.batch_size):
            yield order[first : first + self.batch_size]


class EpochSteps:
    """The steps of an epoch that follow each other without a callback between them; `done` counts those of the last epoch.

    Args:
        steps: of an epoch.
        data: takes the place of the data of `fit`.
        free: function of the steps done that returns how many may follow before a callback needs the model; None: all.
        between: function of the steps done, called where a callback needs the model.
        stops: function that returns whether the training stops; a step that has begun is taken.
    """

    def __init__(
        self,
        steps: int,
        data: Arrays | None = None,
        free: Callable[[int], int | None] = lambda done: None,
        between: Callable[[int], None] = lambda done: None,
        stops: Callable[[], bool] = lambda: False,
    ) -> None:
        self._steps, self._data = steps, data
        self._free, self._between, self._stops = free, between, stops
        self._usual: Any = None
        self.done = 0

    def parts(self, iterator: Iterator[Any], show: Callable[[], Any]) -> Iterator[Batches]:
        """Yield the batches of an epoch; `show` is called before a callback needs the model, which it gives the state so far."""
        batches = itertools.islice(iterator, self._steps) if self._data is None else self._data.batches()
        self.done, free = 0, self._free(0)
        for first in batches:
            if free is not None and self.done and free <= 0:
                with show():
                    self._between(self.done)
                free = self._free(self.done)
            stops = self.done > 0 and self._stops()
            self._usual = self._usual or _shapes(first)
            room = max(1, min(_MOST_NUMBERS // max(1, _numbers(first)), self._steps))
            taken = [first, *itertools.islice(batches, (1 if stops else room if free is None else min(room, free)) - 1)]
            for _, group in itertools.groupby(taken, _shapes):
                same = list(group)
                # The last batch of an epoch may be smaller, and has a program without room for others.
                is_usual = _shapes(same[0]) == self._usual
                yield Batches(same, room if is_usual else len(same), None if self._data is None else self._data.arrays)
            self.done += len(taken)
            free = None if free is None else free - len(taken)
            if stops:
                return


def _numbers(batch: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in tree.flatten(batch) if hasattr(leaf, "shape"))


def _shapes(batch: Any) -> list[Any]:
    return [(tuple(leaf.shape), str(leaf.dtype)) if hasattr(leaf, "shape") else leaf for leaf in tree.flatten(batch)]
