"""The structure of a compiled model: all that its training program depends on, so that two models of one structure can share it."""

import functools
import hashlib
import json
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ext._backend import keras_private
from keras_ext._wording import one_line
from keras_ext.layers import Dropout
from keras_ext.layers._dropout_mask import needs_two_bytes
from keras_ext.search.together.free_numbers import free_numbers, hidden

_OURS = ("keras.", "keras_ext.")
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_SIMPLE = (int, float, str, bool, type(None), np.generic)
# First values of variables, which each model has for itself.
_FIRST_VALUES = ("seed", "learning_rate")
# Layers of ours whose rate is a variable.
_DROPOUTS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D")
# Layers whose state is in no variable, and layers that call other frameworks.
_OPAQUE = ("StringLookup", "IntegerLookup", "TextVectorization", "Hashing", "HashedCrossing", "Discretization", "JaxLayer", "FlaxLayer",
           "TorchModuleWrapper", "TFSMLayer", "Pipeline")  # fmt: skip


class NotComparable(Exception):
    """Two models cannot be compared; the text is the reason."""


@dataclass(frozen=True)
class Structure:
    """The properties that two models must have in common to train in one program.

    Args:
        key: the same for models of one structure.
        kept: objects that the key names by their identity.
    """

    key: str
    kept: tuple[Any, ...]


def structure_of(model: Any) -> Structure:
    """Return the structure of a built, compiled model.

    First weights, seeds, the learning rate, the rate of our Dropout and the `free_numbers` are variables, and no part of it.

    Raises:
        NotComparable: the model may depend on what no config says.
    """
    if not keras_private.is_functional_or_sequential(model) or not type(model).__module__.startswith("keras."):
        raise NotComparable(f"{type(model).__name__} is a class of its own")
    layers = list(keras_private.flatten_layers(model))
    opaque = next((layer for layer in layers if type(layer).__name__ in _OPAQUE), None)
    if opaque is not None:
        raise NotComparable(f"{type(opaque).__name__} has state that is in no variable")
    kept = [*_own_parts([*layers, *_leaves(keras_private.compile_arguments(model))])]
    numbers = free_numbers(model, layers)
    try:
        with warnings.catch_warnings(), hidden(numbers):
            warnings.simplefilter("ignore")  # of lambdas, which nothing loads here
            described = [{**model.get_config(), "name": ""}, model.get_compile_config()]
            variables = [_variable(v) for v in model.variables]
    except Exception as error:  # of a config of the user's own
        raise NotComparable(f"it has no config ({one_line(error)})") from None
    with hidden(numbers):
        states = [_layer_state(layer) for layer in layers]
    config = keras.config
    parts = [
        _plain(described),
        states,
        variables,
        [number.label for number in numbers],
        [id(each) for each in kept],
        [config.floatx(), config.epsilon(), config.image_data_format()],
    ]
    try:
        text = json.dumps(parts, sort_keys=True, default=_by_content)
    except ValueError as error:  # a config that holds itself
        raise NotComparable(str(error)) from None
    return Structure(hashlib.sha256(text.encode()).hexdigest(), tuple(kept))


def _plain(config: Any) -> Any:
    """Return a config without what decides the first values of variables alone."""
    if isinstance(config, dict):
        if (
            keras.backend.backend() != "torch"
            and config.get("class_name") in _DROPOUTS
            and str(config.get("registered_name")).startswith("keras_ext>")
        ):
            config = {**config, "config": {name: value for name, value in config["config"].items() if name != "rate"}}
        return {name: _plain(value) for name, value in config.items() if not _is_first_value(name, value)}
    return [_plain(value) for value in config] if isinstance(config, list | tuple) else config


def _is_first_value(name: str, value: Any) -> bool:
    return (name == "initializer" or str(name).endswith("_initializer") or name in _FIRST_VALUES) and not _is_schedule(value)


def _is_schedule(value: Any) -> bool:
    return isinstance(value, dict) and "schedules" in str(value.get("module"))


def _variable(variable: Any) -> Any:
    rules = [keras.saving.serialize_keras_object(rule) for rule in (variable.regularizer, variable.constraint)]
    return [variable.path.partition("/")[2], tuple(variable.shape), str(variable.dtype), variable.trainable, rules]


def _layer_state(layer: Any) -> Any:
    """Return the values that a layer computes with beside its config and its variables."""
    # Those of PyTorch's that are no variables of Keras are in dictionaries of their own.
    held = {**vars(layer), **vars(layer).get("_buffers", {}), **vars(layer).get("_parameters", {})}
    arrays = {name: value for name, value in held.items() if _is_array(value)}
    rules = {n: keras.saving.serialize_keras_object(v) for n, v in vars(layer).items() if isinstance(v, keras.Regularizer)}
    dropped = (layer.rate > 0, needs_two_bytes(layer.rate)) if isinstance(layer, Dropout) else ()
    # A class of the user's own may keep what its config leaves out.
    own = {} if _is_ours(type(layer)) else {n: _own_value(layer, n, v) for n, v in vars(layer).items() if n not in _attributes_of_all()}
    return [layer.trainable, dropped, arrays, rules, own]


@functools.cache
def _attributes_of_all() -> frozenset[str]:
    """Return the names of the attributes that every layer of Keras has."""
    layer = keras.layers.Identity()
    layer(keras.Input((1,)))
    return frozenset(vars(layer))


def _own_value(layer: Any, name: str, value: Any) -> list[str]:
    """Return the numbers and texts in an attribute of a layer of the user's own; the layers, variables and arrays in it stand elsewhere."""
    leaves = keras.tree.flatten(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value)
    known = (*_SIMPLE, keras.layers.Layer, keras.Variable)
    strange = [v for v in leaves if not (isinstance(v, known) or _is_array(v) or _is_ours(type(v)) or (v is value and callable(v)))]
    if strange:
        raise NotComparable(f"{type(layer).__name__}.{name} is {type(strange[0]).__name__}")
    return [repr(leaf) for leaf in leaves if isinstance(leaf, _SIMPLE)]


def _own_parts(objects: Any) -> Iterator[Any]:
    """Yield the classes of the user's own among layers, and other objects and functions of the user's own, whose configs may not tell all.

    Such parts are alike where they are the same.
    """
    for each in objects:
        is_layer = isinstance(each, keras.layers.Layer)
        if not _is_ours(each if isinstance(each, _FUNCTIONS) else type(each)):
            yield type(each) if is_layer else each
        for name, value in vars(each).items() if hasattr(each, "__dict__") else ():
            is_code = callable(value) and not isinstance(value, keras.layers.Layer | type)
            # Keras wraps the method `build` of each layer.
            is_part = is_code and not name.endswith("initializer") and not (is_layer and name == "build")
            if is_part and not _is_ours(value if isinstance(value, _FUNCTIONS) else type(value)):
                yield value


def _is_ours(code: Any) -> bool:
    return (getattr(code, "__module__", None) or "").startswith(_OURS)


def _leaves(arguments: Any) -> Iterator[Any]:
    for leaf in keras.tree.flatten(arguments):
        if leaf is not None and not isinstance(leaf, str | int | float | bool):
            yield leaf


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (keras.ops.is_tensor(value) and not isinstance(value, keras.Variable))


def _by_content(value: Any) -> Any:
    """Return what JSON can hold of a config's value."""
    if isinstance(value, np.generic):
        return value.item()
    if _is_array(value):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(value))
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    raise NotComparable(f"its config holds {type(value).__name__}")
