"""A search as a picture: score against time."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from keras_ext.search.records import Record
from keras_ext.search.report.state import BEST, STATES, course, state_of


def score_picture(records: Sequence[Record], score_name: str, direction: str) -> Figure:
    """Return the score of each trial at the time when it ended, and the best so far as a line.

    >>> score_picture([], "loss", "min").axes[0].get_ylabel()
    'loss'
    """
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    axes = figure.subplots()
    ordered, unit, times, best, is_wide = course(records, direction)
    known = [(at, r.score) for at, r in zip(times, ordered, strict=True) if r.score is not None]
    # A trial without a score stands at the worse edge.
    edge = (min if direction == "max" else max)((score for _, score in known), default=0.0 if direction == "max" else 1.0)
    for state, mark in STATES.items():
        at = [(t, edge if r.score is None else r.score) for t, r in zip(times, ordered, strict=True) if state_of(r) == state]
        if at:
            axes.scatter(*zip(*at, strict=True), marker=mark.marker, color=mark.colour, s=36, label=f"{state}: {len(at)}", zorder=3)  # type: ignore[arg-type]
    if known:
        axes.step([t for t, _ in known], best, where="post", color=BEST, label="best so far", zorder=2)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if is_wide:
        axes.set_yscale("log")
    axes.set_xlabel(f"{unit} of training")
    axes.set_ylabel(score_name)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
