"""Which callbacks need the model between two steps of an epoch."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner

from keras_ext.callbacks import OneCycleMomentum, SaturationMonitor, StopAt

_TRAIN = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_TEST = ("on_test_batch_begin", "on_test_batch_end")


def needs_every_step(callbacks: Sequence[Any], tuner: Any) -> str | None:
    """Return the name of a callback that acts within an epoch in a way that is not known; None where there is none."""
    return next((type(each).__name__ for each in callbacks if _acts(each, tuner)), None)


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


class LateBatchHooks(keras.callbacks.Callback):
    """A callback whose batch hooks may come after the steps that they are called for."""
