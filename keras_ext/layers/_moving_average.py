"""Exponential moving averages of batch statistics: several batches in one step, and no slow start."""

from typing import Any

import keras
import numpy as np
from keras import ops


def step(old: Any, value: Any, momentum: Any, usable: Any) -> Any:
    """Return `old * momentum + value * (1 - momentum)` where `usable`, and `old` elsewhere."""
    return ops.where(usable, old * momentum + ops.cast(value, old.dtype) * (1.0 - momentum), old)


def as_one_batch(values: list[Any], usable: Any, momentum: float) -> tuple[list[Any], Any, Any]:
    """Return what one step must be given to do what one step for each of several batches does, in their order.

    `momentum^k old + sum_i (1 - momentum) momentum^(k - i) value_i` is one step with momentum^k (Hoffer, Hubara and Soudry 2017,
    arXiv:1705.08741, algorithm 1), k counting the usable batches only.

    Args:
        values: statistics, each of shape (batches, channels).
        usable: bool, (batches, channels).
        momentum: of one step.

    Returns:
        The values' weighted means, where any is usable, and the number of usable batches; each of shape (channels,).
    """
    counts = ops.cast(usable, values[0].dtype)
    steps = ops.sum(counts, 0)
    later = steps - ops.cumsum(counts, 0)
    weights = counts * ops.power(ops.cast(momentum, counts.dtype), later)
    weights = weights / ops.maximum(ops.sum(weights, 0), 1e-30)
    return [ops.sum(ops.where(usable, v * weights, 0.0), 0) for v in values], ops.any(usable, 0), steps


class Debiasing:
    """Counts the batches that an average has seen, and gives each step the momentum with which the average has no slow start.

    With Adam's correction (Kingma and Ba 2015, section 3) the average after t batches is `m_t / (1 - momentum^t)`; the same number comes
    from keeping the corrected average itself and stepping with `momentum (1 - momentum^(t-1)) / (1 - momentum^t)`, which is 0 at first.
    So the moving statistics are right as they stand, for inference and for whoever reads the weights.

    The count is kept beside the weights, not among them: lists of weights stay those of Keras's layer. A value of the average that no
    step has put there was loaded, and counts as converged.
    """

    def __init__(self, average: Any) -> None:
        self.average = average
        zeros = np.zeros(average.shape, "float32")
        self.seen = keras.Variable(zeros, trainable=False, autocast=False, dtype="float32", name="debias_seen")
        # Negative, so that it is never the same buffer: PyTorch would change both at once, JAX give one away twice.
        last = -ops.convert_to_tensor(average)
        self.last = keras.Variable(last, trainable=False, autocast=False, dtype=average.dtype, name="debias_negative_last")

    @property
    def variables(self) -> list[Any]:
        return [self.seen, self.last]

    def momentum(self, momentum: float, steps: Any) -> Any:
        """Return the momentum of a step that stands for `steps` batches."""
        seen, decay = self._seen_before(), ops.cast(momentum, "float32")
        left = ops.power(decay, ops.cast(steps, "float32"))
        return left * (1.0 - ops.power(decay, seen)) / ops.maximum(1.0 - ops.power(decay, seen + steps), 1e-30)

    def count(self, steps: Any, usable: Any) -> Any:
        """Return the new count; to be called before the average is assigned."""
        return self._seen_before() + ops.where(usable, ops.cast(steps, "float32"), 0.0)

    def record(self, seen: Any, average: Any) -> None:
        """Keep `seen` and what the average was set to."""
        self.seen.assign(seen)
        self.last.assign(-average)

    def _seen_before(self) -> Any:
        unchanged = ops.all(ops.equal(ops.convert_to_tensor(self.average), -ops.convert_to_tensor(self.last)))
        return ops.where(unchanged, ops.convert_to_tensor(self.seen), np.float32(np.inf))
