"""A search as a picture: score against time."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from keras_ext.search.records import Record

# How trials that ended early or failed are drawn.
_STATES = {
    "ran through": ("o", "#1f77b4"),
    "stopped by the monitor": ("X", "#d7191c"),
    "pruned": ("D", "#e6a100"),
    "ended by another callback": ("s", "#8c8c8c"),
    "without a score": ("v", "#000000"),
}


def state_of(record: Record) -> str:
    """Return how a trial ended: a key of the picture's legend."""
    if record.score is None:
        return "without a score"
    if not record.ended:
        return "ran through"
    if record.is_pruned:
        return "pruned"
    return "stopped by the monitor" if record.symptoms else "ended by another callback"


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the unit in which a time reads well, and its seconds.

    >>> time_unit(17.0), time_unit(3000.0)
    (('seconds', 1), ('minutes', 60))
    """
    return ("seconds", 1) if seconds < 120 else ("minutes", 60) if seconds < 7200 else ("hours", 3600)


def score_picture(records: Sequence[Record], score_name: str, direction: str) -> Figure:
    """Return the score of each trial at the time when it ended, and the best so far as a line.

    >>> score_picture([], "loss", "min").axes[0].get_ylabel()
    'loss'
    """
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(records, key=lambda r: r.number)
    unit, length = time_unit(sum(r.seconds for r in ordered))
    times = np.cumsum([r.seconds for r in ordered]) / length
    scores = [r.score for r in ordered]
    known = [s for s in scores if s is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    # A trial without a score stands at the worse edge.
    edge = low if direction == "max" else high
    for state, (marker, colour) in _STATES.items():
        at = [i for i, r in enumerate(ordered) if state_of(r) == state]
        if at:
            heights = [edge if scores[i] is None else scores[i] for i in at]
            axes.scatter(times[at], heights, marker=marker, color=colour, s=36, label=f"{state}: {len(at)}", zorder=3)  # type: ignore[arg-type]
    if known:
        best = list(itertools.accumulate((edge if s is None else s for s in scores), max if direction == "max" else min))
        axes.step(times, best, where="post", color="#1a6b32", label="best so far", zorder=2)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if direction == "min" and low > 0 and high > 30 * low:
        axes.set_yscale("log")
    axes.set_xlabel(f"{unit} of training")
    axes.set_ylabel(score_name)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
