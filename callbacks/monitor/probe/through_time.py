"""The loss's gradient at each time step of what a recurrent layer is given."""

import math
from typing import Any

import numpy as np
from keras import ops

# A sequence has at most so many numbers of its own; of a longer one neighbouring steps share a number.
NOTED = 64


def noted(x: Any, note: Any) -> Any:
    """Return `x`; the gradient with respect to `note` is then the sum of the squared gradient at `x`, by time step.

    `x` has the shape (samples, steps, ...), `note` the shape (NOTED,). Of `n` steps each `ceil(n / NOTED)` share a sum, and what is left
    over is 0. Where `x` is noted several times with the same note, the sums add up.
    """

    @ops.custom_gradient
    def identity(x: Any, note: Any) -> Any:
        def gradient(*arguments: Any, upstream: Any = None) -> tuple[Any, Any]:
            # PyTorch's comes by name, behind the arguments of the call.
            g = arguments[0] if upstream is None else upstream
            return g, _by_step(g)

        return x + 0, gradient

    return identity(x, note)


def _by_step(gradient: Any) -> Any:
    squares = ops.square(ops.cast(gradient, "float32"))
    steps = gradient.shape[1]
    together = _together(steps)
    sums = ops.sum(squares, axis=[axis for axis in range(len(gradient.shape)) if axis != 1])
    return ops.sum(ops.reshape(ops.pad(sums, ((0, NOTED * together - steps),)), (NOTED, together)), axis=1)


def norms(sums: np.ndarray, steps: int, backwards: bool) -> tuple[float, ...]:
    """Return the norms by time step of what `noted` has summed up, in the order in which a layer takes its steps."""
    together = _together(steps)
    counts = [min(together, steps - begin) for begin in range(0, steps, together)]
    found = [math.sqrt(total / count) for total, count in zip(sums.tolist(), counts, strict=False)]
    return tuple(reversed(found) if backwards else found)


def _together(steps: int) -> int:
    return max(-(-steps // NOTED), 1)
