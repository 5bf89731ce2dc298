"""A search as pictures: score against time, hyperparameters side by side, and which values make unhealthy."""

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_ext.search.records import Record

# How trials that ended early or failed are drawn.
_STATES = {
    "ran through": ("o", "#1f77b4"),
    "stopped by the monitor": ("X", "#d7191c"),
    "pruned": ("D", "#e6a100"),
    "ended by another callback": ("s", "#8c8c8c"),
    "without a score": ("v", "#000000"),
}
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
_PARTS = 4  # of the range of a number, for the shares of symptoms
_A_ROW = 8  # hyperparameters side by side that a page shows in a size one can read


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
    figure, (axes,) = _figure(9.0, 4.0)
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


def parallel_picture(records: Sequence[Record], score_name: str, direction: str) -> Figure:
    """Return a line for each trial through its hyperparameters, coloured by its score; a line ends where a value was not used.

    Many hyperparameters stand in rows, one below the other; the last of a row is the first of the next.

    >>> len(parallel_picture([], "loss", "min").axes)
    1
    """
    names = hyperparameters(records)
    rows = [names[first : first + _A_ROW] for first in range(0, max(len(names) - 1, 1), _A_ROW - 1)]
    width = max(map(len, rows))
    figure, all_axes = _figure(max(7.0, 1.3 * (width + 1)), 4.6 * len(rows), len(rows))
    scales = {name: _Scale([r.hyperparameters[name] for r in records if name in r.hyperparameters]) for name in names}
    ranks = _ranks(records, direction)
    colours = colormaps["viridis"]
    for axes, row in zip(all_axes, rows, strict=True):
        axes.set_axis_off()
        axes.set_xlim(-0.4, width - 0.2)
        axes.set_ylim(-0.02, 1.02)
        # The best are drawn last, on top.
        for record in sorted(records, key=lambda r: ranks.get(r.number, -1.0)):
            rank = ranks.get(record.number)
            _draw_trial(
                axes, row, scales, record, "#bbbbbb" if rank is None else colours(rank), 0.8 if rank is None else 1.0 + 1.5 * rank**4
            )
        for i, name in enumerate(row):
            axes.plot([i, i], [0, 1], color="#59636e", linewidth=0.8, zorder=0)
            for height, text in scales[name].ticks():
                axes.text(i + 0.03, height, text, fontsize=8, va="center", bbox=_PAPER)
            axes.text(i, -0.06, name, rotation=25, ha="right", va="top", fontsize=9)
    if names:
        ends = [(1.0, f"best {score_name}"), (0.5, "median"), (0.0, "worst")]
        handles = [Line2D([], [], color=colours(rank), linewidth=2, label=text) for rank, text in ends]
        handles.append(Line2D([], [], color="#bbbbbb", label="without a score"))
        all_axes[0].legend(handles=handles, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.01), fontsize=9)
    return figure


def _draw_trial(axes: Any, names: Sequence[str], scales: dict[str, "_Scale"], record: Record, colour: Any, width: float) -> None:
    used = record.hyperparameters
    points = [(i, scales[name].height(used[name])) if name in used else None for i, name in enumerate(names)]
    pieces = [[a, b] for a, b in itertools.pairwise(points) if a is not None and b is not None]
    axes.add_collection(LineCollection(pieces, colors=[colour], linewidths=width, alpha=0.85))
    # A value between two that the trial does not use would else be seen nowhere.
    lone = [p for i, p in enumerate(points) if p is not None and not any(points[max(i - 1, 0) : i] + points[i + 1 : i + 2])]
    axes.scatter([p[0] for p in lone], [p[1] for p in lone], color=[colour] * len(lone), s=10)


def symptom_picture(records: Sequence[Record]) -> Figure | None:
    """Return the share of the trials with each hyperparameter value that had each critical symptom; None if no trial had one.

    >>> symptom_picture([]) is None
    True
    """
    symptoms = sorted({s for r in records for s in r.symptoms})
    if not symptoms:
        return None
    rows = [(name, text, mine) for name in hyperparameters(records) for text, mine in by_value(records, name)]
    shares = np.array([[sum(s in r.symptoms for r in mine) / len(mine) for s in symptoms] for _, _, mine in rows])
    figure, (axes,) = _figure(4.2 + 0.8 * len(symptoms), 1.6 + 0.27 * len(rows))
    axes.imshow(shares, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        if share:
            axes.text(j, i, f"{share:.0%}", ha="center", va="center", fontsize=8, color="white" if share > 0.6 else "black")
    axes.set_xticks(range(len(symptoms)), [s.replace("_", " ") for s in symptoms], rotation=30, ha="left", fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [f"{name} {text}  ({len(mine)})" for name, text, mine in rows], fontsize=8)
    axes.tick_params(length=0)
    # A line between hyperparameters.
    for i, ((before, *_), (name, *_)) in enumerate(itertools.pairwise(rows)):
        if name != before:
            axes.axhline(i + 0.5, color="#59636e", linewidth=0.6)
    return figure


def hyperparameters(records: Sequence[Record]) -> list[str]:
    """Return the names of the hyperparameters that differ between trials, in the order in which the trials name them."""
    names = dict.fromkeys(name for r in sorted(records, key=lambda r: -len(r.hyperparameters)) for name in r.hyperparameters)
    values = {name: {r.hyperparameters.get(name) for r in records} for name in names}
    return [name for name in names if len(values[name]) > 1]


def by_value(records: Sequence[Record], name: str) -> list[tuple[str, list[Record]]]:
    """Return the values of a hyperparameter in words, with their trials; numbers of many values in four parts of about as many trials each.

    >>> trials = [Record(i, str(i), "COMPLETED", 0.0, 1, 1.0, "", {"rate": 10.0**-i}) for i in range(8)]
    >>> [(text, [t.number for t in mine]) for text, mine in by_value(trials, "rate")][:2]
    [('1e-07 to 1e-06', [7, 6]), ('1e-05 to 0.0001', [5, 4])]
    """
    having = [r for r in records if name in r.hyperparameters]
    values = sorted({r.hyperparameters[name] for r in having}, key=lambda v: (isinstance(v, str), v))
    if len(values) > _PARTS and all(_is_number(v) for v in values):
        ordered = sorted(having, key=lambda r: r.hyperparameters[name])
        numbers = [r.hyperparameters[name] for r in ordered]
        # Trials of one value stay together.
        bounds = [numbers[i * len(numbers) // _PARTS] for i in range(1, _PARTS)]
        groups = [list(mine) for _, mine in itertools.groupby(ordered, lambda r: bisect.bisect_right(bounds, r.hyperparameters[name]))]
        ends = [(_words(mine[0].hyperparameters[name]), _words(mine[-1].hyperparameters[name])) for mine in groups]
        return [(first if first == last else f"{first} to {last}", mine) for (first, last), mine in zip(ends, groups, strict=True)]
    return [(_words(v), [r for r in having if r.hyperparameters[name] == v]) for v in values]


class _Scale:
    """Where the values of a hyperparameter stand between 0 and 1: numbers by size, or its logarithm, others one above the other."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._places: dict[Any, float] | None = None
        different = sorted(set(values), key=lambda v: (isinstance(v, str), v))
        if not all(_is_number(v) for v in different) or len(different) <= _PARTS:
            self._places = {v: i / max(len(different) - 1, 1) for i, v in enumerate(different)}
            return
        low, high = float(different[0]), float(different[-1])
        self._is_log = low > 0 and high > 30 * low
        self._low, self._high = (math.log(low), math.log(high)) if self._is_log else (low, high)

    def height(self, value: Any) -> float:
        if self._places is not None:
            return self._places[value]
        return ((math.log(value) if self._is_log else value) - self._low) / (self._high - self._low)

    def ticks(self) -> list[tuple[float, str]]:
        if self._places is not None:
            return [(height, _words(v)) for v, height in self._places.items()]
        at = [self._low + share * (self._high - self._low) for share in (0.0, 0.5, 1.0)]
        return [(share, f"{math.exp(v) if self._is_log else v:.3g}") for share, v in zip((0.0, 0.5, 1.0), at, strict=True)]


def _words(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ranks(records: Sequence[Record], direction: str) -> dict[int, float]:
    """Return the share of the scored trials that each is better than, by its number."""
    scored = sorted((r for r in records if r.score is not None), key=lambda r: (r.score or 0.0) * (1 if direction == "max" else -1))
    return {r.number: i / max(len(scored) - 1, 1) for i, r in enumerate(scored)}


def _figure(width: float, height: float, rows: int = 1) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(rows, squeeze=False)[:, 0])
