"""The shares of steps that a model's `GradientClipping` clipped and skipped between two moments."""

import math
from typing import Any

from keras_ext.optimizers import GradientClipping


def clipping_of(model: Any) -> GradientClipping | None:
    """Return the `GradientClipping` that `model` is compiled with, inside a `LossScaleOptimizer` or another wrapper too; None without one.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.LossScaleOptimizer(GradientClipping("sgd", threshold=2.0)), "mse")
        >>> clipping_of(model).threshold
        2.0
    """
    optimizer = getattr(model, "optimizer", None)
    while optimizer is not None and not isinstance(optimizer, GradientClipping):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return optimizer


class ClippingShares:
    """Tells which share of the steps since it was asked last a model's `GradientClipping` changed and left out.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(GradientClipping("sgd", threshold=1e-6), "mse")
        >>> shares = ClippingShares()
        >>> shares.since_last(model)
        (nan, nan)
        >>> history = model.fit(keras.ops.ones((4, 1)), keras.ops.ones((4, 1)), verbose=0)
        >>> shares.since_last(model)
        (1.0, 0.0)
    """

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None

    def since_last(self, model: Any) -> tuple[float, float]:
        """Return the shares clipped and skipped; NaN the first time, where no step was taken, and without a `GradientClipping`."""
        clipping = clipping_of(model)
        if clipping is None:
            return math.nan, math.nan
        before, self._last = self._last, (clipping.steps, clipping.clipped_steps, clipping.skipped_steps)
        if before is None:
            return math.nan, math.nan
        steps, clipped, skipped = (now - then for now, then in zip(self._last, before, strict=True))
        return (clipped / steps, skipped / steps) if steps > 0 else (math.nan, math.nan)
