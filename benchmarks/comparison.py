"""The one way to compare our part with Keras's: in one process, in turn, after a warm-up, waiting for the device."""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from benchmarks.figure import Figure, Spread, ratios

# Starts some work and returns what is to be waited for; if it is not timed, it returns its cost.
Step = Callable[[], Any]
Clock = Callable[[], float]
Samples = Mapping[str, Callable[[], float]]
MOST_ROUNDS, WARM_UP = 100, 3
# A difference counts as a cost if it is positive in this share of the rounds.
SURE = 0.9
# A sample repeats its step until it lasts about so long.
SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Comparison:
    """Our part against Keras's on a case, in a mode of Keras, still to be measured.

    `ours` and `keras` build the steps that are compared. `without` builds the step with neither, whose cost is subtracted from both; with
    `added`, `ours` is what our part adds to Keras's step. The cost is the step's time in ms, or, if it is not `timed`, the number in
    `unit` that the step returns. With `percent` the figure is shown as what ours adds. There are at least so many `rounds`, and further
    ones begin within so many `seconds`. The steps may fill `detail` with further numbers for the page.
    """

    part: str
    case: str
    mode: str
    ours: Callable[[], Step]
    keras: Callable[[], Step]
    without: Callable[[], Step] | None = None
    _: KW_ONLY
    added: bool = False
    timed: bool = True
    unit: str = "ms"
    percent: bool = False
    rounds: int = 7
    seconds: float = 6.0
    detail: dict[str, float] = field(default_factory=dict)

    def measure(self, quick: bool, wait: Callable[[Any], None], clock: Clock = time.perf_counter) -> Figure:
        """Return the figure; `wait` returns once what it is given has been computed, and quick are two rounds of one step each."""
        builders = {"ours": self.ours, "keras": self.keras, "without": self.without}
        samples = {name: build() for name, build in builders.items() if build is not None}
        if self.timed:
            # A step that does nothing takes microseconds: as many repeats of the others would take minutes.
            apart = {name: samples.pop(name) for name in ("without",) if name in samples}
            samples = {**timed(samples, quick, wait, clock), **timed(apart, quick, wait, clock)}
        return self.figure(interleave(samples, *((2, 2, 0.0) if quick else (self.rounds, MOST_ROUNDS, self.seconds)), clock))

    def figure(self, costs: Mapping[str, list[float]]) -> Figure:
        """Return the figure of the costs of each round."""
        ours, keras, detail = costs["ours"], costs["keras"], dict(self.detail)
        scale = 1e3 if self.timed else 1.0
        if self.without is not None:
            detail["step without"] = scale * Spread.of(costs["without"]).median
            ours, keras = ([a - b for a, b in zip(both, costs["without"], strict=True)] for both in (ours, keras))
        if self.added:
            ours = [a + b for a, b in zip(ours, keras, strict=True)]
        sure = self.without is None or sum(b > 0 for b in keras) >= SURE * len(keras)
        ratio = ratios(ours, keras) if sure else None
        theirs, mine = (scale * Spread.of(values).median for values in (keras, ours))
        return Figure(self.part, self.case, self.mode, theirs, mine, ratio, len(ours), self.percent, self.unit, detail)


def timed(steps: Mapping[str, Step], quick: bool, wait: Callable[[Any], None], clock: Clock) -> Samples:
    """Warm the steps up and return what gives the seconds of each, repeated as often as the fastest needs to last `SAMPLE_SECONDS`."""

    def seconds(step: Step, repeats: int) -> float:
        begin, result = clock(), None
        for _ in range(repeats):
            result = step()
        wait(result)
        return (clock() - begin) / repeats

    for step in steps.values():
        seconds(step, WARM_UP)
    fastest = min((seconds(step, 1) for step in steps.values()), default=0.0)
    repeats = 1 if quick else max(1, math.ceil(SAMPLE_SECONDS / max(fastest, 1e-6)))
    return {name: lambda step=step: seconds(step, repeats) for name, step in steps.items()}


def interleave(samples: Samples, least: int, most: int, seconds: float, clock: Clock = time.perf_counter) -> dict[str, list[float]]:
    """Return the costs of each sample, one a round; each round runs all once, in the next of their possible orders.

    None after the first `least` begins once the `seconds` are over.
    """
    orders = list(itertools.permutations(samples))
    costs: dict[str, list[float]] = {name: [] for name in samples}
    end = clock() + seconds
    for i in range(most):
        if i >= least and clock() >= end:
            break
        for name in orders[i % len(orders)]:
            costs[name].append(samples[name]())
    return costs
