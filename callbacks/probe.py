"""A look at a model: one batch forward and backward, compiled, of which only numbers come back."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.callbacks import statistics
from keras_ext.layers import Dropout

# Layers whose inner layers run once a time step, inside a loop of the framework: their outputs cannot be read from outside it.
_LOOPS = (keras.layers.RNN, keras.layers.TimeDistributed, keras.layers.Bidirectional)
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
_ACTIVATION_LAYERS = {keras.layers.ReLU: "relu"}
# float16 gradients are zero under 6e-8 and infinite over 65504; `fit` looks for a scale between, and so does a look.
_SCALES = {"float16": (2.0**10, 1.0, 2.0**-10)}


@dataclass(frozen=True)
class Activation:
    """One layer's output on the probe; `statistics.activation_statistics` says what the numbers are."""

    layer: str
    kind: str
    is_output: bool
    saturated: float
    saturated_units: float
    dead: float
    zeros: float
    rms: float
    finite: bool


@dataclass(frozen=True)
class Weight:
    """One weight and its gradient on the probe; `statistics.weight_statistics` says what the numbers are."""

    layer: str
    path: str
    is_kernel: bool
    gradient_norm: float
    weight_norm: float
    largest: float
    zero_gradients: float
    finite: bool


@dataclass(frozen=True)
class Look:
    """A model at one moment of its training, seen on the probe batch.

    `step` counts the batches of this fit, `epoch` its epochs; both are 0 before the first step. `spread` is 0 where the model predicts the
    same whatever its input.
    """

    step: int
    epoch: int
    loss: float
    spread: float
    activations: tuple[Activation, ...]
    weights: tuple[Weight, ...]

    @property
    def hidden(self) -> tuple[Activation, ...]:
        """The activations that are no output of the model."""
        return tuple(a for a in self.activations if not a.is_output)

    @property
    def kernels(self) -> tuple[Weight, ...]:
        """The weights with two axes or more, in the order of the layers."""
        return tuple(w for w in self.weights if w.is_kernel)

    @property
    def finite(self) -> bool:
        """False where the loss, an activation, a weight or a gradient is NaN or infinite."""
        return bool(np.isfinite(self.loss)) and all(p.finite for p in (*self.activations, *self.weights))

    @property
    def gradient_ratio(self) -> float:
        """Gradient norm of the first kernel over the largest of any kernel; 1 where all are zero or there is none."""
        norms = [w.gradient_norm for w in self.kernels]
        largest = max(norms, default=0.0)
        return norms[0] / largest if largest > 0 else 1.0


class Probe:
    """Looks at one compiled model on one batch; the model, its random state and its metrics stay as they are.

    The forward pass is that of training, but for what is random: layers of dropout and noise let their input through, and recurrent layers
    drop nothing. Batch normalization takes the batch's own statistics (a frozen one its moving statistics). Everything that the pass would
    write is caught by a stateless scope and forgotten.

    Args:
        model: a built and compiled Keras model.
        data: `(x, y, sample_weight)`, structures of arrays as `fit` takes them; the last two may be None.
    """

    def __init__(self, model: Any, data: tuple[Any, Any, Any]) -> None:
        self._model = model
        self._data = tree.map_structure(_as_fit_does, data)
        self._watched = list(_watched_layers(model))
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
        self._seen: list[tuple[str, str, bool]] = []
        self._run = _backend.compile_probe(self._forward, self._reduce)

    def look(self, step: int, epoch: int) -> Look:
        """Return the model's state now."""
        for scale in self._scales[:-1]:
            look = self._look(step, epoch, scale)
            if look.finite:
                return look
        return self._look(step, epoch, self._scales[-1])

    def _look(self, step: int, epoch: int, scale: float) -> Look:
        data = (*self._data, ops.convert_to_tensor(scale, "float32"))
        vector = [float(v) for v in self._run(self._trainable, self._other, data)]
        loss, spread, rest = vector[0], vector[1], vector[2:]
        activations, width = [], len(statistics.ACTIVATION_FIELDS)
        for i, (layer, kind, is_output) in enumerate(self._seen):
            values = dict(zip(statistics.ACTIVATION_FIELDS, rest[i * width : (i + 1) * width], strict=True))
            activations.append(Activation(layer, kind, is_output, **{**values, "finite": values["finite"] == 1.0}))
        rest, width = rest[len(activations) * width :], len(statistics.WEIGHT_FIELDS)
        weights = []
        for i, variable in enumerate(self._trainable):
            values = dict(zip(statistics.WEIGHT_FIELDS, rest[i * width : (i + 1) * width], strict=True))
            owner = self._owner.get(id(variable), self._model.name)
            weights.append(Weight(owner, variable.path, len(variable.shape) >= 2, **{**values, "finite": values["finite"] == 1.0}))
        return Look(step, epoch, loss, spread, tuple(activations), tuple(weights))

    def _forward(self, trainable: list[Any], other: list[Any], data: Any) -> tuple[Any, Any]:
        x, y, sample_weight, scale = data
        outputs: list[tuple[Any, Any, str, Any]] = []
        mapping = [*zip(self._trainable, trainable, strict=True), *zip(self._other, other, strict=True)]
        with (
            keras.StatelessScope(state_mapping=mapping, collect_losses=True),
            _recording(self._model, self._watched, outputs),
        ):
            predictions = self._model(x, training=True)
            loss = self._model.compute_loss(x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True)
        ends = {id(p) for p in tree.flatten(predictions)}
        self._seen = [(layer.name, kind, id(y) in ends) for layer, y, kind, _ in outputs]
        numbers = [statistics.activation_statistics(ops.stop_gradient(y), kind, axis) for _, y, kind, axis in outputs]
        spreads = [statistics.spread(ops.stop_gradient(p)) for p in tree.flatten(predictions)]
        return ops.cast(loss, "float32") * scale, (numbers, ops.max(ops.stack(spreads)), scale)

    def _reduce(self, loss: Any, gradients: list[Any], trainable: list[Any], outputs: Any) -> Any:
        numbers, spread, scale = outputs
        weights = [statistics.weight_statistics(w, ops.cast(g, "float32") / scale) for w, g in zip(trainable, gradients, strict=True)]
        return ops.concatenate([ops.stack([loss / scale, spread]), *numbers, *weights])


def _as_fit_does(array: Any) -> Any:
    """Return `array` as a tensor; floats in Keras's float type, as `fit` hands them to the model."""
    if array is None:
        return None
    array = np.asarray(array)
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(keras.config.floatx())
    return ops.convert_to_tensor(array)


def activation_of(layer: Any) -> str | None:
    """Return the name of the activation that ends `layer`, or None if it has none that saturates or dies."""
    kind = next((name for cls, name in _ACTIVATION_LAYERS.items() if isinstance(layer, cls)), None)
    if kind is None:
        kind = getattr(getattr(layer, "activation", None), "__name__", None)
    return kind if kind in statistics.SATURATING + statistics.RECTIFYING else None


def _watched_layers(model: Any) -> Iterator[tuple[Any, str]]:
    hidden = {
        id(inner)
        for layer in keras_private.flatten_layers(model)
        if isinstance(layer, _LOOPS)
        for inner in keras_private.flatten_layers(layer)
    }
    for layer in keras_private.flatten_layers(model):
        kind = activation_of(layer)
        if kind is not None and id(layer) not in hidden and not isinstance(layer, _LOOPS):
            yield layer, kind


@contextlib.contextmanager
def _recording(model: Any, watched: list[tuple[Any, str]], outputs: list[Any]) -> Iterator[None]:
    """Note the outputs of the watched layers, and switch off what is random, until the block ends."""
    kept: list[tuple[Any, str, bool, Any]] = []

    def replace(layer: Any, name: str, value: Any) -> None:
        # On the instance, whose own value or that of its class shows again afterwards.
        kept.append((layer, name, name in vars(layer), vars(layer).get(name)))
        setattr(layer, name, value)

    try:
        for layer, kind in watched:
            axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
            replace(layer, "call", _noting(layer, kind, axis, outputs))
        for layer in keras_private.flatten_layers(model):
            if isinstance(layer, _RANDOM):
                replace(layer, "call", _pass_through)
            for rate in _RATES:
                if isinstance(vars(layer).get(rate), float):
                    replace(layer, rate, 0.0)
        yield
    finally:
        for layer, name, was_own, value in reversed(kept):
            if was_own:
                setattr(layer, name, value)
            else:
                delattr(layer, name)


def _pass_through(inputs: Any, *args: Any, **kwargs: Any) -> Any:
    return inputs


def _noting(layer: Any, kind: str, axis: int, outputs: list[Any]) -> Callable[..., Any]:
    call = layer.call

    def noting(*args: Any, **kwargs: Any) -> Any:
        y = call(*args, **kwargs)
        if not isinstance(y, tuple | list | dict):
            outputs.append((layer, y, kind, axis))
        return y

    return noting
