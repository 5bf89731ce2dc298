"""The folds of a cross-validation: each training of a trial is validated on another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from keras_ext.search import executions

# Trainings of other sizes compile programs of their own, which takes longer than a few samples are worth.
_ABOUT_ONE_SIZE = 0.95


class Folds:
    """Parts samples into those of training and those of validation.

    Where the trainings differ by at most a twentieth, as with folds of groups, all take as many samples as the smallest.

    Args:
        numbers: number of the fold of each sample, from 0; shape (samples,).

    Examples:
        >>> (x,), (x_validation,) = Folds([0, 1, 0, 1]).parts(1, [np.array([10, 11, 12, 13])])
        >>> x.tolist(), x_validation.tolist()
        ([10, 12], [11, 13])
    """

    def __init__(self, numbers: Sequence[int] | np.ndarray) -> None:
        self._numbers = np.asarray(numbers)
        self.count = int(self._numbers.max()) + 1
        # The parts of the last data: what trials share lies on the device once.
        self._data: Sequence[Any] = ()
        self._parts: dict[int, tuple[list[Any], list[Any]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_data": (), "_parts": {}}

    def parts(self, fold: int, data: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return arrays, or None in place of one, without the samples of a fold, and the samples of the fold."""
        if len(data) != len(self._data) or any(a is not b for a, b in zip(data, self._data, strict=True)):
            self._data, self._parts = tuple(data), {}
        if fold not in self._parts:
            training, held_out = self._rows(fold)
            self._parts[fold] = [_taken(each, training) for each in data], [_taken(each, held_out) for each in data]
        return self._parts[fold]

    def of_this_training(self, x: Any, y: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Return the arguments of `fit` for the training that runs: the n-th is validated on the n-th fold, and after the last the first.

        Raises:
            ValueError: the search is not watched, so that nothing counts the trainings.
        """
        running = executions.current()
        if running is None:
            raise ValueError("`folds` needs a search that is watched. Call watch(tuner, monitor) first.")
        weights = kwargs.get("sample_weight")
        training, held_out = self.parts(running.number % self.count, (x, y) if weights is None else (x, y, weights))
        x, y, *weights = training
        return x, y, {**kwargs, "validation_data": tuple(held_out), **({"sample_weight": weights[0]} if weights else {})}

    def _rows(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the samples of training and of validation; trainings of about one size are cut to the smallest."""
        counts = np.bincount(self._numbers)
        least, most = len(self._numbers) - counts.max(), len(self._numbers) - counts.min()
        training = np.flatnonzero(self._numbers != fold)
        if least >= _ABOUT_ONE_SIZE * most:
            training = np.sort(np.random.default_rng(fold).permutation(training)[:least])
        return training, np.flatnonzero(self._numbers == fold)


def _taken(arrays: Any, places: np.ndarray) -> Any:
    return tree.map_structure(lambda array: None if array is None else array[places], arrays)
