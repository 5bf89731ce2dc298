"""The callback that ends a training at a target."""

from typing import Any

import keras
import numpy as np

from keras_ext._checks import bad_argument, in_range, one_of


class StopAt(keras.callbacks.Callback):
    """End the training as soon as a logged number reaches a target.

    The target itself counts as reached, and numbers are compared in float32, the precision of Keras's metrics: an accuracy of nine in ten
    reaches `above=0.9`. NaN reaches nothing. The weights stay those of the step at which the training ended.

    Args:
        monitor: name in `logs`, such as `"val_loss"`.
        below: the target of a number that falls: reached at `below` and less.
        above: the target of a number that rises: reached at `above` and more. Give exactly one of the two.
        every: `"epoch"` compares what an epoch logged. `"batch"` compares after each batch as well, what Keras logs there: means over the
            batches of the epoch so far, without those of validation. What remains of the epoch, such as its validation, still runs.
        missing: what to do where the name was not logged so far: `"error"`, or `"wait"`, where the first epochs (or batches) are without
            it, as with `validation_freq` above 1.

    Attributes:
        stopped_epoch: the epoch that reached the target, from 0; None where none has. KerasTuner's searches work on copies of this one.
        stopped_batch: with `every="batch"`, its batch, from 0; None where the epoch's own logs reached it, or none.

    Raises:
        ValueError: an argument is outside its rule; in training, `monitor` is not in the logs.

    Examples:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> stop = StopAt("loss", below=0.1)
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=99, verbose=0, callbacks=[stop])
        >>> history.history["loss"], stop.stopped_epoch
        ([1.0, 0.0], 1)
    """

    def __init__(
        self, monitor: str, *, below: float | None = None, above: float | None = None, every: str = "epoch", missing: str = "error"
    ) -> None:
        super().__init__()
        if not isinstance(monitor, str) or not monitor:
            raise bad_argument("monitor", "the name of a log", monitor)
        if (below is None) == (above is None):
            raise ValueError(f"StopAt needs exactly one of `below` and `above`, got below={below!r}, above={above!r}.")
        most = float(np.finfo("float32").max)
        in_range("above" if below is None else "below", above if below is None else below, -most, most)
        one_of("every", every, ("epoch", "batch"))
        if every == "batch" and monitor.startswith("val_"):
            raise bad_argument("every", '"epoch" for a log of the validation', every, f"Batches have no {monitor!r}.")
        self.monitor, self.below, self.above, self.every = monitor, below, above, every
        self.missing = one_of("missing", missing, ("error", "wait"))
        self.stopped_epoch: int | None = None
        self.stopped_batch: int | None = None
        self._epoch = 0
        self._seen = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget the training before."""
        self.stopped_epoch = self.stopped_batch = None
        self._seen = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch of the batches that follow."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop, with `every="batch"`, where the epoch's mean so far has reached the target."""
        if self.every == "batch":
            self._compare(logs, "batch", self._epoch, batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stop where the epoch has reached the target."""
        self._compare(logs, "epoch", epoch, None)

    def _compare(self, logs: Any, what: str, epoch: int, batch: int | None) -> None:
        if self.stopped_epoch is None and self._reached(logs, what):
            self.stopped_epoch, self.stopped_batch = epoch, batch
            self.model.stop_training = True

    def _reached(self, logs: Any, what: str) -> bool:
        """Return whether the number in `logs` has reached the target; raise where there was none so far."""
        logs = logs or {}
        if self.monitor not in logs:
            if self._seen or self.missing == "wait":
                return False
            there = ", ".join(repr(name) for name in logs) or "none"
            raise ValueError(
                f"StopAt: there is no {self.monitor!r} in the logs of the {what}; there are: {there}. Compile the model with that metric, "
                'give fit validation_data for "val_" names, put StopAt behind the callback that logs it, or write missing="wait".'
            )
        self._seen = True
        return self.is_reached(logs[self.monitor])

    def is_reached(self, value: float) -> bool:
        """Return whether a logged number has reached the target."""
        with np.errstate(over="ignore"):
            logged, target = np.float32(value), np.float32(self.above if self.below is None else self.below)
        return bool(logged >= target if self.below is None else logged <= target)
