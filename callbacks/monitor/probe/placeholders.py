"""Numbers that stand in a table for what is not known, such as -99999, and that nobody took out."""

from collections import Counter
from typing import Any

import numpy as np
from keras import tree

# Fewer samples do not show that a number is out of place.
_LEAST_SAMPLES = 20
_LEAST_REPEATS = 2
# Wider tables, as of words, are not looked through.
_MOST_COLUMNS = 2000
# Times the range of a column's other numbers.
_FAR = 5.0


def placeholders(x: Any) -> str:
    """Return the beginning of a sentence on a number that stands for what is not known; empty where there is none.

    It is the same number several times, in a minority of the samples of a column, and five times as far from the column's other numbers as
    these are from each other.

    >>> column = np.where(np.arange(40) % 10 == 0, -999.0, np.arange(40) / 40)
    >>> placeholders(np.stack([column, np.arange(40)], axis=1))
    'The inputs have -999 in 4 of 40 samples of column 0, far from its other numbers'
    """
    found: Counter[float] = Counter()
    first: dict[float, tuple[int, int, int]] = {}
    columns = 0
    for array in tree.flatten(x):
        values = np.asarray(array)
        is_table = values.dtype.kind in "iuf" and values.ndim in (1, 2) and len(values) >= _LEAST_SAMPLES
        if not is_table or values.size > _MOST_COLUMNS * len(values):
            continue
        table = values.reshape(len(values), -1).astype("float64")
        columns += table.shape[1]
        for place, column in enumerate(table.T):
            number, count = _placeholder(column)
            if count:
                found[number] += 1
                first.setdefault(number, (place, count, len(column)))
    if not found:
        return ""
    number, times = found.most_common(1)[0]
    place, count, samples = first[number]
    where = f"of column {place}, far from its other numbers" if times == 1 else f"of column {place}, and in {times} of {columns} columns"
    return f"The inputs have {number:.6g} in {count} of {samples} samples {where}"


def _placeholder(column: np.ndarray) -> tuple[float, int]:
    """Return the number of a column that is out of place, and how often it is there; 0 times where none is."""
    finite = column[np.isfinite(column)]
    if len(finite) < _LEAST_SAMPLES:
        return 0.0, 0
    middle = np.median(finite)
    number = finite[np.abs(finite - middle).argmax()]
    others = finite[finite != number]
    count = len(finite) - len(others)
    if count < _LEAST_REPEATS or 2 * count > len(finite):
        return 0.0, 0
    spread = others.max() - others.min()
    distance = np.abs(others - number).min()
    return (float(number), count) if 0 < _FAR * spread < distance else (0.0, 0)
