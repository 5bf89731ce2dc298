"""The parts of a model that a repair can change: kernels, their activations, inputs and outputs."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.probe.names import names_of
from keras_ext.initializers._activation_after import Following, edges
from keras_ext.layers import BatchNormalization

KERNELS = (
    keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose, keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D, keras.layers.SeparableConv2D,
)  # fmt: skip
# Layers that are an activation.
ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU, keras.layers.Softmax)
NORMALIZATIONS = (
    keras.layers.BatchNormalization, BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization,
    keras.layers.RMSNormalization, keras.layers.UnitNormalization,
)  # fmt: skip


@dataclass(frozen=True)
class Hidden:
    """A hidden layer with a kernel, and the activation that follows it: the layer's own or that of the layer `by`."""

    name: str
    layer: Any
    activation: str
    by: str
    normalized: bool


class Anatomy:
    """Knows the parts of `model` by the names that the monitor reports."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.has_graph = keras_private.is_functional_or_sequential(model)
        self.names = names_of(model)
        self.layers = {self.names[id(layer)]: layer for layer in keras_private.flatten_layers(model)}
        self._feeds: dict[int, list[Any]] = {}
        self._fed: dict[int, list[Any]] = {}
        models = [m for m in (model, *keras_private.flatten_layers(model)) if keras_private.is_functional_or_sequential(m)]
        for each in models if self.has_graph else []:
            for producer, consumer in edges(each):
                self._feeds.setdefault(id(producer), []).append(consumer)
                self._fed.setdefault(id(consumer), []).append(producer)

    def last_operations(self) -> list[Any]:
        """Return the operation that makes each output, in the order of `keras.tree.flatten`."""
        if not self.has_graph:
            return []
        if isinstance(self.model, keras.Sequential):
            return self.model.layers[-1:]
        return [keras_private.operation_of(t) for t in keras.tree.flatten(self.model.outputs)]

    def output_layers(self) -> set[int]:
        """Return the `id` of each layer at the end of the model, up to the last one with weights."""
        found: set[int] = set()
        waiting = deque(self.last_operations())
        while waiting:
            operation = waiting.popleft()
            if id(operation) in found:
                continue
            found.add(id(operation))
            if keras_private.is_functional_or_sequential(operation):
                continue
            if not getattr(operation, "weights", None):
                waiting.extend(self._fed.get(id(operation), []))
        return found

    def hidden(self) -> list[Hidden]:
        """Return the hidden layers with kernels in the order of the model."""
        return list(self._hidden()) if self.has_graph else []

    def _hidden(self) -> Iterator[Hidden]:
        ends = self.output_layers()
        following = Following(self.model)
        for name, layer in self.layers.items():
            known = id(layer) in self._feeds or id(layer) in self._fed
            if not isinstance(layer, KERNELS) or id(layer) in ends or not known:
                continue
            own = getattr(getattr(layer, "activation", None), "__name__", "linear")
            after = self._feeds.get(id(layer), [])
            normalized = len(after) == 1 and isinstance(after[0], NORMALIZATIONS)
            if normalized:
                after = self._feeds.get(id(after[0]), [])
            by = name
            if own == "linear" and len(after) == 1 and isinstance(after[0], ACTIVATIONS):
                by = self.names[id(after[0])]
            activation = own if own != "linear" else following.activation(layer)[0] if by != name else "linear"
            yield Hidden(name, layer, activation, by, normalized)

    def first_layers(self, place: int) -> list[Any]:
        """Return the operations that take the input of that place."""
        if not self.has_graph:
            return []
        if isinstance(self.model, keras.Sequential):
            return self.model.layers[:1]
        tensors = keras.tree.flatten(self.model.inputs)
        return self._feeds.get(id(keras_private.operation_of(tensors[place])), [])

    def is_gate(self, layer: Any) -> bool:
        """Return whether the output of `layer` is a factor of a product, as a gate's is."""
        waiting, seen = deque([layer]), set()
        while waiting:
            for consumer in self._feeds.get(id(waiting.popleft()), []):
                if type(consumer).__name__ == "Multiply":
                    return True
                if id(consumer) not in seen and isinstance(consumer, (*ACTIVATIONS, *NORMALIZATIONS, keras.layers.Dropout)):
                    seen.add(id(consumer))
                    waiting.append(consumer)
        return False
