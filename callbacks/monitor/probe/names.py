"""The names by which layers are reported."""

from collections import Counter
from typing import Any

from keras_ext._backend import keras_private


def names_of(model: Any) -> dict[int, str]:
    """Return the name of each layer inside `model` by its `id`: its own, or its path where several have the same, as blocks' parts do."""
    layers = {id(layer): layer for layer in keras_private.flatten_layers(model)}
    counts = Counter(layer.name for layer in layers.values())
    return {key: layer.name if counts[layer.name] == 1 else str(layer.path or layer.name) for key, layer in layers.items()}


def is_named(name: str, chosen: Any) -> bool:
    """Return whether one of the `chosen` names is this one, or its last part; all names are where `chosen` is None."""
    return chosen is None or name in chosen or name.rpartition("/")[2] in chosen
