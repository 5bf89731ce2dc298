"""How the trials of a search ended, as its pictures show it."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from keras_ext.search.records import Record


class Mark(NamedTuple):
    """A colour, and the marker of this shape in matplotlib and in plotly."""

    colour: str
    marker: str
    symbol: str


# Colours that the colour-blind can tell apart (Okabe and Ito 2008).
STATES = {
    "ran through": Mark("#0072b2", "o", "circle"),
    "stopped by the monitor": Mark("#d55e00", "X", "x"),
    "pruned": Mark("#e69f00", "D", "diamond"),
    "ended by another callback": Mark("#7f7f7f", "s", "square"),
    "without a score": Mark("#000000", "v", "triangle-down"),
}
BEST = "#009e73"


def state_of(record: Record) -> str:
    """Return how a trial ended: a key of `STATES`."""
    if record.score is None:
        return "without a score"
    if not record.ended:
        return "ran through"
    if record.is_pruned:
        return "pruned"
    return "stopped by the monitor" if record.symptoms else "ended by another callback"


class Course(NamedTuple):
    """The trials in their order, when each ended in that unit, the best score so far where one has a score, and whether scores span far."""

    records: list[Record]
    unit: str
    times: list[float]
    best: list[float]
    is_wide: bool


# A range that is shown by its logarithm.
_WIDE = 30


def course(records: Sequence[Record], direction: str) -> Course:
    """Return the course of a search.

    >>> course([], "min").unit
    'seconds'
    """
    ordered = sorted(records, key=lambda r: r.number)
    unit, length = time_unit(sum(r.seconds for r in ordered))
    times = [at / length for at in itertools.accumulate(r.seconds for r in ordered)]
    scores = [r.score for r in ordered if r.score is not None]
    best = list(itertools.accumulate(scores, max if direction == "max" else min))
    return Course(ordered, unit, times, best, direction == "min" and is_wide(scores))


def is_wide(values: Sequence[float]) -> bool:
    """Return whether numbers span so far that their logarithms show them better.

    >>> is_wide([0.01, 0.31]), is_wide([0.01, 0.29]), is_wide([0.0, 9.0]), is_wide([])
    (True, False, False, False)
    """
    return bool(values) and min(values) > 0 and max(values) > _WIDE * min(values)


def time_unit(seconds: float) -> tuple[str, int]:
    """Return the unit in which a time reads well, and its seconds.

    >>> time_unit(17.0), time_unit(3000.0)
    (('seconds', 1), ('minutes', 60))
    """
    return ("seconds", 1) if seconds < 120 else ("minutes", 60) if seconds < 7200 else ("hours", 3600)
