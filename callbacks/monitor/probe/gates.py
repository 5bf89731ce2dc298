"""The gates inside a recurrent layer at every step, computed again from its input and weights."""

from typing import Any

import keras
from keras import ops


def gates(layer: Any, x: Any) -> dict[str, tuple[str, Any]]:
    """Return the values of the gates of an LSTM or GRU layer for its input `x`, by name: the activation's name, and the values.

    Args:
        layer: a built keras.layers.LSTM or GRU.
        x: shape (samples, steps, features). Dropout is left out, the first state is 0, and padded steps count.

    Returns:
        Values of shape (samples, steps, units). LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000): input, forget and output gate,
        and the candidate. GRU (Cho et al. 2014): update and reset gate, and the candidate.
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
    step = (_lstm_step if is_lstm else _gru_step)(cell, kernel, recurrent, bias)
    states = 2 if is_lstm else 1
    # State and gates go through the steps as one tensor: on TensorFlow Keras's scan returns only what is shaped as the state.
    first = ops.zeros((ops.shape(x)[0], cell.units * (states + len(names))), "float32")

    def carried(all_of: Any, x: Any) -> Any:
        now = ops.concatenate(step(ops.split(all_of, states + len(names), axis=1)[:states], x), axis=1)
        return now, now

    _, values = ops.scan(carried, first, steps)
    parts = ops.split(ops.transpose(values, (1, 0, 2)), states + len(names), axis=2)[states:]
    kinds = [_name(cell.activation if name == "candidate" else cell.recurrent_activation) for name in names]
    return {name: (kind, part) for name, kind, part in zip(names, kinds, parts, strict=True)}


def _lstm_step(cell: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    def step(state: Any, x: Any) -> Any:
        h, c = state
        z = ops.matmul(x, kernel) + ops.matmul(h, recurrent)
        i, f, candidate, o = ops.split(z if bias is None else z + bias, 4, axis=1)
        i, f, o = (cell.recurrent_activation(v) for v in (i, f, o))
        candidate = cell.activation(candidate)
        c = f * c + i * candidate
        return [o * cell.activation(c), c, i, f, o, candidate]

    return step


def _gru_step(cell: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    def step(state: Any, x: Any) -> Any:
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

    return step


def _name(activation: Any) -> str:
    return getattr(activation, "__name__", "linear")
