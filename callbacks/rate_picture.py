"""A learning-rate range test as a picture."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure


def picture(curve: Any) -> Figure:
    """Return loss by rate: each batch as a dot, the smoothed course as a line, the suggested rate marked."""
    smoothed = curve.smoothed
    rates = np.asarray(curve.rates)
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates[: len(smoothed)], curve.losses[: len(smoothed)], ".", color="#9ecae1", label="a batch")
    axes.plot(rates[: len(smoothed)], smoothed, color="#1f77b4", label="smoothed")
    if curve.suggested is not None:
        at = curve.rates.index(curve.suggested)
        axes.axvline(curve.suggested, color="#d7191c", linewidth=1)
        axes.plot([curve.suggested], [smoothed[at]], "o", color="#d7191c", label=f"falls fastest: {curve.suggested:.2g}")
    if len(smoothed):
        # An explosion would press all before it into a line.
        low, first = float(smoothed.min()), float(smoothed[0])
        span = max(first - low, 1e-3 * abs(first), 1e-12)
        axes.set_ylim(low - 0.15 * span, first + 0.6 * span)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    reported = ": the loss did not fall beyond its noise" if curve.suggested is None else ""
    axes.set_title(f"Learning-rate range test{reported}", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
