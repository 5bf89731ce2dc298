"""A look at a model: one batch forward and backward, compiled, of which only numbers come back."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.callbacks import statistics
from keras_ext.callbacks.look import Activation, Look, Weight
from keras_ext.callbacks.recording import Recording, watched_layers

# float16 gradients are zero under 6e-8 and infinite over 65504; `fit` looks for a scale between, and so does a look.
_SCALES = {"float16": (2.0**10, 1.0, 2.0**-10)}


class UnknownLayer(ValueError):
    """The model has no layer of a name that it was asked about."""


class Probe:
    """Looks at one compiled model on one batch; the model, its random state and its metrics stay as they are.

    The forward pass is that of training, but for what is random: layers of dropout and noise let their input through, and recurrent layers
    drop nothing. Batch normalization takes the batch's own statistics (a frozen one its moving statistics). Everything that the pass would
    write is caught by a stateless scope and forgotten.

    Args:
        model: a built and compiled Keras model.
        data: `(x, y, sample_weight)`, structures of arrays as `fit` takes them; the last two may be None.
        rank: whether to measure effective ranks.
        layers: names of the layers to tell about; None for all.

    Raises:
        UnknownLayer: the model has no layer of that name.
    """

    def __init__(self, model: Any, data: tuple[Any, Any, Any], rank: bool = False, layers: Sequence[str] | None = None) -> None:
        self._model = model
        self._layers = layers if layers is None else _known(layers, model)
        self._data = tree.map_structure(_as_fit_does, data)
        self._rank = rank
        self._watched = list(watched_layers(model))
        # On PyTorch a wrapped module computes with its own parameters, of which a stateless scope does not know.
        foreign = {
            id(v)
            for layer in keras_private.flatten_layers(model)
            if isinstance(layer, keras.layers.TorchModuleWrapper)
            for v in layer.variables
        }
        self._trainable = [v for v in model.trainable_variables if id(v) not in foreign]
        self._other = [v for v in model.non_trainable_variables if id(v) not in foreign]
        # A block comes before its parts, so that the part, the owner of the weight, is named last.
        self._owner = {id(v): layer.name for layer in keras_private.flatten_layers(model) for v in layer.trainable_variables}
        half = any(layer.compute_dtype == "float16" for layer in keras_private.flatten_layers(model))
        self._scales = _SCALES["float16"] if half else (1.0,)
        self._seen: list[tuple[str, str, str, bool]] = []
        self._kept: Any = None
        self._run = _backend.compile_probe(self._forward, self._reduce)

    def look(self, step: int, epoch: int, is_regular: bool = True) -> Look:
        """Return the model's state now."""
        for scale in self._scales:
            look, kept = self._look(step, epoch, scale, is_regular)
            if look.finite:
                break
        self._kept = kept
        return look

    def _look(self, step: int, epoch: int, scale: float, is_regular: bool) -> tuple[Look, Any]:
        is_first = self._kept is None
        before = self._zeros() if is_first else self._kept
        data = (*self._data, ops.convert_to_tensor(scale, "float32"), before)
        vector, kept = self._run(self._trainable, self._other, data)
        loss, spread, rest = float(vector[0]), float(vector[1]), vector[2:].astype("float64")
        width = len(statistics.ACTIVATION_FIELDS)
        activations = []
        for i, seen in enumerate(self._seen):
            values: dict[str, float] = dict(zip(statistics.ACTIVATION_FIELDS, map(float, rest[i * width : (i + 1) * width]), strict=True))
            activations.append(_activation(*seen, values, self._rank))
        rows = rest[len(activations) * width :].reshape(len(self._trainable), len(statistics.WEIGHT_FIELDS))
        weights = []
        for variable, row in zip(self._trainable, rows, strict=True):
            told: dict[str, float] = dict(zip(statistics.WEIGHT_FIELDS, map(float, row), strict=True))
            if is_first:
                told["update"] = math.nan
            owner = self._owner.get(id(variable), self._model.name)
            if self._layers is None or owner in self._layers:
                weights.append(_weight(variable, owner, told))
        return Look(step, epoch, loss, spread, tuple(activations), tuple(weights), is_regular), kept

    def _zeros(self) -> Any:
        sizes = [math.prod(v.shape) for v in self._trainable]
        return ops.zeros((sum(len(range(0, n, -(-n // statistics.KEPT) or 1)) for n in sizes),), "float32")

    def _forward(self, trainable: list[Any], other: list[Any], data: Any) -> tuple[Any, Any]:
        x, y, sample_weight, scale, before = data
        recording = Recording(self._model, self._watched)
        mapping = [*zip(self._trainable, trainable, strict=True), *zip(self._other, other, strict=True)]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True), recording:
            predictions = self._model(x, training=True)
            loss = self._model.compute_loss(x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True)
            seen = recording.values(predictions)
        seen = [s for s in seen if self._layers is None or s.layer in self._layers]
        self._seen = [(s.layer, s.kind, s.part, s.is_output) for s in seen]
        numbers = [statistics.activation_statistics(ops.stop_gradient(s.values), s.kind, s.axis, self._rank) for s in seen]
        spreads = [statistics.spread(ops.stop_gradient(p)) for p in tree.flatten(predictions)]
        return ops.cast(loss, "float32") * scale, (numbers, ops.max(ops.stack(spreads)), scale, before)

    def _reduce(self, loss: Any, gradients: list[Any], trainable: list[Any], outputs: Any) -> tuple[Any, Any]:
        numbers, spread, scale, before = outputs
        head = [ops.stack([loss / scale, spread]), *numbers]
        if not trainable:
            return ops.concatenate(head), before
        unscaled = [ops.cast(g, "float32") / scale for g in gradients]
        weights, kept = statistics.weight_statistics(trainable, unscaled, before)
        return ops.concatenate([*head, ops.reshape(weights, (-1,))]), kept


def _known(layers: Sequence[str], model: Any) -> tuple[str, ...]:
    names = [layer.name for layer in keras_private.flatten_layers(model) if not isinstance(layer, keras.layers.InputLayer)]
    for name in layers:
        if name not in names:
            raise UnknownLayer(f"`layers` must name layers of the model, got {name!r}. It has {', '.join(names)}.")
    return tuple(layers)


def _activation(layer: str, kind: str, part: str, is_output: bool, values: dict[str, float], rank: bool) -> Activation:
    if not rank:
        values["rank"] = math.nan
    return Activation(layer, kind, part, is_output, **values, finite=math.isfinite(values["rms"]))


def _weight(variable: Any, layer: str, values: dict[str, float]) -> Weight:
    is_kernel = len(variable.shape) >= 2
    finite = math.isfinite(values["gradient_norm"]) and math.isfinite(values["weight_norm"])
    # The last axis of a kernel is that of the units, the others are summed.
    fan_in = math.prod(variable.shape[:-1])
    scale = values["weight_norm"] / math.sqrt(math.prod(variable.shape)) * math.sqrt(fan_in) if is_kernel else math.nan
    return Weight(layer, variable.path, is_kernel, **values, finite=finite, scale=scale)


def _as_fit_does(array: Any) -> Any:
    """Return `array` as a tensor; floats in Keras's float type, as `fit` hands them to the model."""
    if array is None:
        return None
    array = np.asarray(array)
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(keras.config.floatx())
    return ops.convert_to_tensor(array)
