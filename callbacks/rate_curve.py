"""The losses of a learning-rate range test, and the rate that they suggest."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ext._atomic import saved
from keras_ext._html import shown

# Width of the smoothing, as a share of the steps of a test that reaches its end: the noise of single batches is not a slope.
_WIDTH = 0.08
# A fall by less than so many standard deviations of the smoothed noise is none: the largest of a hundred less the smallest is some four.
_NOISE = 6.0


@dataclass(frozen=True, repr=False)
class RateCurve:
    """The losses of a learning-rate range test; `plot` draws them.

    Args:
        rates: of each step, ascending.
        losses: of each step's batch, before the step; all but the last are finite.
        planned_steps: of the test; it ends earlier where the loss explodes.

    Examples:
        >>> rates = np.geomspace(1e-5, 1, 100)
        >>> curve = RateCurve(tuple(rates), tuple(1 / (1 + rates / 0.01)), planned_steps=100)
        >>> round(float(curve.suggested), 3)
        0.01
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    planned_steps: int

    @property
    def smoothed(self) -> np.ndarray:
        """The losses, each averaged with its neighbours on both sides, which moves no fall to higher rates as a running mean does."""
        losses = np.asarray(self.losses, "float64")
        losses = losses[np.isfinite(losses)]
        if not len(losses):  # not even the first was finite
            return losses
        reach = self._reach
        kernel = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
        inside = np.convolve(np.ones_like(losses), kernel)[reach : reach + len(losses)]
        return np.convolve(losses, kernel)[reach : reach + len(losses)] / inside

    @property
    def suggested(self) -> float | None:
        """The rate at which the loss falls fastest, on a logarithmic axis; a peak, as of `OneCycle`, takes some three times as much.

        None where the loss fell by no more than its noise.
        """
        smoothed = self.smoothed
        if len(smoothed) < 3:
            return None
        lowest = int(np.argmin(smoothed))
        # Of the noise between neighbours before the loss moves, in the first quarter; differences have twice the variance.
        steps = np.diff(np.asarray(self.losses, "float64")[: len(smoothed)][: max(4, self.planned_steps // 4)])
        noise = float(np.sqrt(np.mean(steps**2) / 2) * math.sqrt(2 / (3 * (self._reach + 1))))
        if lowest == 0 or smoothed[: lowest + 1].max() - smoothed[lowest] <= _NOISE * noise:
            return None
        slopes = np.gradient(smoothed, np.log(self.rates[: len(smoothed)]))
        return self.rates[int(np.argmin(slopes[: lowest + 1]))]

    @property
    def lowest_loss_at(self) -> float | None:
        """The rate at which the smoothed loss is lowest, above which training is unstable sooner or later; None where none was finite."""
        smoothed = self.smoothed
        return self.rates[int(np.argmin(smoothed))] if len(smoothed) else None

    def __repr__(self) -> str:
        return f"RateCurve(suggested={self.suggested}, rates {self.rates[0]:.3g} to {self.rates[-1]:.3g} in {len(self.rates)} steps)"

    def _repr_html_(self) -> str:
        return shown(repr(self), self.plot(), "Loss by learning rate")

    @property
    def _reach(self) -> int:
        return max(1, round(_WIDTH * self.planned_steps))

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a matplotlib Figure of loss by rate, with the suggested rate; with `path`, save it too."""
        from matplotlib.figure import Figure

        smoothed, count = self.smoothed, len(self.smoothed)
        figure = Figure(figsize=(7.0, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates[:count], self.losses[:count], ".", color="#9ecae1", label="a batch")
        axes.plot(self.rates[:count], smoothed, color="#1f77b4", label="smoothed")
        suggested, fell = self.suggested, ": the loss did not fall beyond its noise"
        if suggested is not None:
            fell = ""
            axes.axvline(suggested, color="#d7191c", linewidth=1)
            at = smoothed[self.rates.index(suggested)]
            axes.plot([suggested], [at], "o", color="#d7191c", label=f"falls fastest: {suggested:.2g}")
        if count:
            # An explosion would press all before it into a line.
            low, first = float(smoothed.min()), float(smoothed[0])
            span = max(first - low, 1e-3 * abs(first), 1e-12)
            axes.set_ylim(low - 0.15 * span, first + 0.6 * span)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.set_title(f"Learning-rate range test{fell}", fontsize=10)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        return saved(figure, path)
