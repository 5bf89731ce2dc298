"""One figure: ours against Keras's own part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measuring.measure import Spread, own_cost_ratios, ratios, spread


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

    @classmethod
    def of(
        cls, part: str, case: str, mode: str, *, ours: Sequence[float], keras: Sequence[float], own: bool = False, **more: Any
    ) -> "Figure":
        """Return the figure of two series of rounds: seconds, which become ms, or numbers in another `unit`.

        Args:
            part: as of the class, like `case`, `mode` and `more`.
            case: what was measured.
            mode: how it was compiled.
            ours: a number a round.
            keras: likewise.
            own: whether they are own costs, differences that the noise may hide.
            **more: the other fields.
        """
        scale = 1e3 if more.get("unit", cls.unit) == "ms" else 1.0
        ratio = (own_cost_ratios if own else ratios)(ours, keras)
        return cls(part, case, mode, scale * spread(keras).median, scale * spread(ours).median, ratio, len(ours), **more)

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
