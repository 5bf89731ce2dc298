"""One figure: ours against Keras's own part."""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.measuring.measure import Spread


@dataclass(frozen=True)
class Figure:
    """One comparison.

    `keras` and `ours` are the medians of what is compared, in `unit`. `ratio` is the median of ours over Keras's, round by
    round, with its quartiles, or None where the noise hides it. With `percent` the ratio is that of the same fit with and without a part,
    and is shown as what the part adds. `detail` holds further medians, in `unit`. `work` is given where
    the same is measured with more and more: how many times the work of the least.
    """

    part: str
    case: str
    mode: str
    keras: float
    ours: float
    ratio: Spread | None
    rounds: int
    percent: bool = False
    unit: str = "ms"
    detail: dict[str, float] = field(default_factory=dict)
    work: int | None = None

    def __str__(self) -> str:
        """Return the ratio, or what is added in percent, as a person reads it."""
        if self.ratio is None:
            return "within the noise"
        if self.percent:
            numbers = (self.ratio.median, self.ratio.low, self.ratio.high)
            return "{:+.1f} % ({:+.1f} to {:+.1f})".format(*(100 * (n - 1) for n in numbers))
        return str(self.ratio)


@dataclass(frozen=True)
class Case:
    """A figure still to be measured, and its name on the way."""

    title: str
    measure: Callable[[], Figure]
