"""A recording of the outputs of a model's layers in one call, with random layers switched off."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.probe import statistics
from keras_ext.callbacks.monitor.probe.gates import gates
from keras_ext.callbacks.monitor.probe.through_time import noted
from keras_ext.layers import BatchNormalization, Dropout
from keras_ext.tables import ClassNames


def _keras_layers(names: str) -> tuple[type, ...]:
    return tuple(getattr(keras.layers, name) for name in names.split())


# Layers whose gates are computed again; ConvLSTM's are not.
_GATED = _keras_layers("LSTM GRU")
_ATTENTION = _keras_layers("MultiHeadAttention GroupQueryAttention")
# Layers whose parts go under the layer's own name. The inner layers of all but attention run once a time step, inside a loop of the
# framework: their outputs cannot be read from outside it.
OPAQUE = (*_keras_layers("RNN TimeDistributed"), *_ATTENTION)
# Layers that leave the values as they are, in another shape or scale: what stands before them at the model's end is its output too.
_SHAPES = (*_keras_layers("Reshape Flatten Permute Identity RepeatVector Rescaling Cropping1D Cropping2D Cropping3D"), ClassNames)
# Layers that do nothing but change their input at random in training; Keras's spatial dropouts are Dropouts.
_RANDOM = (Dropout, *_keras_layers("Dropout GaussianDropout GaussianNoise AlphaDropout"))
# Layers that sum up what they are given: the first of them shows at what scale a model takes its inputs.
_WITH_KERNEL = _keras_layers("Dense EinsumDense Conv1D Conv2D Conv3D SeparableConv1D SeparableConv2D DepthwiseConv1D DepthwiseConv2D RNN")
# Layers whose output does not depend on their input's scale.
_NORMALIZING = (
    BatchNormalization,
    *_keras_layers("BatchNormalization LayerNormalization GroupNormalization RMSNormalization UnitNormalization"),
)
# Layers that normalize by other numbers in inference than in training.
_MOVING = (BatchNormalization, keras.layers.BatchNormalization)
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


def watched_layers(model: Any) -> Iterator[tuple[Any, str]]:
    """Yield the layers whose outputs are noted, and for each what is noted: an activation's name, `"gates"`, or `"shape"` for nothing."""
    for layer in _seen_from_outside(model):
        if isinstance(layer, _GATED):
            yield layer, "gates"
        elif isinstance(layer, _ATTENTION):
            yield layer, "softmax"
        elif isinstance(layer, _SHAPES):
            yield layer, "shape"
        elif isinstance(layer, keras.layers.SimpleRNN) or not isinstance(layer, OPAQUE):
            # Activations that are layers of their own have no `activation`.
            own = {keras.layers.ReLU: "relu", keras.layers.Softmax: "softmax"}
            kind = next((name for cls, name in own.items() if isinstance(layer, cls)), _activation_of(layer))
            if kind in _KINDS:
                yield layer, kind


def recurrent_layers(model: Any) -> list[Any]:
    """Return the layers at whose inputs the gradient is noted by time step."""
    return [layer for layer in _seen_from_outside(model) if isinstance(layer, keras.layers.RNN)]


def _seen_from_outside(model: Any) -> list[Any]:
    layers = list(keras_private.flatten_layers(model))
    inside = {id(inner) for layer in layers if isinstance(layer, OPAQUE) for inner in keras_private.flatten_layers(layer)}
    return [layer for layer in layers if id(layer) not in inside]


def _activation_of(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


class Recording:
    """Notes the outputs of the `watched_layers` of a model, and switches off what is random in it, while its block runs.

    By the `id` of a layer, `names` has its name, and `notes` the tensor whose gradient will tell of it, if it is one of the
    `recurrent_layers`.
    """

    def __init__(self, model: Any, watched: list[tuple[Any, str]], names: Mapping[int, str], notes: Mapping[int, Any]) -> None:
        self._model, self._names, self._notes = model, names, notes
        # The time steps of each recurrent layer; 0 where a mask leaves some out.
        self.steps: dict[int, int] = {}
        self._kinds = {id(layer): kind for layer, kind in watched}
        self._outputs: list[tuple[Any, str, Any]] = []
        self._reshaped: list[tuple[Any, Any]] = []
        # What the first layer with a kernel was given.
        self.first_input: Any = None
        # Names of the batch normalizations that train, and how far its moving statistics are from the probe's.
        self.moving: list[tuple[str, Any]] = []
        # Names of the embeddings, and what of their ids is no row.
        self.ids: list[tuple[str, Any]] = []
        # The layers with a kernel whose output is normalized at once.
        self.normalized: list[Any] = []
        self._sums: dict[int, tuple[Any, Any]] = {}
        self._replaced: list[tuple[Any, str, bool, Any]] = []

    def __enter__(self) -> "Recording":
        try:
            for layer in keras_private.flatten_layers(self._model):
                if isinstance(layer, _RANDOM):
                    self._replace(layer, "call", _pass_through)
                elif id(layer) in self._kinds or isinstance(layer, (*_WITH_KERNEL, *_NORMALIZING, keras.layers.Embedding)):
                    self._replace(layer, "call", self._noting(layer, self._kinds.get(id(layer), "")))
                for rate in ("dropout", "recurrent_dropout"):  # inside recurrent layers and their cells
                    if isinstance(vars(layer).get(rate), float):
                        self._replace(layer, rate, 0.0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        for layer, name, was_own, value in reversed(self._replaced):
            if was_own:
                setattr(layer, name, value)
            else:
                delattr(layer, name)
        self._replaced.clear()

    def values(self, predictions: Any) -> list[Seen]:
        """Return what was noted, in the order of the calls, and the outputs in theirs; `predictions` is what the model returned."""
        ends = {id(p): place for place, p in enumerate(tree.flatten(predictions))}
        for x, y in reversed(self._reshaped):
            if id(y) in ends:
                ends[id(x)] = ends[id(y)]
        seen = []
        for layer, kind, values in self._outputs:
            if kind == "gates":
                parts = [(name, part, v) for part, (name, v) in gates(layer, values).items() if name in _KINDS]
                seen += [Seen(self._names[id(layer)], name, part, False, v, -1) for name, part, v in parts]
            else:
                axis = 1 if kind != "softmax" and getattr(layer, "data_format", None) == "channels_first" else -1
                part = statistics.ATTENTION if isinstance(layer, _ATTENTION) else ""
                seen.append(Seen(self._names[id(layer)], kind, part, id(values) in ends, values, axis))
        places = [i for i, each in enumerate(seen) if each.is_output]
        in_order = sorted((seen[i] for i in places), key=lambda each: ends[id(each.values)])
        for i, each in zip(places, in_order, strict=True):
            seen[i] = each
        return seen

    def _replace(self, layer: Any, name: str, value: Any) -> None:
        # On the instance, whose own value or that of its class shows again afterwards.
        self._replaced.append((layer, name, name in vars(layer), vars(layer).get(name)))
        setattr(layer, name, value)

    def _noting(self, layer: Any, kind: str) -> Callable[..., Any]:
        """Return a call that does what the layer's does, and notes what is noted of a layer of this kind; `""` if nothing is watched."""
        call, has_kernel, normalizes = layer.call, isinstance(layer, _WITH_KERNEL), isinstance(layer, _NORMALIZING)
        is_homogeneous = has_kernel and _activation_of(layer) in _HOMOGENEOUS

        def choosing(*args: Any, return_attention_scores: bool = False, **kwargs: Any) -> Any:
            y, scores = call(*args, return_attention_scores=True, **kwargs)
            self._outputs.append((layer, kind, scores))
            return (y, scores) if return_attention_scores else y

        def noting(*args: Any, **kwargs: Any) -> Any:
            x = [*args, *kwargs.values()][0]
            if has_kernel and self.first_input is None:
                self.first_input = x
            if normalizes and id(x) in self._sums:
                self.normalized.append(self._sums[id(x)][0])
            if isinstance(layer, _MOVING) and layer.trainable and kwargs.get("training") is not False and isinstance(layer.axis, int):
                mean, variance = layer.moving_mean, layer.moving_variance
                self.moving.append(
                    (self._names[id(layer)], statistics.normalization_statistics(x, mean, variance, layer.axis, layer.epsilon))
                )
            if isinstance(layer, keras.layers.Embedding):
                self.ids.append((self._names[id(layer)], statistics.id_statistics(x, layer.input_dim)))
            # Padded steps have no gradient, and would count for steps that it does not reach.
            if id(layer) in self._notes and args and x.shape[1] and kwargs.get("mask") is None:
                self.steps[id(layer)] = x.shape[1]
                args = (noted(x, self._notes[id(layer)]), *args[1:])
            y = call(*args, **kwargs)
            if kind == "shape":
                self._reshaped.append((x, y))
            elif kind == "gates":
                self._outputs.append((layer, kind, x))
            elif kind and not isinstance(y, tuple | list | dict):
                self._outputs.append((layer, kind, y))
            if is_homogeneous:
                self._sums[id(y)] = layer, y  # y too, so that its number is not given to another
            return y

        return choosing if isinstance(layer, _ATTENTION) else noting


def _pass_through(inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs
