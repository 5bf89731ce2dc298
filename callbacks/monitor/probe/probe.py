"""A snapshot of a model: one batch forward and backward, compiled, of which only numbers come back."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.probe import statistics, through_time
from keras_ext.callbacks.monitor.probe.names import is_named, names_of
from keras_ext.callbacks.monitor.probe.recording import OPAQUE, Recording, recurrent_layers, watched_layers
from keras_ext.callbacks.monitor.probe.untouched import as_fit_does
from keras_ext.callbacks.monitor.snapshot import Activation, Ids, Normalization, Output, Recurrent, Snapshot, Weight
from keras_ext.initializers.scales import scales_of

# So many numbers are measured together at most: fewer are not worth a program of their own, and more not the memory.
_GROUP = 2**19
# float16 gradients are zero under 6e-8 and infinite over 65504; `fit` searches for a scale between, and so does a snapshot.
_SCALES = {"float16": (2.0**10, 1.0, 2.0**-10)}
# Outputs of the watched layers per sample up to which a snapshot takes all samples; with more it would cost many steps.
_MOST_NUMBERS = 2**15
# Fewer numbers are far from what they are drawn from by chance alone: one in ten is a tenth of it.
_LEAST_DRAWN = 4
# Fewer samples say too little. Layers that put out so much have many places beside the samples.
_LEAST_SAMPLES = 32


@dataclass
class _Traced:
    """The findings of the trace of a pass, for all models of its structure.

    Args:
        seen: each activation's layer, kind, part and whether it is an output.
        groups: their places, of what is measured together.
        units: of the outputs.
        normalized: places of the kernels behind which the layer's output is normalized.
        moving: names of the batch normalizations.
        ids: names of the embeddings.
        steps: time steps of each recurrent layer, 0 where they are not known.
    """

    seen: list[tuple[str, str, str, bool]] = field(default_factory=list)
    groups: list[list[int]] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    normalized: set[int] = field(default_factory=set)
    moving: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


class UnknownLayer(ValueError):
    """The model has no layer of a name that it was asked about."""


class Probe:
    """Take snapshots of one model on one batch; the model, its random state and its metrics stay as they are.

    The forward pass is that of training, but for what is random: layers of dropout and noise let their input through, and recurrent layers
    drop nothing. Batch normalization takes the batch's own statistics (a frozen one its moving statistics). Everything that the pass would
    write is caught by a stateless scope and forgotten.

    `data` is `(x, y, sample_weight)`. `rank` is whether to measure effective ranks, `slope` as of
    `statistics.activation_statistics`, `layers` are the names of the layers to tell about.
    Without `has_loss` the loss is NaN, the gradients are NaN, and the model need not be compiled; None takes the loss where `compute_loss`
    knows it. Of a model without `call` those models inside it run that take such inputs. A pass that other models of the structure share
    (`of`) is traced within `tracing()`, on PyTorch, too. After `many` snapshots it is compiled with more care.
    """

    def __init__(
        self,
        model: Any,
        data: tuple[Any, Any, Any],
        rank: bool = False,
        layers: Sequence[str] | None = None,
        has_loss: bool | None = None,
        tracing: Callable[[], contextlib.AbstractContextManager[None]] | None = None,
        slope: float = 0.05,
        many: int | None = None,
    ) -> None:
        self._take_variables(model)
        inner = list(keras_private.flatten_layers(model))
        known = list(dict.fromkeys(self._names[id(layer)] for layer in inner if not isinstance(layer, keras.layers.InputLayer)))
        for name in layers or ():
            if not any(is_named(each, (name,)) for each in known):
                raise UnknownLayer(f"`layers` must name layers of the model, got {name!r}. It has {', '.join(known)}.")
        self._layers, self._rank, self._tracing, self._slope, self._many = layers, rank, tracing, slope, many
        self._has_loss = knows_loss(model) if has_loss is None else has_loss
        self._data = as_fit_does(data if self._has_loss else (data[0], None, None))
        self._watched = list(watched_layers(model))
        # Of no weight, and never changed: their gradients tell of the gradient through time.
        self._notes = [keras.Variable(np.zeros(through_time.NOTED, "float32"), trainable=False) for _ in self._recurrent]
        self._order = tuple(dict.fromkeys(self._names[id(layer)] for layer in inner))
        self._loss_scales = _SCALES["float16"] if any(layer.compute_dtype == "float16" for layer in inner) else (1.0,)
        self._groups = _groups_of([math.prod(v.shape) for v in self._trainable])
        self._forget()

    @property
    def samples(self) -> int:
        """The number of samples of a snapshot; 0 where it is not known."""
        first = tree.flatten(self._data[0])[0]
        return int(first.shape[0] or 0) if getattr(first, "shape", ()) else 0

    def _take_variables(self, model: Any) -> None:
        self._model, inner = model, list(keras_private.flatten_layers(model))
        # On PyTorch a wrapped module computes with its own parameters, of which a stateless scope does not know.
        foreign = {id(v) for layer in inner if isinstance(layer, keras.layers.TorchModuleWrapper) for v in layer.variables}
        self._trainable = [v for v in model.trainable_variables if id(v) not in foreign]
        self._other = [v for v in model.non_trainable_variables if id(v) not in foreign]
        # A block comes before its parts, so that the part, the owner of the weight, is named last; but cells and heads are no layers that
        # a user named.
        owners = [*inner, *(layer for layer in inner if isinstance(layer, OPAQUE))]
        self._names, self._recurrent = names_of(model), recurrent_layers(model)
        self._owner = {id(v): self._names[id(layer)] for layer in owners for v in layer.trainable_variables}
        self._scales_of = scales_of(model)

    def _forget(self) -> None:
        self._kept: Any = None
        self._traced = _Traced()
        self._run = _backend.compile_probe(self._forward, self._reduce, self._tracing is not None, self._many)

    def of(self, model: Any) -> "Probe":
        """Return a probe of another model of the same structure, or of another training of this model, with the same compiled pass."""
        probe = copy.copy(self)
        probe._kept = None
        if model is not self._model:
            probe._take_variables(model)
        return probe

    def snapshot(
        self, step: int, epoch: int, is_regular: bool = True, explains: Callable[[Snapshot], bool] = lambda snapshot: False
    ) -> Snapshot:
        """Return the model's state now; without its loss where that cannot be computed, if such a snapshot `explains` why."""
        try:
            return self._first_finite(step, epoch, is_regular)
        except Exception:
            if not self._has_loss:
                raise
            # PyTorch's cross entropies raise for a prediction of NaN.
            with contextlib.suppress(Exception):
                without_loss = copy.copy(self)
                without_loss._has_loss = False
                without_loss._forget()
                unhealthy = without_loss._first_finite(step, epoch, is_regular)
                if not unhealthy.finite:
                    return replace(unhealthy, has_loss=True)
                if explains(unhealthy):
                    return unhealthy
            raise

    def _first_finite(self, step: int, epoch: int, is_regular: bool) -> Snapshot:
        for scale in self._loss_scales:
            snapshot, kept = self._snapshot(step, epoch, scale, is_regular)
            if snapshot.finite:
                break
        self._kept = kept
        return snapshot

    def _snapshot(self, step: int, epoch: int, scale: float, is_regular: bool) -> tuple[Snapshot, Any]:
        before = self._kept
        if before is None:
            kept_of = [statistics.kept_of(math.prod(v.shape)) for v in self._trainable]
            before = [ops.zeros((len(group), max(kept_of[i] for i in group)), "float32") for group in self._groups]
        data = (*self._data, ops.convert_to_tensor(scale, "float32"), before)
        vector, kept = self._run([*self._trainable, *self._notes], self._other, data)
        loss, penalty, input_rms = map(float, vector[:3])
        rest = vector[3:].astype("float64")
        numbers, rest = _rows(rest, statistics.OUTPUT_FIELDS, [range(len(self._traced.units))])
        outputs = tuple(Output(units, **values) for units, values in zip(self._traced.units, numbers, strict=True))
        numbers, rest = _rows(rest, statistics.ACTIVATION_FIELDS, self._traced.groups)
        if not self._rank:
            numbers = [{**values, "rank": math.nan} for values in numbers]
        activations = [
            Activation(*seen, **values, finite=math.isfinite(values["rms"]))
            for seen, values in zip(self._traced.seen, numbers, strict=True)
        ]
        moving, rest = _rows(rest, statistics.NORMALIZATION_FIELDS, [range(len(self._traced.moving))])
        ids, rest = _rows(rest, statistics.ID_FIELDS, [range(len(self._traced.ids))])
        numbers, rest = _rows(rest, statistics.WEIGHT_FIELDS, self._groups)
        weights = [self._weight(place, values) for place, values in enumerate(numbers)]
        weights = [w for w in weights if is_named(w.layer, self._layers)]
        named = {part.layer for part in (*activations, *weights)}
        spread, layers = max((output.spread for output in outputs), default=math.nan), tuple(name for name in self._order if name in named)
        parts: dict[str, Any] = {"activations": tuple(activations), "weights": tuple(weights), "outputs": outputs, "layers": layers}
        parts["normalizations"] = tuple(Normalization(name, **each) for name, each in zip(self._traced.moving, moving, strict=True))
        parts["embeddings"] = tuple(Ids(name, **each) for name, each in zip(self._traced.ids, ids, strict=True))
        parts["recurrent"] = tuple(self._recurrent_of(rest.reshape(len(self._notes), through_time.NOTED)))
        loss = loss if self._has_loss else math.nan
        parts |= {"is_regular": is_regular, "input_rms": input_rms, "has_loss": self._has_loss, "penalty": penalty}
        return Snapshot(step, epoch, loss, spread, **parts), kept

    def _weight(self, place: int, values: dict[str, float]) -> Weight:
        variable = self._trainable[place]
        finite = math.isfinite(values["gradient_norm"]) and math.isfinite(values["weight_norm"])
        unknown = [*(["update"] if self._kept is None else []), *([] if self._has_loss else ["gradient_norm", "zero_gradients"])]
        size = math.prod(variable.shape)
        unknown += ["deviation"] if size == 1 else []
        values = {**values, **dict.fromkeys(unknown, math.nan)}
        scales = self._scales_of.get(id(variable))
        if scales is not None and (size >= _LEAST_DRAWN or values["weight_norm"] == 0.0):
            rms = values["weight_norm"] / math.sqrt(size)
            values |= {"scale": rms * math.sqrt(scales.fan_in), "least_scale": scales.least, "most_scale": scales.most}
        owner = self._owner.get(id(variable), str(self._model.name))
        is_kernel, normalized = len(variable.shape) >= 2, place in self._traced.normalized
        return Weight(owner, variable.path, is_kernel, **values, finite=finite, normalized=normalized)

    def _recurrent_of(self, sums: Any) -> Iterator[Recurrent]:
        if not self._has_loss:
            return
        for layer, steps, squares in zip(self._recurrent, self._traced.steps, sums, strict=True):
            name = self._names[id(layer)]
            if steps and is_named(name, self._layers):
                yield Recurrent(name, steps, through_time.norms(squares, steps, layer.go_backwards))

    def _forward(self, leaves: list[Any], other: list[Any], data: Any) -> tuple[Any, Any]:
        x, y, sample_weight, scale, before = data
        trainable, notes = leaves[: len(self._trainable)], leaves[len(self._trainable) :]
        noted = {id(layer): note for layer, note in zip(self._recurrent, notes, strict=True)}
        recording = Recording(self._model, self._watched, self._names, noted)
        mapping = [*zip(self._trainable, trainable, strict=True), *zip(self._other, other, strict=True)]
        tracing = contextlib.nullcontext() if self._tracing is None else self._tracing()
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True), tracing, recording:
            predictions = self._predictions(x)
            loss = ops.zeros(())
            if self._has_loss:
                loss = self._model.compute_loss(x=x, y=y, y_pred=predictions, sample_weight=sample_weight, training=True)
            penalty = self._penalty()
            seen = recording.values(predictions)
        normalized = {id(v) for layer in recording.normalized for v in layer.trainable_variables}
        seen = [s for s in seen if is_named(s.layer, self._layers)]
        sizes = [_GROUP if None in s.values.shape else math.prod(s.values.shape) for s in seen]
        ends, traced = tree.flatten(predictions), self._traced
        traced.normalized = {place for place, v in enumerate(self._trainable) if id(v) in normalized}
        traced.seen = [(s.layer, s.kind, s.part, s.is_output) for s in seen]
        traced.groups = _groups_of(sizes, [(s.kind, s.axis, *s.values.shape) for s in seen])
        traced.steps = [recording.steps.get(id(layer), 0) for layer in self._recurrent]
        traced.units = [p.shape[-1] if len(p.shape) > 1 else 1 for p in ends]
        numbers = []
        for group in traced.groups:
            first, values = seen[group[0]], [ops.stop_gradient(seen[i].values) for i in group]
            numbers.append(statistics.activation_statistics(values, first.kind, first.axis, self._rank, self._slope))
        numbers = [*(statistics.output_statistics(ops.stop_gradient(p)) for p in ends), *numbers]
        traced.moving = [name for name, _ in recording.moving]
        numbers += [ops.stop_gradient(apart) for _, apart in recording.moving]
        traced.ids = [name for name, _ in recording.ids]
        numbers += [ops.stop_gradient(shares) for _, shares in recording.ids]
        first = recording.first_input
        has_scale = first is not None and hasattr(first, "dtype") and keras.backend.is_float_dtype(first.dtype)
        input_rms = statistics.rms(ops.stop_gradient(first)) if has_scale else ops.zeros((), "float32")
        return ops.cast(loss, "float32") * scale, (numbers, ops.stop_gradient(penalty), input_rms, scale, before)

    def _penalty(self) -> Any:
        """Return the sum of the regularizers' penalties on the weights, where the loss has them."""
        has_them = self._has_loss and type(self._model).compute_loss is keras.Model.compute_loss
        return sum(statistics.penalties(self._trainable) if has_them else [], ops.zeros((), "float32"))

    def _predictions(self, x: Any) -> Any:
        if type(self._model).call is not keras.Model.call:
            return self._model(x, training=True)
        shapes = [tuple(a.shape[1:]) for a in tree.flatten(x)]
        models = [part for part in self._model.layers if isinstance(part, keras.Model) and part.built and hasattr(part, "inputs")]
        return [part(x, training=True) for part in models if [tuple(i.shape[1:]) for i in tree.flatten(part.inputs)] == shapes]

    def _reduce(self, loss: Any, gradients: list[Any], trainable: list[Any], outputs: Any) -> tuple[Any, Any]:
        numbers, penalty, input_rms, scale, before = outputs
        kept = []
        for group, old in zip(self._groups, before, strict=True):
            unscaled = [ops.cast(gradients[i], "float32") / scale for i in group]
            rows, new = statistics.weight_statistics([trainable[i] for i in group], unscaled, old)
            numbers.append(rows)
            kept.append(new)
        numbers += [ops.cast(gradient, "float32") / ops.square(scale) for gradient in gradients[len(self._trainable) :]]
        return ops.concatenate([ops.stack([loss / scale, penalty, input_rms]), *(ops.reshape(rows, (-1,)) for rows in numbers)]), kept


def knows_loss(model: Any) -> bool:
    """Return False where the loss is known to a `train_step` of the model's own alone, or to a training loop: that needs no `compile`."""
    if not model.compiled:
        return False
    overrides = [getattr(type(model), name) is not getattr(keras.Model, name) for name in ("train_step", "compute_loss")]
    return getattr(model, "loss", None) is not None or overrides != [True, False]


def has_weights(model: Any) -> bool:
    """Return True where a snapshot finds all weights: of models without `call`, or whose step is their own, nothing builds the whole."""
    if knows_loss(model):
        return keras_private.is_built(model)
    return bool(model.weights) and all(layer.built for layer in keras_private.flatten_layers(model))


def _groups_of(sizes: Sequence[int], kinds: Sequence[Any] | None = None) -> list[list[int]]:
    """Return the places of what is measured together: of one kind, the largest first, with room for that size in each place.

    Groups are copied, so they are not large, and what is large stands alone.
    """
    groups: list[list[int]] = []
    last_of: dict[Any, list[int]] = {}
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        kind = kinds[i] if kinds else None
        group = last_of.get(kind)
        if group is None or (len(group) + 1) * sizes[group[0]] > _GROUP:
            group = last_of[kind] = []
            groups.append(group)
        group.append(i)
    return groups


def _rows(numbers: Any, fields: Sequence[str], groups: Sequence[Sequence[int]]) -> tuple[list[dict[str, float]], Any]:
    """Return the fields of each of the groups' members, in the members' order, and the numbers behind them."""
    order = [i for group in groups for i in group]
    rows = numbers[: len(order) * len(fields)].reshape(len(order), len(fields))
    found = dict(zip(order, rows.tolist(), strict=True))
    return [dict(zip(fields, found[i], strict=True)) for i in sorted(found)], numbers[rows.size :]


def affordable(model: Any, data: Any) -> Any:
    """Return `data` for a snapshot of `model`: as it is, or, for a model of large feature maps, the first of its samples.

    A ResNet50 of pictures of 224 x 224 puts out ten million numbers a sample: a snapshot of 256 of them would take as long as four steps
    of 64. Of a model whose layers do not know their shapes nothing is left out.
    """
    numbers = 0
    for layer, kind in watched_layers(model):
        if kind != "shape":
            with contextlib.suppress(AttributeError, ValueError):  # of a subclassed model, or called several times
                numbers += sum(math.prod(size or 1 for size in output.shape[1:]) for output in tree.flatten(layer.output))

    def taken(a: Any) -> Any:
        return None if a is None else a[: max(min(len(a), _LEAST_SAMPLES), len(a) * _MOST_NUMBERS // max(numbers, _MOST_NUMBERS))]

    return tree.map_structure(taken, data)
