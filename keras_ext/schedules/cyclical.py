"""Cyclical learning rates (Smith 2017)."""

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ext._checks import MOST_STEPS, bad_argument, in_float32, in_range, integer, one_of
from keras_ext.schedules.schedule import Schedule, between, exact_steps, rate_dtype


@keras.saving.register_keras_serializable(package="keras_ext")
class CyclicalLearningRate(Schedule):
    """Let the rate climb from the lowest to the highest and fall back, in straight lines, again and again.

    `min + (max - min) * height * scale`, where `height` goes from 0 at the cycle's first step to 1 after `step_size` steps and back to 0
    after as many. `scale` is 1 with `"triangular"`, halves with each cycle with `"triangular2"`, and is `gamma ** step` with `"exp_range"`.
    `step` may be an array. Cycles are counted in whole numbers, so they stay as long as they are however many steps there were.

    Args:
        min_learning_rate: rate of the first step, at least 0.
        max_learning_rate: rate of step `step_size`, above the lowest.
        step_size: steps of half a cycle; 2 to 10 times the steps of an epoch in the paper, section 3.2.
        mode: `"triangular"`, `"triangular2"` or `"exp_range"`.
        gamma: factor a step in (0, 1], with `"exp_range"` and only there; about 0.99994 in the paper.

    Raises:
        ValueError: a number is outside its range, or `gamma` does not go with the mode.

    Examples:
        >>> rate = CyclicalLearningRate(0.25, 1.0, step_size=4, mode="triangular2")
        >>> [float(rate(step)) for step in (0, 2, 4, 6, 8, 12, 16)]
        [0.25, 0.625, 1.0, 0.625, 0.25, 0.625, 0.25]

    References:
        Smith (2017), Cyclical learning rates for training neural networks, arXiv:1506.01186, section 3.
    """

    def __init__(
        self, min_learning_rate: float, max_learning_rate: float, step_size: int, mode: str = "triangular", gamma: float | None = None
    ) -> None:
        self.min_learning_rate = float(in_range("min_learning_rate", min_learning_rate, 0.0))
        highest = in_range("max_learning_rate", max_learning_rate, self.min_learning_rate, closed="neither")
        self.max_learning_rate = float(in_float32("max_learning_rate", highest))
        self.step_size = integer("step_size", step_size, 1, MOST_STEPS)
        self.mode = one_of("mode", mode, ("triangular", "triangular2", "exp_range"))
        if mode == "exp_range":
            gamma = float(in_range("gamma", gamma, 0.0, 1.0, closed="right", fix="The paper takes about 0.99994."))
        elif gamma is not None:
            raise bad_argument("gamma", f'None with mode="{mode}"', gamma, 'Only "exp_range" has it.')
        self.gamma = gamma

    def __call__(self, step: Any) -> Any:
        """Return the rate of `step`, a whole number of at least 0."""
        step, dtype = exact_steps(step), rate_dtype()
        height = ops.cast(self.step_size - ops.abs(step % (2 * self.step_size) - self.step_size), dtype) / self.step_size
        scale = 1.0
        if self.mode == "triangular2":
            scale = ops.power(ops.cast(0.5, dtype), ops.cast(step // (2 * self.step_size), dtype))
        elif self.gamma is not None:
            # Not gamma to the power of step: in float32 a gamma near 1 is a few millionths of its distance to 1 off.
            scale = ops.exp(ops.cast(step, dtype) * math.log(self.gamma))
        share = height * scale
        return between(self.min_learning_rate, self.max_learning_rate, share, 1 - share)

    @property
    def _picture_steps(self) -> int:
        return 6 * self.step_size + 1

    def turns(self, steps: int) -> Iterator[int]:
        """Yield the cycles' lowest and highest steps."""
        yield from range(0, steps, self.step_size)
