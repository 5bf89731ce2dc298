"""The weights that a network takes over from a shallower one."""

import re
from typing import Any

import keras
import numpy as np


def take_over(old: keras.Model, new: keras.Model, identity: bool = False) -> list[Any]:
    """Give `new` the weights of the layers that it has in common with `old`; returns these layers of `new`, from the input on.

    With `identity` Dense layers in between begin as identity, if they all can, and the layers behind them take over theirs too.
    """
    a, b = old.layers, new.layers
    first = 0
    while first < min(len(a), len(b)) and _alike(a[first], b[first]):
        b[first].set_weights(a[first].get_weights())
        first += 1
    last = 0
    while last < min(len(a), len(b)) - first and _alike(a[-1 - last], b[-1 - last]):
        last += 1
    added = [layer for layer in b[first : len(b) - last] if layer.weights]
    if identity and added and all(_begins_as_identity(layer) for layer in added):
        for i in range(1, last + 1):
            b[-i].set_weights(a[-i].get_weights())
    return list(b[:first])


def _alike(a: Any, b: Any) -> bool:
    shapes = [[tuple(w.shape) for w in layer.weights] for layer in (a, b)]
    return type(a) is type(b) and _plain_name(a) == _plain_name(b) and shapes[0] == shapes[1]


def _plain_name(layer: Any) -> str:
    return re.sub(r"(_\d+)+$", "", layer.name)


def _begins_as_identity(layer: Any) -> bool:
    """Let a Dense layer pass its input on; returns whether it can."""
    if not isinstance(layer, keras.layers.Dense) or layer.kernel.shape[0] != layer.kernel.shape[1]:
        return False
    layer.kernel.assign(np.eye(layer.kernel.shape[0]))
    if layer.bias is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))
    return True
