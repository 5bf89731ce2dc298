"""The settings of a training beside its model: what may change, how much drops out, how long a step is and how many are planned."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.probe.names import names_of
from keras_ext.callbacks.monitor.probe.own_loss import LossFlaw, loss_flaws
from keras_ext.callbacks.monitor.probe.statistics import penalties
from keras_ext.callbacks.monitor.probe.untouched import as_fit_does, as_float, untouched
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.layers import BatchNormalization, Dropout

_DROPPING = (Dropout, keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
_KERNEL_LAYERS = tuple(getattr(keras.layers, name) for name in ("Dense", "Conv1D", "Conv2D", "Conv3D"))
# Layers that multiply and add numbers at most, whatever is put in.
_LINEAR_LAYERS = (
    keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Rescaling, keras.layers.Normalization,
    keras.layers.Dropout, Dropout, keras.layers.BatchNormalization, BatchNormalization, keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D,
)  # fmt: skip
RECURRENT_RATES = ("dropout", "recurrent_dropout")
# Weights of one axis start at these numbers: biases and shifts, scales and the forget gate's bias.
_FIRST_NUMBERS = (0.0, 1.0)


@dataclass(frozen=True)
class Step:
    """The arguments of an optimizer that decide how far a step goes; NaN for one that it does not have, or that is off.

    `clipping` is the name of the clipping argument that is set, or empty, and `threshold` its value. `accumulation` is the
    number of batches whose gradients make one update. `schedule` is the class of the schedule that `rate` follows, or empty. `average` is
    the momentum of the moving average that overwrites the weights, and `last_average` that of the one which
    `fit` writes over them at its end.
    """

    rate: float = math.nan
    epsilon: float = math.nan
    weight_decay: float = math.nan
    clipping: str = ""
    threshold: float = math.nan
    accumulation: float = math.nan
    schedule: str = ""
    average: float = math.nan
    last_average: float = math.nan


@dataclass(frozen=True)
class Training:
    """The settings of a training.

    Args:
        can_train: False where every weight that a step could change is frozen.
        frozen: the frozen layers where nothing can train; else those whose kernels are frozen as they were drawn, if most kernels are
            frozen and no layer shows that it was trained before.
        dropping: layers that drop inputs, and at what rate.
        dropping_outputs: those of them behind which no weight stands: they drop predictions.
        pressing: paths of kernels that a "regularizer" or a "constraint" holds down, and its class.
        moving: layers whose moving statistics inference uses, and their momentum.
        step: what decides how far a step goes.
        planned: steps of the fit from its first to its last; NaN where that is not known.
        is_dataset: whether the samples come as a dataset, in the order in which `fit` gets them.
        penalty: sum of the penalties on the weights as they are now.
        penalty_on_outputs: the same for what layers put out, as of `penalty_on_outputs`.
        samples: of a snapshot.
        is_linear: whether the network has several layers with kernels, and no activation before the last of them.
        is_same: whether all samples of the monitor have the same inputs.
        leak: what an output depends on that it must not know, as of `leakage.leak_of`.
        flaws: of the losses that are the user's own.
        broken: where the data have NaN or infinity, a part of a sentence for each place.
        placeholder: which number stands in the inputs for what is not known, as of `placeholders`.
    """

    can_train: bool = True
    frozen: tuple[str, ...] = ()
    dropping: tuple[tuple[str, float], ...] = ()
    dropping_outputs: tuple[str, ...] = ()
    pressing: tuple[tuple[str, str, str], ...] = ()
    moving: tuple[tuple[str, float], ...] = ()
    step: Step = Step()
    planned: float = math.nan
    is_dataset: bool = False
    penalty: float = 0.0
    penalty_on_outputs: float = 0.0
    samples: int = 0
    is_linear: bool = False
    is_same: bool = False
    leak: str = ""
    flaws: tuple[LossFlaw, ...] = ()
    broken: tuple[str, ...] = ()
    placeholder: str = ""


def training_of(model: Any, planned: float = math.nan) -> Training:
    """Return what a training of `model` is set to now."""
    layers, names = list(keras_private.flatten_layers(model)), names_of(model)
    stuck = [layer for layer in layers if any(not v.trainable for v in keras_private.own_trainable_variables(layer))]
    can_train = bool(model.trainable_variables) or not stuck
    frozen = tuple(_frozen_as_drawn(layers, stuck, names)) if can_train else tuple(names[id(layer)] for layer in stuck)
    step = step_of(getattr(model, "optimizer", None))
    dropping, moving = tuple(_dropping(layers, names)), tuple(_moving(layers, names))
    more: Any = {"dropping_outputs": tuple(_dropping_outputs(model, names)), "pressing": tuple(_pressing(model))}
    more["is_linear"] = _is_linear(layers)
    return Training(can_train, frozen, dropping, moving=moving, step=step, planned=planned, penalty=_penalty(model), **more)


def _is_linear(layers: list[Any]) -> bool:
    layers = [layer for layer in layers if not keras_private.is_functional_or_sequential(layer)]
    kernels = [layer for layer in layers if type(layer) in _KERNEL_LAYERS]
    return (
        len(kernels) > 1
        and all(type(layer) in (*_KERNEL_LAYERS, *_LINEAR_LAYERS) for layer in layers)
        and all(layer.activation is keras.activations.linear for layer in kernels[:-1])
    )


def _penalty(model: Any) -> float:
    """Return the sum of the penalties on the weights of a model; those that compute with something else are left out."""
    return math.fsum(number for each in penalties(model.trainable_variables) if math.isfinite(number := as_float(each)))


def losses_at_first(model: Any, data: tuple[Any, Any, Any], snapshot: Snapshot) -> dict[str, Any]:
    """Return the fields of a `Training` that are found once, by computing losses: `flaws` and `penalty_on_outputs`."""
    return {"flaws": loss_flaws(model, data, snapshot), "penalty_on_outputs": penalty_on_outputs(model, data[0])}


def penalty_on_outputs(model: Any, x: Any) -> float:
    """Return the sum of the penalties that activity regularizers put on the outputs of layers; 0 where no layer has one."""
    if not any(getattr(layer, "activity_regularizer", None) is not None for layer in keras_private.flatten_layers(model)):
        return 0.0
    with contextlib.suppress(Exception), untouched(model):  # a monitor must not end a training
        model(as_fit_does(x), training=False)
        every = math.fsum(map(as_float, model.losses))
        return max(every - _penalty(model), 0.0) if math.isfinite(every) else 0.0
    return 0.0


def _frozen_as_drawn(layers: list[Any], stuck: list[Any], names: dict[int, str]) -> list[str]:
    kernels = [(names[id(layer)], v) for layer in layers for v in keras_private.own_trainable_variables(layer) if len(v.shape) >= 2]
    frozen = [name for name, v in kernels if not v.trainable]
    # Kernels look the same before and after a training; what starts at 0 or 1 does not, nor do moving statistics.
    telling = [v for layer in stuck for v in layer.weights if len(v.shape) == 1 and keras.backend.is_float_dtype(v.dtype)]
    is_drawn = telling and all(map(_as_drawn, telling))
    return list(dict.fromkeys(frozen)) if is_drawn and 2 * len(frozen) > len(kernels) else []


def _as_drawn(variable: Any) -> bool:
    return bool(np.isin(ops.convert_to_numpy(ops.cast(variable, "float32")), _FIRST_NUMBERS).all())


def _dropping(layers: list[Any], names: dict[int, str]) -> Iterator[tuple[str, float]]:
    for layer in layers:
        if isinstance(layer, _DROPPING):
            yield names[id(layer)], _number(layer.rate)
        elif isinstance(layer, keras.layers.RNN):
            # Of the inputs and of the state, at each step.
            rate = max(float(getattr(layer, name, None) or 0.0) for name in RECURRENT_RATES)
            if rate:
                yield names[id(layer)], rate


def _dropping_outputs(model: Any, names: dict[int, str]) -> Iterator[str]:
    """Yield the layers of dropout behind which no weight stands; of a model without a graph none."""
    try:
        last = [keras_private.operation_of(tensor) for tensor in tree.flatten(model.outputs)]
    except AttributeError:  # subclassed, or not built yet
        return
    seen = set()
    while last:
        operation = last.pop()
        if id(operation) in seen or getattr(operation, "weights", None):
            continue
        seen.add(id(operation))
        if isinstance(operation, _DROPPING) and _number(operation.rate) > 0:
            yield names.get(id(operation), str(operation.name))
        last += keras_private.producers_of(operation)


def _pressing(model: Any) -> Iterator[tuple[str, str, str]]:
    for v in model.trainable_variables:
        for kind in ("constraint", "regularizer"):
            if len(v.shape) >= 2 and (by := getattr(v, kind, None)) is not None:
                yield v.path, kind, type(by).__name__
                break


def _moving(layers: list[Any], names: dict[int, str]) -> Iterator[tuple[str, float]]:
    for layer in layers:
        if isinstance(layer, (BatchNormalization, keras.layers.BatchNormalization)) and not getattr(layer, "debias", False):
            yield names[id(layer)], _number(layer.momentum)


def step_of(optimizer: Any) -> Step:
    """Return what decides how far a step of `optimizer` goes; all NaN without one."""
    while getattr(optimizer, "inner_optimizer", None) is not None:
        optimizer = optimizer.inner_optimizer
    names = ("learning_rate", "epsilon", "weight_decay")
    rate, epsilon, decay = (_number(getattr(optimizer, name, None)) for name in names)
    clipping = next((name for name in ("clipvalue", "clipnorm", "global_clipnorm") if getattr(optimizer, name, None)), "")
    threshold = _number(getattr(optimizer, clipping)) if clipping else math.nan
    accumulation, followed = _number(getattr(optimizer, "gradient_accumulation_steps", None)), keras_private.rate_of(optimizer)
    schedule = type(followed).__name__ if isinstance(followed, keras.optimizers.schedules.LearningRateSchedule) else ""
    momentum = _number(getattr(optimizer, "ema_momentum", None)) if getattr(optimizer, "use_ema", False) else math.nan
    average = momentum if getattr(optimizer, "ema_overwrite_frequency", None) else math.nan
    return Step(rate, epsilon, decay, clipping, threshold, accumulation, schedule, average, momentum)


def _number(value: Any) -> float:
    if isinstance(value, float | int):  # not by a tensor, which rounds to float32
        return float(value)
    try:
        return math.nan if value is None else float(ops.convert_to_tensor(value))
    except (TypeError, ValueError):  # a rate that is a function of a training's state
        return math.nan
