"""The callback that logs what `GradientClipping` did."""

from typing import Any

import keras

from keras_ext.callbacks.clipping_shares import clipping_of
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
        self._start = _counts(_clipping(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log what was added, or raise."""
        clipping = _clipping(self.model)
        clipping.check()
        taken, measured, clipped, skipped, total = (after - before for after, before in zip(_counts(clipping), self._start, strict=True))
        if logs is not None:
            logs["gradient_norm"] = total / measured if measured else float("nan")
            logs["clipped_share"] = clipped / taken if taken else 0.0
            logs["skipped_steps"] = skipped


def _counts(clipping: GradientClipping) -> tuple[int, int, int, int, float]:
    taken = clipping.steps - clipping.skipped_steps
    return taken, clipping.measured_steps, clipping.clipped_steps, clipping.skipped_steps, clipping.gradient_norm_total


def _clipping(model: Any) -> GradientClipping:
    clipping = clipping_of(model)
    if clipping is None:
        raise ValueError(
            f"ClippingLog needs a model that is compiled with GradientClipping, got {type(model.optimizer).__name__}. "
            "Compile it with keras_ext.optimizers.GradientClipping(optimizer)."
        )
    return clipping
