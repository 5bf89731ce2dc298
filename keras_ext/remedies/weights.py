"""First weights drawn again for some layers of a model, biases and recurrent gates among them."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._backend import keras_private
from keras_ext.initializers import initialize

# What weights of one axis start at, by their names.
_FIRST = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "scale": 1.0, "moving_mean": 0.0, "moving_variance": 1.0}


def draw_again(model: Any, layers: Iterable[Any], seed: int) -> None:
    """Give the weights of `layers`, and of layers inside them, first values: kernels by `initialize(model, "auto")`, biases 0.

    Recurrent kernels are orthogonal, and an LSTM's forget gate starts with a bias of 1 (Jozefowicz et al. 2015). Frozen weights stay.
    """
    chosen = {id(part): part for layer in layers for part in (layer, *keras_private.flatten_layers(layer))}
    drawn = {id(v) for part in chosen.values() if _can_change(part) for v in part.weights}
    kept = [(v, ops.convert_to_numpy(v)) for v in model.weights if id(v) not in drawn]
    initialize(model, "auto", seed)
    for variable, value in kept:
        variable.assign(value)
    for part in chosen.values():
        if _can_change(part):
            _start_vectors(part)


def _can_change(layer: Any) -> bool:
    return bool(layer.trainable_variables)


def _start_vectors(layer: Any) -> None:
    inside = {id(v) for part in keras_private.flatten_layers(layer) for v in part.weights}
    for variable in layer.weights:
        if id(variable) in inside or variable.name not in _FIRST:
            continue
        value = np.full(variable.shape, _FIRST[variable.name], "float32")
        if isinstance(layer, keras.layers.LSTMCell):
            value[..., layer.units : 2 * layer.units] = 1.0
        variable.assign(ops.cast(ops.convert_to_tensor(value), variable.dtype))
