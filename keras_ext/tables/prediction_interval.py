"""Prediction intervals of a regression, kept in the model's file."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ext._checks import bad_argument, is_number
from keras_ext.layers._arguments import base_arguments

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)


@keras.saving.register_keras_serializable(package="keras_ext")
class PredictionInterval(keras.layers.Layer):
    """Pass the predictions of a regression unchanged, and keep how far targets are from them.

    Stands last in a model, whose file then holds the distances; `model.layers[-1].interval(model.predict(x), 0.9)` returns bounds between
    which at least 90 % of new targets are, on average over samples like those of the calibration. The bounds are equally far from every
    prediction.

    Args:
        radii: pairs of a level in (0, 1) and the largest distance from prediction to bound at it, at least 0; see `conformal_radii`.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Raises:
        ValueError: `radii` are no such pairs, or none.

    References:
        Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world. Lei, G'Sell, Rinaldo, Tibshirani and Wasserman (2018),
        Distribution-free predictive inference for regression.

    Examples:
        >>> layer = PredictionInterval(conformal_radii([0.5, -2.0, 1.0, 0.0], levels=[0.5, 0.8]))
        >>> lower, upper = layer.interval([[10.0]], 0.8)
        >>> lower.tolist(), upper.tolist()
        ([8.0], [12.0])
    """

    def __init__(self, radii: Any, **kwargs: Any) -> None:
        super().__init__(**base_arguments(kwargs), autocast=False)
        self._radii = _checked(radii)
        self.supports_masking = True

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels that have an interval, in order."""
        return tuple(sorted(self._radii))

    def interval(self, predictions: Any, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper bounds of predictions, float64, shape (rows,).

        Args:
            predictions: numbers, shape (rows,) or (rows, 1).
            level: one of `levels`: the least share of targets between the bounds.

        Raises:
            ValueError: the level is none of these.
        """
        if level not in self._radii:
            raise bad_argument("level", f"one of {', '.join(map(str, self.levels))}", level)
        values = np.asarray(predictions, "float64").reshape(-1)
        return values - self._radii[level], values + self._radii[level]

    def call(self, inputs: Any) -> Any:
        """Return `inputs`."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "radii": [[level, self._radii[level]] for level in self.levels]}


def conformal_radii(residuals: Any, levels: Sequence[float] = LEVELS) -> dict[float, float]:
    """Return for each level the radius of the split conformal interval: the ceil((n + 1) level)-th smallest distance.

    Levels for which the n residuals are too few are left out: 0.9 needs nine.

    Args:
        residuals: of samples that the model was neither trained nor chosen with.
        levels: in (0, 1).
    """
    distances = np.sort(np.abs(np.asarray(residuals, "float64").reshape(-1)))
    # A product such as 10 * 0.9 may be a little above what it stands for.
    places = {level: math.ceil(round((len(distances) + 1) * level, 9)) for level in levels}
    return {level: float(distances[place - 1]) for level, place in places.items() if place <= len(distances)}


def _checked(radii: Any) -> dict[float, float]:
    pairs = list(radii.items()) if isinstance(radii, Mapping) else radii
    try:
        found = {float(level): float(radius) for level, radius in pairs}
    except (TypeError, ValueError):
        found = {}
    if not found or not all(0 < level < 1 and is_number(r) and 0 <= r < math.inf for level, r in found.items()):
        raise bad_argument("radii", "pairs of a level in (0, 1) and a radius of at least 0", radii, "Take them from `conformal_radii`.")
    return found
