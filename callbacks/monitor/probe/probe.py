"""A snapshot of a model: one batch forward and backward, compiled, of which only numbers come back."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument
from keras_ext.callbacks.monitor.probe import statistics
from keras_ext.callbacks.monitor.probe.recording import WHOLE, Recording, watched_layers
from keras_ext.callbacks.monitor.snapshot import Activation, Output, Snapshot, Weight
from keras_ext.initializers.scales import Scales, scales_of

# So many numbers are measured together at most: fewer are not worth a program of their own, and more not the memory.
_GROUP = 2**19
# float16 gradients are zero under 6e-8 and infinite over 65504; `fit` searches for a scale between, and so does a snapshot.
_SCALES = {"float16": (2.0**10, 1.0, 2.0**-10)}


class UnknownLayer(ValueError):
    """The model has no layer of a name that it was asked about."""


class Probe:
    """Snapshots at one compiled model on one batch; the model, its random state and its metrics stay as they are.

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
        # A block comes before its parts, so that the part, the owner of the weight, is named last; but cells and heads are no layers that
        # a user named.
        self._owner = {id(v): layer.name for layer in keras_private.flatten_layers(model) for v in layer.trainable_variables}
        wholes = [layer for layer in keras_private.flatten_layers(model) if isinstance(layer, WHOLE)]
        self._owner |= {id(v): layer.name for layer in wholes for v in layer.trainable_variables}
        self._order = tuple(dict.fromkeys(layer.name for layer in keras_private.flatten_layers(model)))
        self._scales_of = scales_of(model)
        half = any(layer.compute_dtype == "float16" for layer in keras_private.flatten_layers(model))
        self._scales = _SCALES["float16"] if half else (1.0,)
        self._seen: list[tuple[str, str, str, bool]] = []
        self._normalized: set[int] = set()
        self._units: list[int] = []
        self._seen_groups: list[list[int]] = []
        self._groups = _together([math.prod(v.shape) for v in self._trainable])
        self._kept: Any = None
        self._run = _backend.compile_probe(self._forward, self._reduce)

    def restart(self) -> None:
        """Forget the weights of the last snapshot: the next one is the first of another training."""
        self._kept = None

    def snapshot(self, step: int, epoch: int, is_regular: bool = True) -> Snapshot:
        """Return the model's state now."""
        for scale in self._scales:
            snapshot, kept = self._snapshot(step, epoch, scale, is_regular)
            if snapshot.finite:
                break
        self._kept = kept
        return snapshot

    def _snapshot(self, step: int, epoch: int, scale: float, is_regular: bool) -> tuple[Snapshot, Any]:
        is_first = self._kept is None
        before = self._zeros() if is_first else self._kept
        data = (*self._data, ops.convert_to_tensor(scale, "float32"), before)
        vector, kept = self._run(self._trainable, self._other, data)
        loss, input_rms, rest = float(vector[0]), float(vector[1]), vector[2:].astype("float64")
        numbers, rest = _rows(rest, statistics.OUTPUT_FIELDS, [range(len(self._units))])
        outputs = tuple(Output(units, **values) for units, values in zip(self._units, numbers, strict=True))
        numbers, rest = _rows(rest, statistics.ACTIVATION_FIELDS, self._seen_groups)
        activations = [_activation(*seen, values, self._rank) for seen, values in zip(self._seen, numbers, strict=True)]
        numbers, _ = _rows(rest, statistics.WEIGHT_FIELDS, self._groups)
        weights = []
        for variable, values in zip(self._trainable, numbers, strict=True):
            if is_first:
                values["update"] = math.nan
            owner = self._owner.get(id(variable), self._model.name)
            if self._layers is None or owner in self._layers:
                scales = self._scales_of.get(id(variable))
                weights.append(_weight(variable, owner, values, scales, id(variable) in self._normalized))
        named = {part.layer for part in (*activations, *weights)}
        return Snapshot(
            step,
            epoch,
            loss,
            spread=max(output.spread for output in outputs),
            activations=tuple(activations),
            weights=tuple(weights),
            is_regular=is_regular,
            outputs=outputs,
            input_rms=input_rms,
            layers=tuple(name for name in self._order if name in named),
        ), kept

    def _zeros(self) -> list[Any]:
        kept = [statistics.kept_of(math.prod(v.shape)) for v in self._trainable]
        return [ops.zeros((len(group), max(kept[i] for i in group)), "float32") for group in self._groups]

    def _forward(self, trainable: list[Any], other: list[Any], data: Any) -> tuple[Any, Any]:
        x, y, sample_weight, scale, before = data
        recording = Recording(self._model, self._watched)
        mapping = [*zip(self._trainable, trainable, strict=True), *zip(self._other, other, strict=True)]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True), recording:
            predictions = self._model(x, training=True)
            loss = self._model.compute_loss(x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True)
            seen = recording.values(predictions)
        self._normalized = {id(v) for layer in recording.normalized for v in layer.trainable_variables}
        seen = [s for s in seen if self._layers is None or s.layer in self._layers]
        self._seen = [(s.layer, s.kind, s.part, s.is_output) for s in seen]
        self._seen_groups = _alike([(s.kind, s.axis, *s.values.shape) for s in seen], [s.values.shape for s in seen])
        numbers = []
        for group in self._seen_groups:
            first, values = seen[group[0]], [ops.stop_gradient(seen[i].values) for i in group]
            numbers.append(statistics.activation_statistics(values, first.kind, first.axis, self._rank))
        ends = tree.flatten(predictions)
        self._units = [p.shape[-1] if len(p.shape) > 1 else 1 for p in ends]
        numbers = [*(statistics.output_statistics(ops.stop_gradient(p)) for p in ends), *numbers]
        first = recording.first_input
        has_scale = first is not None and hasattr(first, "dtype") and keras.backend.is_float_dtype(first.dtype)
        input_rms = statistics.rms(ops.stop_gradient(first)) if has_scale else ops.zeros((), "float32")
        return ops.cast(loss, "float32") * scale, (numbers, input_rms, scale, before)

    def _reduce(self, loss: Any, gradients: list[Any], trainable: list[Any], outputs: Any) -> tuple[Any, Any]:
        numbers, input_rms, scale, before = outputs
        kept = []
        for group, old in zip(self._groups, before, strict=True):
            unscaled = [ops.cast(gradients[i], "float32") / scale for i in group]
            rows, new = statistics.weight_statistics([trainable[i] for i in group], unscaled, old)
            numbers.append(rows)
            kept.append(new)
        return ops.concatenate([ops.stack([loss / scale, input_rms]), *(ops.reshape(rows, (-1,)) for rows in numbers)]), kept


def layer_names(layers: Any) -> tuple[str, ...]:
    """Return names of layers that a user gave. Anything but a list or tuple of at least one text raises TypeError."""
    names = tuple(layers) if isinstance(layers, list | tuple) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise bad_argument("layers", "None or names of layers", layers, 'Write layers=["dense_1", "dense_2"].', TypeError)
    return names


def _alike(kinds: Sequence[Any], shapes: Sequence[Any]) -> list[list[int]]:
    """Return the places of what is of one kind, as groups that are not large, as groups are copied; what is large stands alone.

    >>> _alike("abaab", [(4,), (4,), (4,), (2**20,), (4,)])
    [[0, 2], [1, 4], [3]]
    >>> _alike("aaa", [(2**18,)] * 3)
    [[0, 1], [2]]
    """
    groups: list[list[int]] = []
    open_groups: dict[Any, list[int]] = {}
    for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True)):
        size = _GROUP if None in shape else math.prod(shape)
        group = open_groups.get(kind)
        if group is None or (len(group) + 1) * size > _GROUP:
            group = open_groups[kind] = []
            groups.append(group)
        group.append(i)
    return groups


def _together(sizes: Sequence[int]) -> list[list[int]]:
    """Return the places of weights that are measured together, filled up to the size of the largest, as groups with that one first.

    >>> _together([4096, 64, 4096, 64, 640, 10, 2**20, 64])
    [[6], [0, 2, 4, 1, 3, 7, 5]]
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        group = groups[-1] if groups else []
        if group and (len(group) + 1) * sizes[group[0]] <= _GROUP:
            group.append(i)
        else:
            groups.append([i])
    return groups


def _rows(numbers: Any, fields: Sequence[str], groups: Sequence[Sequence[int]]) -> tuple[list[dict[str, float]], Any]:
    """Return the fields of each of the groups' members, in the members' order, and the numbers behind them."""
    order = [i for group in groups for i in group]
    rows = numbers[: len(order) * len(fields)].reshape(len(order), len(fields))
    found = {i: dict(zip(fields, map(float, row), strict=True)) for i, row in zip(order, rows, strict=True)}
    return [found[i] for i in sorted(found)], numbers[rows.size :]


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


def _weight(variable: Any, layer: str, values: dict[str, float], scales: Scales | None, normalized: bool) -> Weight:
    is_kernel = len(variable.shape) >= 2
    finite = math.isfinite(values["gradient_norm"]) and math.isfinite(values["weight_norm"])
    known = {}
    if scales is not None:
        rms = values["weight_norm"] / math.sqrt(math.prod(variable.shape))
        known = {"scale": rms * math.sqrt(scales.fan_in), "least_scale": scales.least, "most_scale": scales.most}
    return Weight(layer, variable.path, is_kernel, **values, finite=finite, normalized=normalized, **known)


def _as_fit_does(array: Any) -> Any:
    """Return `array` as a tensor; floats in Keras's float type, as `fit` hands them to the model."""
    if array is None:
        return None
    array = np.asarray(array)
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(keras.config.floatx())
    return ops.convert_to_tensor(array)
