"""How a figure is measured: interleaved rounds, synchronised samples, medians with quartiles. Pure arithmetic and a clock."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Clock = Callable[[], float]
# Runs one sample and returns its seconds.
Sample = Callable[[], float]
WARM_UP = 3
# A difference is above the noise if it is positive in this share of the rounds.
SURE = 0.9


@dataclass(frozen=True)
class Effort:
    """How much time goes into one figure.

    `seconds` is the time for its rounds, of which there are `least` to `most`. A sample repeats its step until it lasts about
    `sample_seconds`. `small` shrinks the cases: a trial of the frame, whose figures say nothing.
    """

    seconds: float = 6.0
    least: int = 7
    most: int = 100
    sample_seconds: float = 0.02
    small: bool = False


QUICK = Effort(seconds=0.0, least=2, most=2, sample_seconds=0.0, small=True)


@dataclass(frozen=True)
class Spread:
    """The median of some values and their quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as a person reads it.

        >>> str(Spread(0.5, 0.25, 0.75))
        '0.50 (0.25 to 0.75)'
        """
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles of `values`.

    >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
    Spread(median=3.0, low=2.0, high=4.0)
    """
    low, median, high = (float(q) for q in np.percentile(values, [25, 50, 75]))
    return Spread(median, low, high)


def samples(
    steps: Mapping[str, Callable[[], Any]], wait: Callable[[Any], None], effort: Effort, clock: Clock = time.perf_counter
) -> dict[str, Sample]:
    """Warm the steps up and return a sample of each, which gives the seconds of one step.

    All samples repeat their step equally often: as often as the fastest needs to last `effort.sample_seconds`.

    Args:
        steps: functions that start one step and return what is to be waited for.
        wait: returns once what it is given has been computed.
        effort: how long a sample lasts.
        clock: seconds.
    """

    def timed(step: Callable[[], Any], repeats: int) -> float:
        start = clock()
        result = None
        for _ in range(repeats):
            result = step()
        wait(result)
        return (clock() - start) / repeats

    for step in steps.values():
        timed(step, WARM_UP)
    fastest = min(timed(step, 1) for step in steps.values())
    repeats = max(1, math.ceil(effort.sample_seconds / max(fastest, 1e-6)))
    return {name: lambda step=step: timed(step, repeats) for name, step in steps.items()}


def interleave(variants: Mapping[str, Sample], effort: Effort, clock: Clock = time.perf_counter) -> dict[str, list[float]]:
    """Return the seconds of each variant, one value a round; each round runs all of them once, in the next of their possible orders."""
    orders = list(itertools.permutations(variants))
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    end = clock() + effort.seconds
    for i in range(effort.most):
        if i >= effort.least and clock() >= end:
            break
        for name in orders[i % len(orders)]:
            seconds[name].append(variants[name]())
    return seconds


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the spread of the ratios of each round.

    >>> ratios([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]).median
    1.0
    """
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def exponent(work: Sequence[float], seconds: Sequence[float]) -> float | None:
    """Return the power of the work that the time grows with; None where a time is not positive.

    It is the slope of the logarithms by least squares.

    >>> round(exponent([1, 10, 100], [0.2, 2.0, 20.0]), 6)
    1.0
    """
    if min(seconds) <= 0:
        return None
    return float(np.polyfit(np.log(work), np.log(seconds), 1)[0])


def added(with_it: Sequence[float], without: Sequence[float]) -> list[float]:
    """Return what a part adds in each round."""
    return [a - b for a, b in zip(with_it, without, strict=True)]


def own_cost_ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Return the spread of the ratios of two added costs, or None where theirs is within the noise.

    It is within the noise unless it is positive in nine rounds of ten. The other rounds have no ratio.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if b > 0]
    if len(pairs) < SURE * len(theirs):
        return None
    return ratios(*zip(*pairs, strict=True))
