"""Which activation comes after a layer."""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import keras

from keras_ext._backend import keras_private
from keras_ext.initializers._weights import weights_of

# Layers that are an activation without an attribute of that name, and Keras's operations: by their classes' names.
_BY_CLASS = {
    name: name.replace("_", "")
    for name in (
        *("relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus", "softmax", "log_softmax"),
        *("tanh", "sigmoid", "hard_sigmoid", "hard_silu", "hard_tanh", "softsign", "tanh_shrink", "log_sigmoid", "glu"),
    )
}


class Following:
    """Knows for each layer of `model` the activation after it, as far as Keras knows how the layers are put together.

    That is so in Sequential and functional models, nested ones too. In the `call` of a subclassed model nobody can take a snapshot, and
    only a layer's own `activation` counts.
    """

    def __init__(self, model: Any) -> None:
        self._consumers: dict[int, list[Any]] = {}
        models = [m for m in (model, *keras_private.flatten_layers(model)) if keras_private.is_functional_or_sequential(m)]
        # A nested model's layers depend on its own inputs: what feeds the model feeds those, what its outputs feed is what it feeds.
        ends = {id(m): _ends(m) for m in models}
        self._entries = {key: entries for key, (entries, _) in ends.items()}
        for m in models:
            for producer, consumer in edges(m):
                for source in ends[id(producer)][1] if id(producer) in ends else [producer]:
                    self._consumers.setdefault(id(source), []).append(consumer)
        self._weighted = {id(w.layer) for w in weights_of(model)}
        # A wrapper stands for what it wraps, and the other way round.
        self._wrapper = {id(w.layer): w for w in keras_private.flatten_layers(model) if isinstance(w, keras.layers.Wrapper)}

    def activation(self, layer: Any) -> tuple[str, float | None]:
        """Return the name of the first activation after `layer`, "linear" if there is none, and leaky_relu's slope.

        Layers without weights of a scale, as normalisation, dropout, pooling and sums, are passed.
        """
        own = _activation_of(layer)
        if own[0] != "linear":
            return own
        reached, waiting = set(), deque([layer])
        while waiting:
            for consumer in self._after(waiting.popleft()):
                wrapped = consumer.layer if isinstance(consumer, keras.layers.Wrapper) else consumer
                if id(consumer) in reached or id(wrapped) in self._weighted:
                    continue
                reached.add(id(consumer))
                found = _activation_of(consumer)
                if found[0] != "linear":
                    return found
                waiting.append(consumer)
        return "linear", None

    def _after(self, operation: Any) -> list[Any]:
        operation = self._wrapper.get(id(operation), operation)
        after = []
        for consumer in self._consumers.get(id(operation), []):
            entries = self._entries.get(id(consumer))
            after += [consumer] if entries is None else entries
        return after


def edges(model: Any) -> Iterator[tuple[Any, Any]]:
    """Yield which operation of a functional model, or layer of a Sequential, feeds which."""
    if isinstance(model, keras.Sequential):
        yield from pairwise(model.layers)
        return
    for consumer in model.operations:
        for producer in keras_private.producers_of(consumer):
            yield producer, consumer


def _ends(model: Any) -> tuple[list[Any], list[Any]]:
    """Return the first and the last operations of a model; a Sequential's need not have symbolic inputs."""
    if isinstance(model, keras.Sequential):
        return model.layers[:1], model.layers[-1:]
    first, last = ([keras_private.operation_of(tensor) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    return first, last


def _activation_of(operation: Any) -> tuple[str, float | None]:
    """Return the activation that `operation` is or ends with, and leaky_relu's slope."""
    function = getattr(operation, "activation", None)
    if isinstance(function, keras.layers.Layer):
        return _activation_of(function)
    slope = getattr(operation, "negative_slope", None)
    name = getattr(function, "__name__", None)
    if name is None:
        name = next((known for known, short in _BY_CLASS.items() if type(operation).__name__.lower() == short), "linear")
    if name == "relu" and slope:
        name = "leaky_relu"
    return name, (None if slope is None else float(slope)) if name == "leaky_relu" else None
