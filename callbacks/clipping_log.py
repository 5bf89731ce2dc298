"""Counts of a model's `GradientClipping`: in the logs of each epoch, and between two moments."""

import math
from typing import Any

import keras

from keras_ext.optimizers import GradientClipping


class ClippingLog(keras.callbacks.Callback):
    """Put what `GradientClipping` did in an epoch into `logs`, for History, CSVLogger, EarlyStopping and KerasTuner objectives.

    `gradient_norm`: mean joint norm of the gradients before clipping, over the steps that were taken. `clipped_share`: share of these
    steps that the rule changed. `skipped_steps`: number of steps that were left out. Put it before the callbacks that read them. At each
    epoch's end it also raises what a compiled step could not (`nonfinite="raise"` and `max_skips`).

    Raises:
        ValueError: the model's optimizer is not, and holds no, `GradientClipping`.
        FloatingPointError: see `GradientClipping`.

    Examples:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile(GradientClipping("sgd", threshold=0.1), "mse")
        >>> history = model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0, callbacks=[ClippingLog()]).history
        >>> sorted(history), history["skipped_steps"]
        (['clipped_share', 'gradient_norm', 'loss', 'skipped_steps'], [0])
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note where the counters stand."""
        self._start = _counts(self._clipping())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log what was added, or raise."""
        clipping = self._clipping()
        clipping.check()
        steps, measured, clipped, skipped, total = (after - before for after, before in zip(_counts(clipping), self._start, strict=True))
        if logs is not None:
            taken = steps - skipped
            logs["gradient_norm"] = total / measured if measured else float("nan")
            logs["clipped_share"] = clipped / taken if taken else 0.0
            logs["skipped_steps"] = skipped

    def _clipping(self) -> GradientClipping:
        clipping = clipping_of(self.model)
        if clipping is None:
            raise ValueError(
                f"ClippingLog needs a model that is compiled with GradientClipping, got {type(self.model.optimizer).__name__}. "
                "Compile it with keras_ext.optimizers.GradientClipping(optimizer)."
            )
        return clipping


def _counts(clipping: GradientClipping) -> tuple[int, int, int, int, float]:
    return clipping.steps, clipping.measured_steps, clipping.clipped_steps, clipping.skipped_steps, clipping.gradient_norm_total


class ClippingShares:
    """The shares of the steps since it was asked last that a model's `GradientClipping` changed and left out."""

    def __init__(self) -> None:
        self._last: tuple[int, int, int] | None = None

    def since_last(self, model: Any) -> tuple[float, float]:
        """Return the shares clipped and skipped; NaN the first time, where no step was taken, and without a `GradientClipping`."""
        clipping = clipping_of(model)
        if clipping is None:
            return math.nan, math.nan
        before, self._last = self._last, (clipping.steps, clipping.clipped_steps, clipping.skipped_steps)
        steps, clipped, skipped = (now - then for now, then in zip(self._last, before or self._last, strict=True))
        return (clipped / steps, skipped / steps) if steps > 0 else (math.nan, math.nan)


def clipping_of(model: Any) -> GradientClipping | None:
    """Return the `GradientClipping` that `model` is compiled with, in wrappers such as `LossScaleOptimizer` too; None without one."""
    optimizer = getattr(model, "optimizer", None)
    while optimizer is not None and not isinstance(optimizer, GradientClipping):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return optimizer
