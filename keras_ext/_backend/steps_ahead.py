"""Several steps of a training at once, handed out one by one as `fit` and `evaluate` ask for them."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

# Numbers in the batches that wait to be trained on, and steps at once where the length of the data is not known.
_MOST_NUMBERS, _MOST_STEPS = 2**23, 64


@dataclass(frozen=True)
class Batches:
    """Batches of one shape for one program, which has room for `room` of them: rows of `arrays`, or themselves where these are None."""

    batches: list[Any]
    room: int
    arrays: Any = None


@dataclass(frozen=True)
class Arrays:
    """Data that is all in memory, `(x, y, sample_weight)` or fewer, and the order in which each epoch takes its samples."""

    arrays: Any
    samples: int
    batch_size: int
    order: Callable[[], np.ndarray]

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the places of the samples of each batch of an epoch."""
        order = self.order()
        for first in range(0, self.samples, self.batch_size):
            yield order[first : first + self.batch_size]


class StepsAhead:
    """Takes the batches of several steps from the iterator of `fit`, so that one program runs these steps.

    `fit` asks for one step after the other. The first request takes the batches of some, and the following ones find them done.

    Args:
        steps: of an epoch; None where that is not known.
        free: function of the number of steps done in this epoch that returns how many may follow before a callback needs the model.
        data: takes the place of the data of `fit`, whose iterator then only counts the steps.
    """

    def __init__(self, steps: int | None, free: Callable[[int], int | None] = lambda done: None, data: Arrays | None = None) -> None:
        self._steps, self._free, self._data = steps, free, data
        self._done = self._ahead = 0
        self._source: Any = None
        self._batches: Iterator[Any] = iter(())
        self._usual: Any = None

    def begin_epoch(self) -> None:
        """Count the steps of a new epoch."""
        self._done = self._ahead = 0
        self._source = None

    def take(self, iterator: Iterator[Any]) -> list[Batches]:
        """Return the batches of the steps that run now; none where this step was run ahead.

        Raises:
            StopIteration: the data has run out.
        """
        if iterator is not self._source:
            self._source, self._ahead = iterator, 0
            self._batches = iterator if self._data is None else self._data.batches()
        if self._ahead:
            self._ahead -= 1
            return []
        batches = list(itertools.islice(self._batches, 1))
        if not batches:
            raise StopIteration
        self._usual = self._usual or _shapes(batches[0])
        room = max(1, min(_MOST_NUMBERS // max(1, _numbers(batches[0])), self._steps or _MOST_STEPS))
        free = self._free(self._done)
        batches += itertools.islice(self._batches, max(0, (room if free is None else min(room, free)) - 1))
        self._done += len(batches)
        self._ahead = len(batches) - 1
        groups = [list(group) for _, group in itertools.groupby(batches, _shapes)]
        arrays = None if self._data is None else self._data.arrays
        # The last batch of an epoch may be smaller, and has a program without room for others.
        return [Batches(group, room if _shapes(group[0]) == self._usual else len(group), arrays) for group in groups]


def _numbers(batch: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in tree.flatten(batch) if hasattr(leaf, "shape"))


def _shapes(batch: Any) -> list[Any]:
    return [(tuple(leaf.shape), str(leaf.dtype)) if hasattr(leaf, "shape") else leaf for leaf in tree.flatten(batch)]
