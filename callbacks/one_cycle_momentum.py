"""The momentum that runs against a one-cycle rate."""

from functools import partial
from typing import Any

import keras
from keras import ops

from keras_ext._checks import bad_argument, in_range
from keras_ext.optimizers import SGD, Adam, RMSprop
from keras_ext.optimizers.exchange import innermost
from keras_ext.schedules.one_cycle import OneCycle, one_cycle


class OneCycleMomentum(keras.callbacks.Callback):
    """Let the momentum fall from the highest to the lowest while a `schedules.OneCycle` rate climbs, and climb while it falls.

    For `keras_ext.optimizers.SGD`, `RMSprop` (`momentum`) and `Adam` (`beta_1`), also inside `GradientClipping` and `LossScaleOptimizer`.
    The step computes it from the same count as the rate, so that both keep time in compiled steps, in several steps an execution and
    after a checkpoint. Each epoch's end puts it into `logs` as `momentum`. After training the optimizer has its own momentum again; a
    training that an exception ended leaves it varying until the next `fit` with this callback, or `vary_momentum(None)`. Adam's bias
    correction takes the step's momentum for that of all steps before, as PyTorch's does; after some hundred steps that is nothing.

    Args:
        max_momentum: at the first and the last step, in [0, 1).
        min_momentum: at the peak of the rate, in [0, 1), at most `max_momentum`.
        schedule: the `OneCycle` whose steps count; that of the optimizer if None.

    Raises:
        ValueError: a number is outside its range, the optimizer has no `OneCycle`, or was made without momentum.
        TypeError: the optimizer is another; Keras's own write the momentum into the compiled step as a constant.

    Examples:
        >>> import numpy as np
        >>> from keras_ext.optimizers import SGD
        >>> from keras_ext.schedules import OneCycle
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.compile(SGD(OneCycle(0.1, total_steps=8), momentum=0.9), "mse")
        >>> x, y = np.ones((16, 3)), np.ones((16, 1))
        >>> history = model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[OneCycleMomentum()]).history
        >>> [round(m, 3) for m in history["momentum"]]
        [0.9, 0.95]

    References:
        Smith (2018), A disciplined approach to neural network hyper-parameters: part 1, arXiv:1803.09820, section 4.3, where the momentum
        goes from .95 to .85 and back. Smith and Topin (2018), arXiv:1708.07120.
    """

    def __init__(self, max_momentum: float = 0.95, min_momentum: float = 0.85, schedule: OneCycle | None = None) -> None:
        super().__init__()
        self.max_momentum = in_range("max_momentum", max_momentum, 0.0, 1.0, closed="left")
        self.min_momentum = in_range("min_momentum", min_momentum, 0.0, 1.0, closed="left")
        if min_momentum > max_momentum:
            raise bad_argument("min_momentum", f"at most max_momentum, {max_momentum}", min_momentum)
        if schedule is not None and not isinstance(schedule, OneCycle):
            raise bad_argument("schedule", "a schedules.OneCycle, or None for that of the optimizer", schedule, error=TypeError)
        self.schedule = schedule

    def momentum_of(self, step: Any) -> Any:
        """Return the momentum of a step, which the given schedule counts."""
        if self.schedule is None:
            raise ValueError("The callback has no schedule before `fit`. Give it one with `schedule`.")
        return self._course(self.schedule)(step)

    def on_train_begin(self, logs: Any = None) -> None:
        """Let the optimizer's momentum vary."""
        optimizer = _with_momentum(self.model.optimizer)
        optimizer.vary_momentum(self._course(self.schedule or _one_cycle_of(optimizer)))
        self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the momentum of the next step."""
        if logs is not None:
            logs["momentum"] = float(ops.convert_to_numpy(_with_momentum(self.model.optimizer).current_momentum()))

    def on_train_end(self, logs: Any = None) -> None:
        """Give the optimizer its own momentum back."""
        _with_momentum(self.model.optimizer).vary_momentum(None)
        self.model.make_train_function(force=True)

    def _course(self, schedule: OneCycle) -> Any:
        ends = {"start": self.max_momentum, "peak": self.min_momentum, "end": self.max_momentum}
        return partial(one_cycle, total_steps=schedule.total_steps, warmup_share=schedule.warmup_share, anneal=schedule.anneal, **ends)


def _with_momentum(optimizer: Any) -> SGD | RMSprop | Adam:
    optimizer = innermost(optimizer)
    if not isinstance(optimizer, SGD | RMSprop | Adam):
        kind = type(optimizer)
        raise TypeError(
            f"OneCycleMomentum needs keras_ext.optimizers.SGD, RMSprop or Adam, got {kind.__module__}.{kind.__name__}. "
            "Keras's own write the momentum into the compiled step as a constant; those of keras_ext take the same arguments."
        )
    return optimizer


def _one_cycle_of(optimizer: Any) -> OneCycle:
    rate = optimizer.get_config()["learning_rate"]
    schedule = keras.saving.deserialize_keras_object(rate) if isinstance(rate, dict) else rate
    if not isinstance(schedule, OneCycle):
        raise ValueError(
            "OneCycleMomentum follows the schedules.OneCycle that the optimizer has as `learning_rate`, and that is "
            f"{type(schedule).__name__}. Give it one, or give the callback a `schedule`."
        )
    return schedule
