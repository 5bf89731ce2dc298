"""What a comparison gives: two medians and their ratio with its quartiles."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The median of some values and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of `values`."""
        low, median, high = (float(q) for q in np.percentile(values, [25, 50, 75]))
        return cls(median, low, high)

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


Cell = float | str | Spread | None


@dataclass(frozen=True)
class Figure:
    """One measured comparison.

    `keras` and `ours` are median costs in `unit`, as are the further ones in `detail`. `ratio` is that of ours over Keras's, round by
    round, or None where the noise hides Keras's cost. With `percent` it is shown as what ours adds.
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

    @property
    def row(self) -> dict[str, Cell]:
        """The figure as a row of a table, by column."""
        row: dict[str, Cell] = {"Keras's": self.keras, "ours": self.ours, "unit": self.unit, "ours - Keras's": self.ours - self.keras}
        if self.ratio is None:
            without = self.detail.get("step without", 0.0)
            row |= {"ours / Keras's": None, "whole steps": (without + max(self.ours, 0.0)) / (without + max(self.keras, 0.0))}
        elif self.percent:
            row["adds %"] = Spread(*(100 * (value - 1) for value in (self.ratio.median, self.ratio.low, self.ratio.high)))
        else:
            row["ours / Keras's"] = self.ratio
        return row | {"rounds": self.rounds, **self.detail}


def ratios(ours: Sequence[float], keras: Sequence[float]) -> Spread:
    """Return the spread of the ratios of each round in which Keras's cost is positive."""
    return Spread.of([a / b for a, b in zip(ours, keras, strict=True) if b > 0])
