"""The values that the hyperparameters of a search had, and the trials that had them."""

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

from keras_ext._checks import is_number
from keras_ext.search.records import Record

_PARTS = 4  # of the range of a number of many values


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
    if len(values) > _PARTS and all(is_number(v) for v in values):
        ordered = sorted(having, key=lambda r: r.hyperparameters[name])
        numbers = [r.hyperparameters[name] for r in ordered]
        # Trials of one value stay together.
        bounds = [numbers[i * len(numbers) // _PARTS] for i in range(1, _PARTS)]
        groups = [list(mine) for _, mine in itertools.groupby(ordered, lambda r: bisect.bisect_right(bounds, r.hyperparameters[name]))]
        ends = [(words(mine[0].hyperparameters[name]), words(mine[-1].hyperparameters[name])) for mine in groups]
        return [(first if first == last else f"{first} to {last}", mine) for (first, last), mine in zip(ends, groups, strict=True)]
    return [(words(v), [r for r in having if r.hyperparameters[name] == v]) for v in values]


def words(value: Any) -> str:
    """Return a value as a person reads it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
