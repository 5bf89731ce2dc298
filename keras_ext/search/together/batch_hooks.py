"""Which callbacks need the model between two steps of an epoch."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner

from keras_ext._backend.epoch_steps import EpochSteps
from keras_ext.callbacks import OneCycleMomentum, SaturationMonitor, StopAt

_TRAIN = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_TEST = ("on_test_batch_begin", "on_test_batch_end")


def needs_every_step(callbacks: Sequence[Any], tuner: Any) -> bool:
    """Return whether a callback acts within an epoch in a way that is not known."""
    return any(_acts(each, tuner) for each in callbacks)


def may_change_the_model(callbacks: Sequence[Any], tuner: Any) -> bool:
    """Return whether a callback or the tuner has code of the user's own, which may change what a step computes between two epochs."""
    hooks = {hook: getattr(keras_tuner.Tuner, hook) for hook in ("on_epoch_begin", "on_epoch_end")}
    if any(getattr(type(tuner), hook, plain) is not plain for hook, plain in hooks.items()):
        return True
    known = ("keras.", "keras_tuner.", "keras_ext.")
    return any(not type(each).__module__.startswith(known) or isinstance(each, keras.callbacks.LambdaCallback) for each in callbacks)


def free_steps(callbacks: Sequence[Any]) -> Callable[[int], int | None]:
    """Return a function of the steps done in this epoch that says how many may follow before a monitor takes a snapshot."""
    monitors = [each for each in callbacks if isinstance(each, SaturationMonitor)]

    def free(done: int) -> int | None:
        return min((steps for monitor in monitors if (steps := monitor.steps_to_snapshot(done)) is not None), default=None)

    return free


def _acts(callback: Any, tuner: Any) -> bool:
    if isinstance(callback, OneCycleMomentum):
        return True  # it changes what a step computes
    if isinstance(callback, SaturationMonitor | keras.callbacks.ProgbarLogger | LateBatchHooks):
        return False
    if isinstance(callback, keras.callbacks.ModelCheckpoint | keras.callbacks.BackupAndRestore):
        return callback.save_freq != "epoch"
    if isinstance(callback, keras.callbacks.TensorBoard):
        return callback.update_freq != "epoch"
    if isinstance(callback, StopAt):
        return callback.every != "epoch"
    if type(callback).__module__.startswith("keras_tuner."):
        hooks = ("on_batch_begin", "on_batch_end")
        return any(getattr(type(tuner), hook) is not getattr(keras_tuner.Tuner, hook) for hook in hooks)
    plain = keras.callbacks.Callback
    return any(hook in vars(callback) or getattr(type(callback), hook) is not getattr(plain, hook) for hook in (*_TRAIN, *_TEST))


class EpochCallbacks(keras.callbacks.CallbackList):
    """The callbacks of a fit whose epochs run as one step: it calls those alone that have something to do within an epoch.

    On JAX a callback that asks for its model between two steps, as KerasTuner's does, costs as much as the step.
    """

    def __init__(self, callbacks: Sequence[Any], **params: Any) -> None:
        super().__init__(list(callbacks), add_history=True, add_progbar=params["verbose"] != 0, **params)
        kinds = (SaturationMonitor, LateBatchHooks, keras.callbacks.TensorBoard)
        self._within_epochs = [each for each in self.callbacks if isinstance(each, kinds)]
        self.steps: EpochSteps | None = None
        self._bars = [each for each in self.callbacks if isinstance(each, keras.callbacks.ProgbarLogger)]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tell the monitors how many steps the epoch had, and call all callbacks."""
        for callback in self._within_epochs:
            if isinstance(callback, SaturationMonitor) and self.steps is not None:
                callback.take_steps(self.steps.done)
        super().on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Call the callbacks that act within an epoch."""
        for callback in self._within_epochs:
            callback.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Call the callbacks that act within an epoch, and the progress bar."""
        for callback in (*self._within_epochs, *self._bars):
            callback.on_train_batch_end(batch, _numbers(logs) if self._bars else logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Do nothing."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Move the progress bar."""
        for callback in self._bars:
            callback.on_test_batch_end(batch, _numbers(logs))


def _numbers(logs: Any) -> dict[str, float]:
    return {name: float(keras.ops.convert_to_numpy(value)) for name, value in (logs or {}).items()}


class LateBatchHooks(keras.callbacks.Callback):
    """A callback whose batch hooks may come after the steps that they are called for."""
