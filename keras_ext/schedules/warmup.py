"""Gradual warm-up in front of a schedule (Goyal et al. 2017)."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ext._checks import MOST_STEPS, bad_argument, in_float32, in_range, integer, is_number
from keras_ext.schedules.schedule import Schedule, between, exact_steps, rate_dtype


@keras.saving.register_keras_serializable(package="keras_ext")
class Warmup(Schedule):
    """Let the rate go in a straight line from `start` to the first rate of a schedule, and then follow the schedule.

    Step `steps` is the schedule's own step 0: nothing of it is skipped, and what it does at its step t it does at step `steps + t`.
    `step` may be an array where the schedule takes one.

    Args:
        learning_rate: the `LearningRateSchedule`, Keras's or any other, or the rate that is kept after the warm-up, above 0.
        steps: length of the warm-up; the paper takes 5 epochs.
        start: rate of step 0, at least 0 and at most a `learning_rate` that is a number. At 0 the first step changes no weight; the paper
            starts with the rate that one of its workers would use alone.

    Raises:
        TypeError: `learning_rate` is neither.
        ValueError: a number is outside its range.

    Examples:
        >>> rate = Warmup(keras.optimizers.schedules.ExponentialDecay(1.0, decay_steps=1, decay_rate=0.5), steps=4)
        >>> [float(rate(step)) for step in range(8)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 0.5, 0.25, 0.125]

    References:
        Goyal et al. (2017), Accurate, large minibatch SGD: training ImageNet in 1 hour, arXiv:1706.02677, section 2.2.
    """

    def __init__(self, learning_rate: Any, steps: int, start: float = 0.0) -> None:
        self.learning_rate: Any = learning_rate
        if is_number(learning_rate):
            self.learning_rate = float(in_float32("learning_rate", in_range("learning_rate", learning_rate, 0.0, closed="neither")))
        elif not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            fix = f"Give {learning_rate.__name__}(...)." if isinstance(learning_rate, type) else ""
            raise bad_argument("learning_rate", "a LearningRateSchedule or a number above 0", learning_rate, fix, TypeError)
        self.steps = integer("steps", steps, 1, MOST_STEPS)
        self.start = float(in_float32("start", in_range("start", start, 0.0)))
        if isinstance(self.learning_rate, float) and self.start > self.learning_rate:
            raise bad_argument("start", f"at most the learning_rate, {self.learning_rate:g}", start)

    def __call__(self, step: Any) -> Any:
        """Return the rate of `step`, a whole number of at least 0."""
        step, dtype = exact_steps(step), rate_dtype()
        passed = ops.cast(ops.minimum(step, self.steps), dtype) / self.steps
        if not callable(self.learning_rate):
            return between(self.start, self.learning_rate, passed, 1 - passed)
        # Before the warm-up's end the schedule stands at its step 0.
        rate = ops.cast(self.learning_rate(ops.maximum(step - self.steps, 0)), dtype)
        return between(self.start, rate, passed, 1 - passed)

    @property
    def _picture_steps(self) -> int:
        behind = getattr(self.learning_rate, "_picture_steps", getattr(self.learning_rate, "decay_steps", self.steps))
        return self.steps + int(behind) + 1

    def turns(self, steps: int) -> Iterator[int]:
        """Yield the warm-up's end and the steps at which the schedule behind it bends."""
        if self.steps < steps:
            yield self.steps
            if isinstance(self.learning_rate, Schedule):
                yield from (self.steps + step for step in self.learning_rate.turns(steps - self.steps) if step)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        """Build it from what `get_config` returned."""
        rate = config["learning_rate"]
        return cls(**{**config, "learning_rate": keras.saving.deserialize_keras_object(rate) if isinstance(rate, dict) else rate})
