"""The gates inside a recurrent layer at every step, computed again from its input and weights."""

import functools
from typing import Any

import keras
from keras import ops


def gates(layer: Any, x: Any) -> dict[str, tuple[str, Any]]:
    """Return the values of the gates of an LSTM or GRU layer for its input `x`, by name: the activation's name, and the values.

    Input and values have the shape (samples, steps, features or units). Dropout is left out, the first state is 0, padded steps count.
    LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000) has an input, a forget and an output gate and the candidate, GRU (Cho et al.
    2014) an update and a reset gate and the candidate.
    """
    cell = layer.cell
    x = ops.cast(ops.stop_gradient(x), "float32")
    kernel, recurrent = (ops.cast(ops.stop_gradient(w), "float32") for w in (cell.kernel, cell.recurrent_kernel))
    bias = ops.cast(ops.stop_gradient(cell.bias), "float32") if cell.use_bias else None
    steps = ops.transpose(x, (1, 0, 2))
    if layer.go_backwards:
        steps = ops.flip(steps, axis=0)
    is_lstm = isinstance(layer, keras.layers.LSTM)
    names = ("input gate", "forget gate", "output gate", "candidate") if is_lstm else ("update gate", "reset gate", "candidate")
    step = functools.partial(_lstm_step if is_lstm else _gru_step, cell, kernel, recurrent, bias)
    states = 2 if is_lstm else 1
    # State and gates go through the steps as one tensor: on TensorFlow Keras's scan returns only what is shaped as the state.
    first = ops.zeros((ops.shape(x)[0], cell.units * (states + len(names))), "float32")

    def carried(all_of: Any, x: Any) -> Any:
        now = ops.concatenate(step(ops.split(all_of, states + len(names), axis=1)[:states], x), axis=1)
        return now, now

    _, values = ops.scan(carried, first, steps)
    parts = ops.split(ops.transpose(values, (1, 0, 2)), states + len(names), axis=2)[states:]
    activations = [cell.activation if name == "candidate" else cell.recurrent_activation for name in names]
    return {name: (getattr(a, "__name__", "linear"), part) for name, a, part in zip(names, activations, parts, strict=True)}


def _lstm_step(cell: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, x: Any) -> list[Any]:
    h, c = state
    z = ops.matmul(x, kernel) + ops.matmul(h, recurrent)
    i, f, candidate, o = ops.split(z if bias is None else z + bias, 4, axis=1)
    i, f, o = (cell.recurrent_activation(v) for v in (i, f, o))
    candidate = cell.activation(candidate)
    c = f * c + i * candidate
    return [o * cell.activation(c), c, i, f, o, candidate]


def _gru_step(cell: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, x: Any) -> list[Any]:
    (h,) = state
    inputs, inner = ops.matmul(x, kernel), ops.matmul(h, recurrent)
    if bias is not None:
        inputs = inputs + (bias[0] if cell.reset_after else bias)
        inner = inner + bias[1] if cell.reset_after else inner
    xz, xr, xh = ops.split(inputs, 3, axis=1)
    hz, hr, hh = ops.split(inner, 3, axis=1)
    z, r = cell.recurrent_activation(xz + hz), cell.recurrent_activation(xr + hr)
    # Before Cho's second version the reset gate acted before the product.
    hh = r * hh if cell.reset_after else ops.matmul(r * h, recurrent[:, 2 * cell.units :])
    candidate = cell.activation(xh + hh)
    return [z * h + (1 - z) * candidate, z, r, candidate]
