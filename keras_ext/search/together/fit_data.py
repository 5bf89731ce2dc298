"""The data of a fit as arrays that lie on the device from trial to trial."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._backend.epoch_steps import Arrays

# Numbers of arrays that stay on the device from trial to trial, and the most of such arrays: several folds have some each.
_MOST_NUMBERS = 2**28
_MOST_ARRAYS = 64
_DATA_ARGUMENTS = ("x", "y", "sample_weight", "class_weight", "batch_size", "shuffle", "validation_split", "validation_data",
                   "validation_batch_size")  # fmt: skip


@dataclass(frozen=True)
class FitData:
    """Arguments of `fit` that count the steps of arrays which are on the device, and these arrays."""

    fit: dict[str, Any]
    training: Arrays
    validation: Arrays | None


class FitArrays:
    """Keeps the arrays of the last fits on the device."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    def of(self, given: dict[str, Any]) -> FitData | None:
        """Return the data of a fit as arrays on the device; None where it is something else, or large."""
        shuffle, held_out = given.get("shuffle", True), given.get("validation_data")
        if not isinstance(shuffle, bool) or given.get("steps_per_epoch") or given.get("validation_steps"):
            return None
        if held_out is not None and not (isinstance(held_out, tuple | list) and len(held_out) in (2, 3)):
            return None
        x, y, weights, class_weight = (given.get(name) for name in ("x", "y", "sample_weight", "class_weight"))
        split = (given.get("validation_split") or 0.0) if held_out is None else 0.0
        arrays, held = self._on_device(x, y, weights, class_weight, split)
        if held_out is not None:
            x, y, weights = (*held_out, None)[:3]
            held, _ = self._on_device(x, y, weights, None)
        if arrays is None or (held is None and (held_out is not None or split)):
            return None
        programs, samples, size = _backend.step_programs(), _count(arrays), given.get("batch_size") or 32
        order = programs.epoch_orders(samples) if shuffle else lambda: np.arange(samples)
        fit = {name: value for name, value in given.items() if name not in _DATA_ARGUMENTS}
        fit |= {"x": programs.data_of_one_step(), "shuffle": False}
        validation = None
        if held is not None:
            held_samples, held_size = _count(held), given.get("validation_batch_size") or size
            validation = Arrays(held, held_samples, held_size, lambda: np.arange(held_samples))
            fit |= {"validation_data": programs.data_of_one_step()}
        return FitData(fit, Arrays(arrays, samples, size, order), validation)

    def _on_device(self, x: Any, y: Any, weights: Any, class_weight: Any, split: float = 0.0) -> tuple[Any, Any]:
        """Return the arrays to train on, and the last ones, which `fit` holds out of so large a share; None for what is no array."""
        key = (id(x), id(y), id(weights), id(class_weight), split)
        if key not in self._arrays:
            try:
                arrays, held = keras_private.arrays_of_fit(x, y, weights, class_weight), None
                if split and arrays is not None:
                    samples = math.floor(_count(arrays) * (1 - split))
                    # The classes have no weights in the validation.
                    held = rows_of(keras_private.arrays_of_fit(x, y, weights, None), slice(samples, None))
                    arrays = rows_of(arrays, slice(samples)) if 0 < samples < _count(arrays) else None
            except Exception:  # fit says what is wrong
                arrays = None
            if arrays is not None and _numbers((arrays, held)) > _MOST_NUMBERS:
                arrays = None
            parts = (None, None) if arrays is None else tuple(_backend.step_programs().on_device(part) for part in (arrays, held))
            while len(self._arrays) > 3 and (
                len(self._arrays) >= _MOST_ARRAYS or _numbers([parts, *(known for known, _ in self._arrays.values())]) > _MOST_NUMBERS
            ):
                self._arrays.pop(next(iter(self._arrays)))
            # With the data, so that its identity stays its own.
            self._arrays[key] = (parts, (x, y, weights, class_weight))
        return self._arrays[key][0]


def steps_of_epoch(given: dict[str, Any]) -> int | None:
    """Return the steps of an epoch; None where the data does not say."""
    if given.get("steps_per_epoch"):
        return given["steps_per_epoch"]
    samples = _samples(given)
    if samples is not None:
        return -(-samples // (given.get("batch_size") or 32))
    try:
        return len(given["x"])
    except (KeyError, TypeError):
        return None


def draw_as_building(given: dict[str, Any]) -> None:
    """Draw what `fit` draws where it builds the metrics of a model."""
    samples, shuffle = _samples(given), given.get("shuffle", True)
    size = given.get("batch_size") or (-(-(samples or 0) // given["steps_per_epoch"]) if given.get("steps_per_epoch") else 32)
    if samples is not None:
        _backend.step_programs().draw_as_building(samples, size, shuffle)


def _samples(given: dict[str, Any]) -> int | None:
    """Return the samples of an epoch; None where the data is no array."""
    x: Any = given.get("x")
    first: Any = tree.flatten(x)[0] if isinstance(x, dict | list | tuple) else x
    if not (hasattr(first, "shape") and len(first.shape)):
        return None
    share = (given.get("validation_split") or 0.0) if given.get("validation_data") is None else 0.0
    return math.floor(first.shape[0] * (1 - share))


def rows_of(arrays: Any, rows: slice) -> Any:
    """Return some rows of each array."""
    return tree.map_structure(lambda array: None if array is None else array[rows], arrays)


def _numbers(arrays: Any) -> int:
    return sum(math.prod(array.shape) for array in tree.flatten(arrays) if array is not None)


def _count(arrays: Any) -> int:
    return len(tree.flatten(arrays)[0])
