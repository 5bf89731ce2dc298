"""A search as a picture: score against time."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from keras_ext.search.records import Record
from keras_ext.search.report.state import BEST, STATES, state_of, time_unit


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
    for state, mark in STATES.items():
        at = [i for i, r in enumerate(ordered) if state_of(r) == state]
        if at:
            heights = [edge if scores[i] is None else scores[i] for i in at]
            axes.scatter(times[at], heights, marker=mark.marker, color=mark.colour, s=36, label=f"{state}: {len(at)}", zorder=3)  # type: ignore[arg-type]
    if known:
        best = list(itertools.accumulate((edge if s is None else s for s in scores), max if direction == "max" else min))
        axes.step(times, best, where="post", color=BEST, label="best so far", zorder=2)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if direction == "min" and low > 0 and high > 30 * low:
        axes.set_yscale("log")
    axes.set_xlabel(f"{unit} of training")
    axes.set_ylabel(score_name)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
