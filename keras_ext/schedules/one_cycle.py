"""One cycle of the learning rate (Smith and Topin 2018)."""

import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_ext._checks import MOST_STEPS, in_float32, in_range, integer, one_of
from keras_ext.schedules.schedule import Schedule, between, exact_steps, rate_dtype


def peak_step(total_steps: int, warmup_share: float) -> int:
    """Return the step of the peak: the last of the first `warmup_share` of the steps, and neither the first nor the last of all."""
    return min(max(round(warmup_share * total_steps) - 1, 1), total_steps - 2)


def one_cycle(step: Any, total_steps: int, warmup_share: float, start: float, peak: float, end: float, anneal: str = "cosine") -> Any:
    """Return a value that goes from `start` at step 0 to `peak` at the peak's step and to `end` at step `total_steps - 1`, and stays.

    It is exact at these three steps. `step` may be an array, `peak` below or above the others: a momentum runs against a rate with its
    lowest value there. `anneal` is `"cosine"`, half a wave each way, or `"linear"`.
    """
    top, dtype = peak_step(total_steps, warmup_share), rate_dtype()
    at = ops.clip(exact_steps(step), 0, total_steps - 1)
    rises = at < top
    length = ops.cast(ops.where(rises, top, total_steps - 1 - top), at.dtype)
    passed = ops.where(rises, at, at - top)
    near = ops.cast(ops.minimum(passed, length - passed), dtype) / ops.cast(length, dtype)
    # The share of the nearer end is computed and the other is its rest: 1 - cos(x), near 0, has few digits in float32.
    small = ops.square(ops.sin(math.pi / 2 * near)) if anneal == "cosine" else near
    first_half = passed < length - passed
    share, rest = ops.where(first_half, small, 1 - small), ops.where(first_half, 1 - small, small)
    return ops.where(rises, between(start, peak, share, rest), between(peak, end, share, rest))


@keras.saving.register_keras_serializable(package="keras_ext")
class OneCycle(Schedule):
    """Let the rate climb to the highest once and then fall to almost nothing, over a training.

    The rate is `max_learning_rate / start_divisor` at step 0, exactly `max_learning_rate` at step `peak_step`, and the first rate divided
    by `end_divisor` at step `total_steps - 1`, where it stays. `step` may be an array.

    Args:
        max_learning_rate: highest rate, above 0, for instance from a learning-rate range test.
        total_steps: steps of the training, at least 3: epochs times batches an epoch. Keras counts each batch, with
            `gradient_accumulation_steps` as well.
        warmup_share: share of the steps up to the peak, in (0, 1).
        start_divisor: at least 1.
        end_divisor: at least 1.
        anneal: `"cosine"` or `"linear"`.

    The defaults, and the cosine in place of the paper's straight lines, are those of PyTorch's `OneCycleLR` (`pct_start`, `div_factor`,
    `final_div_factor`, `anneal_strategy`). The paper climbs and falls over equal numbers of steps and spends the last ones far below.

    Raises:
        ValueError: a number is outside its range, or `anneal` is unknown.

    Examples:
        >>> rate = OneCycle(1.0, total_steps=100)
        >>> [round(float(rate(step)), 6) for step in (0, rate.peak_step, 64, 99, 1000)]
        [0.04, 1.0, 0.500002, 4e-06, 4e-06]

    References:
        Smith and Topin (2018), Super-convergence: very fast training of neural networks using large learning rates, arXiv:1708.07120.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        warmup_share: float = 0.3,
        start_divisor: float = 25.0,
        end_divisor: float = 1e4,
        anneal: str = "cosine",
    ) -> None:
        highest = in_range("max_learning_rate", max_learning_rate, 0.0, closed="neither")
        self.max_learning_rate = float(in_float32("max_learning_rate", highest))
        self.total_steps = integer("total_steps", total_steps, 3, MOST_STEPS)
        self.warmup_share = float(in_range("warmup_share", warmup_share, 0.0, 1.0, closed="neither"))
        self.start_divisor = float(in_range("start_divisor", start_divisor, 1.0))
        self.end_divisor = float(in_range("end_divisor", end_divisor, 1.0))
        self.anneal = one_of("anneal", anneal, ("cosine", "linear"))

    @property
    def peak_step(self) -> int:
        """The step whose rate is the highest."""
        return peak_step(self.total_steps, self.warmup_share)

    def __call__(self, step: Any) -> Any:
        """Return the rate of `step`, a whole number of at least 0."""
        start = self.max_learning_rate / self.start_divisor
        end = start / self.end_divisor
        return one_cycle(step, self.total_steps, self.warmup_share, start, self.max_learning_rate, end, self.anneal)

    @property
    def _picture_steps(self) -> int:
        return self.total_steps

    def turns(self, steps: int) -> Iterator[int]:
        """Yield the steps of the peak and of the end."""
        yield from (step for step in (self.peak_step, self.total_steps - 1) if step < steps)
