"""The axis, or axes, that a layer's statistics belong to."""

import math
import numbers
from typing import Any

from keras import ops

from keras_ext._checks import bad_argument

Axis = int | tuple[int, ...]


def checked_axis(axis: Any) -> Axis:
    """Return `axis` as an int, or a tuple of several."""
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    if not axes or any(isinstance(a, bool) or not isinstance(a, numbers.Integral) for a in axes):
        fix = "Keras's channels are on -1, or on 1 with channels_first."
        raise bad_argument("axis", "a whole number, or a tuple of some", axis, fix)
    return int(axes[0]) if len(axes) == 1 else tuple(int(a) for a in axes)


def own_axes(axis: Axis, input_shape: Any) -> list[int]:
    """Return the axes in rising order, counted from the first.

    Raises:
        ValueError: one is not the input's, two are the same, or the size of one is unknown.
    """
    rank = len(input_shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    for each in axes:
        if not -rank <= each < rank:
            raise bad_argument("axis", f"an axis of the input, which has {rank}", each)
    own = sorted({each % rank for each in axes})
    if len(own) < len(axes):
        raise bad_argument("axis", f"different axes of the input, which has {rank}", axis)
    if None in [input_shape[each] for each in own]:
        raise ValueError(
            f"The size of axis {axis} must be known, got an input of shape {tuple(input_shape)}. "
            "Give keras.Input a shape with the number of channels."
        )
    return own


def on_one_axis(x: Any, axis: Axis) -> tuple[Any, int]:
    """Return `x` and the axis of its channels; where there are several, they are made one, the last."""
    if not isinstance(axis, tuple):
        return x, axis % len(x.shape)
    order = _channels_last(axis, len(x.shape))
    kept = len(order) - len(axis)
    moved = ops.transpose(x, order)
    return ops.reshape(moved, (*ops.shape(moved)[:kept], math.prod(x.shape[i] for i in order[kept:]))), kept


def as_it_came(y: Any, inputs: Any, axis: Axis) -> Any:
    """Undo `on_one_axis` on what has become of `inputs`."""
    if not isinstance(axis, tuple):
        return y
    shape = ops.shape(inputs)
    order = _channels_last(axis, len(shape))
    return ops.transpose(ops.reshape(y, [shape[i] for i in order]), [order.index(i) for i in range(len(order))])


def _channels_last(axis: tuple[int, ...], rank: int) -> list[int]:
    own = sorted(each % rank for each in axis)
    return [i for i in range(rank) if i not in own] + own


def along(value: Any, axis: int, rank: int) -> Any:
    """Reshape (channels,) so that it broadcasts against a tensor of `rank` axes with its channels on `axis`."""
    return ops.reshape(value, [-1 if i == axis else 1 for i in range(rank)])
