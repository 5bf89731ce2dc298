"""A recording of the outputs of a model's layers in one call, with random layers switched off."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.probe import statistics
from keras_ext.callbacks.monitor.probe.gates import gates
from keras_ext.layers import BatchNormalization, Dropout
from keras_ext.tables import ClassNames

# Layers whose inner layers run once a time step, inside a loop of the framework: their outputs cannot be read from outside it.
_LOOPS = (keras.layers.RNN, keras.layers.TimeDistributed)
# Layers whose gates are computed again; ConvLSTM's are not.
_GATED = (keras.layers.LSTM, keras.layers.GRU)
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
# Layers whose parts go under the layer's own name.
WHOLE = (*_LOOPS, *_ATTENTION)
# Layers that leave the values as they are, in another shape or scale: what stands before them at the model's end is its output too.
_SHAPES = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Identity,
    keras.layers.RepeatVector,
    keras.layers.Rescaling,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    ClassNames,
)
# Layers that do nothing but change their input at random in training.
_RANDOM = (
    Dropout,
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
)
# Rates of dropout inside recurrent layers and their cells.
_RATES = ("dropout", "recurrent_dropout")
# Activations that are layers of their own, without an `activation` attribute.
_ACTIVATION_LAYERS = {keras.layers.ReLU: "relu", keras.layers.Softmax: "softmax"}
# Layers that sum up what they are given: the first of them shows at what scale a model takes its inputs.
_WITH_KERNEL = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.RNN,
)
# Layers whose output does not depend on their input's scale.
_NORMALIZING = (
    keras.layers.BatchNormalization,
    BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)
# Activations that give a multiple of their input as the same multiple of their output.
_HOMOGENEOUS = ("linear", "relu", "leaky_relu")
_KINDS = statistics.SATURATING + statistics.RECTIFYING + statistics.CHOOSING


@dataclass(frozen=True)
class Seen:
    """The values of one activation, and the axis of its units; `part` names a gate of a recurrent layer."""

    layer: str
    kind: str
    part: str
    is_output: bool
    values: Any
    axis: int


def activation_of(layer: Any) -> str | None:
    """Return the name of the activation that ends `layer`, or None if it has none that saturates or dies."""
    kind = next((name for cls, name in _ACTIVATION_LAYERS.items() if isinstance(layer, cls)), None)
    if kind is None:
        kind = getattr(getattr(layer, "activation", None), "__name__", None)
    return kind if kind in _KINDS else None


def watched_layers(model: Any) -> Iterator[tuple[Any, str]]:
    """Yield the layers whose outputs are noted, and for each what is noted: an activation's name, `"gates"`, or `"shape"` for nothing."""
    layers = list(keras_private.flatten_layers(model))
    inside = {id(inner) for layer in layers if isinstance(layer, WHOLE) for inner in keras_private.flatten_layers(layer)}
    for layer in layers:
        if id(layer) in inside:
            continue
        if isinstance(layer, _GATED):
            yield layer, "gates"
        elif isinstance(layer, _ATTENTION):
            yield layer, "softmax"
        elif isinstance(layer, _SHAPES):
            yield layer, "shape"
        elif not isinstance(layer, _LOOPS):
            kind = activation_of(layer)
            if kind is not None:
                yield layer, kind


class Recording:
    """Notes the outputs of watched layers, and switches off what is random, while its block runs.

    Args:
        model: the model that is called in the block.
        watched: what `watched_layers` gave for it.
    """

    def __init__(self, model: Any, watched: list[tuple[Any, str]]) -> None:
        self._model, self._watched = model, watched
        self._outputs: list[tuple[Any, str, Any]] = []
        self._reshaped: list[tuple[Any, Any]] = []
        # What the first layer with a kernel was given.
        self.first_input: Any = None
        # The layers with a kernel whose output is normalized at once.
        self.normalized: list[Any] = []
        self._sums: dict[int, tuple[Any, Any]] = {}
        self._kept: list[tuple[Any, str, bool, Any]] = []

    def __enter__(self) -> "Recording":
        """Replace the calls of the layers."""
        try:
            for layer, kind in self._watched:
                self._replace(layer, "call", self._noting(layer, kind))
            for layer in keras_private.flatten_layers(self._model):
                if isinstance(layer, _WITH_KERNEL):
                    self._replace(layer, "call", self._noting_sum(layer, layer.call))
                if isinstance(layer, _NORMALIZING):
                    self._replace(layer, "call", self._noting_normalized(layer.call))
                if isinstance(layer, _RANDOM):
                    self._replace(layer, "call", _pass_through)
                for rate in _RATES:
                    if isinstance(vars(layer).get(rate), float):
                        self._replace(layer, rate, 0.0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        """Put everything back."""
        for layer, name, was_own, value in reversed(self._kept):
            if was_own:
                setattr(layer, name, value)
            else:
                delattr(layer, name)
        self._kept.clear()

    def values(self, predictions: Any) -> list[Seen]:
        """Return what was noted, in the order of the calls; `predictions` is what the model returned."""
        ends = {id(p) for p in tree.flatten(predictions)}
        for x, y in reversed(self._reshaped):
            if id(y) in ends:
                ends.add(id(x))
        seen = []
        for layer, kind, values in self._outputs:
            if kind == "gates":
                parts = [(name, part, v) for part, (name, v) in gates(layer, values).items() if name in _KINDS]
                seen += [Seen(layer.name, name, part, False, v, -1) for name, part, v in parts]
            else:
                axis = 1 if kind != "softmax" and getattr(layer, "data_format", None) == "channels_first" else -1
                seen.append(Seen(layer.name, kind, "", id(values) in ends, values, axis))
        return seen

    def _replace(self, layer: Any, name: str, value: Any) -> None:
        # On the instance, whose own value or that of its class shows again afterwards.
        self._kept.append((layer, name, name in vars(layer), vars(layer).get(name)))
        setattr(layer, name, value)

    def _noting(self, layer: Any, kind: str) -> Callable[..., Any]:
        call = layer.call
        if isinstance(layer, _ATTENTION):
            return self._noting_choices(layer, call)

        def noting(*args: Any, **kwargs: Any) -> Any:
            y = call(*args, **kwargs)
            x = [*args, *kwargs.values()][0]
            if kind == "shape":
                self._reshaped.append((x, y))
            elif kind == "gates":
                self._outputs.append((layer, kind, x))
            elif not isinstance(y, tuple | list | dict):
                self._outputs.append((layer, kind, y))
            return y

        return noting

    def _noting_sum(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        is_homogeneous = getattr(getattr(layer, "activation", None), "__name__", "linear") in _HOMOGENEOUS

        def noting(*args: Any, **kwargs: Any) -> Any:
            if self.first_input is None:
                self.first_input = [*args, *kwargs.values()][0]
            y = call(*args, **kwargs)
            if is_homogeneous:
                self._sums[id(y)] = layer, y  # y too, so that its number is not given to another
            return y

        return noting

    def _noting_normalized(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            x = [*args, *kwargs.values()][0]
            if id(x) in self._sums:
                self.normalized.append(self._sums[id(x)][0])
            return call(*args, **kwargs)

        return noting

    def _noting_choices(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, return_attention_scores: bool = False, **kwargs: Any) -> Any:
            y, scores = call(*args, return_attention_scores=True, **kwargs)
            self._outputs.append((layer, "softmax", scores))
            return (y, scores) if return_attention_scores else y

        return noting


def _pass_through(inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs
