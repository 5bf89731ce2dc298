"""Samples that are both among those of training and among those put aside: their scores say little of new samples."""

import numpy as np
import pandas as pd

from keras_ext.tables.data.table import Inputs, Split

# Larger arrays are not searched for equal samples: that takes a second for so many numbers.
_MOST_NUMBERS = 50_000_000


def duplicates(split: Split) -> int:
    """Return how many samples of validation and test are, with their target, also among those of training; 0 for large arrays.

    With folds, those of a fold count that are also in another one.

    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> duplicates(Split(x, np.zeros(3), x[:1], np.zeros(1), x[1:2], np.ones(1)))
    1
    """
    if not isinstance(split.x, dict) and split.x.size > _MOST_NUMBERS:
        return 0
    known, found = _hashes(split.x, split.y), 0
    if split.folds is None:
        aside = _hashes(split.x_validation, split.y_validation)
    else:
        folds = pd.DataFrame({"sample": known, "fold": split.folds}).groupby("sample")["fold"]
        aside, found = known[:0], int((folds.transform("nunique") > 1).sum())
    if split.y_test is not None:
        aside = np.concatenate([aside, _hashes(split.x_test, split.y_test)])
    return found + int(np.isin(aside, known).sum())


def _hashes(x: Inputs, y: np.ndarray) -> np.ndarray:
    if isinstance(x, dict):
        frame = pd.DataFrame({str(i): column for i, column in enumerate(x.values())})
    else:
        frame = pd.DataFrame(x.reshape(len(x), -1))
    return pd.util.hash_pandas_object(frame.assign(target=y), index=False).to_numpy()
