"""Remedies at the ends of a model: last activation and loss, and the scales of inputs and targets."""

import math
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.probe.targets import BINARY, CHOICES, DISTANCES, Aim, in_order_of_outputs
from keras_ext.repair.anatomy import ACTIVATIONS, Anatomy
from keras_ext.repair.blueprint import Blueprint

# What an activation can put out.
_RANGES = {
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "softmax"), (0.0, 1.0)),
    **dict.fromkeys(("tanh", "softsign"), (-1.0, 1.0)),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
}
# How far from 0 and 1 a probability stays whose logarithm a loss takes; float32 has it beside 1.
_MARGIN = 1e-6


def fitted_output(anatomy: Anatomy, blueprint: Blueprint, aims: tuple[Aim | None, ...]) -> tuple[Blueprint, str] | None:
    """Return a blueprint in which last activations, losses and targets fit each other, and what is done; None where nothing can be."""
    done = []
    for place, end, name, aim in _ends(anatomy, aims):
        wanted = _wanted(_kind(end), _units(end), aim)
        is_done = place in blueprint.losses or place in blueprint.outputs or name in blueprint.activations
        if wanted is None or is_done:
            continue
        activation, loss, scale = wanted
        own = _own_loss(anatomy.model, place)
        if activation is not None and activation != _kind(end):
            if not (isinstance(end, ACTIVATIONS) or hasattr(end, "activation")):
                continue
            blueprint = blueprint.plus(activations={name: activation})
            done.append(f'End "{name}" with {activation} in place of {_kind(end)}.')
        if isinstance(loss, bool):
            blueprint = blueprint.plus(losses={place: type(own).from_config({**own.get_config(), "from_logits": loss})})
            done.append(f"Compile the loss with from_logits={loss}.")
        elif loss is not None:
            blueprint = blueprint.plus(losses={place: loss})
            done.append(f"Train with {loss}.")
        if scale is not None:
            blueprint = blueprint.plus(outputs={place: scale})
            done.append(f"Multiply its output by {scale[0]:.3g} and add {scale[1]:.3g}.")
    return (blueprint, " ".join(done)) if done else None


def _wanted(kind: str, units: int, aim: Aim) -> tuple[str | None, Any, tuple[float, float] | None] | None:
    """Return the activation, the loss (or its `from_logits`) and the scaling that the aim asks for; None where it asks for no change."""
    fits = aim.low >= 0 and aim.high <= 1
    if units == 1 and (kind == "softmax" or aim.loss in CHOICES):
        if not fits:
            return ("linear", None, None) if aim.loss in DISTANCES else None
        return "sigmoid", "binary_crossentropy" if aim.loss in CHOICES else (False if aim.from_logits else None), None
    if aim.loss in CHOICES:
        if aim.from_logits:
            return (None, False, None) if kind == "softmax" else None
        return ("softmax", None, None) if kind != "softmax" else None
    if aim.loss in BINARY and not fits:
        if kind in ("sigmoid", "hard_sigmoid"):
            return None, "mean_squared_error", (aim.high - aim.low, aim.low)
        return "linear", "mean_squared_error", None
    if aim.loss in BINARY:
        if aim.from_logits:
            return (None, False, None) if kind == "sigmoid" else None
        return ("sigmoid", None, None) if kind not in ("sigmoid", "hard_sigmoid") else None
    low, high = _RANGES.get(kind, (-math.inf, math.inf))
    if aim.loss in DISTANCES and (aim.low < low or aim.high > high):
        return "linear", None, None
    return None


def bounded_output(anatomy: Anatomy, blueprint: Blueprint, aims: tuple[Aim | None, ...]) -> tuple[Blueprint, str] | None:
    """Return a blueprint that keeps probabilities off 0 and 1 for losses that are not Keras's, which bound them themselves."""
    done = []
    for place, end, name, aim in _ends(anatomy, aims):
        is_own = not hasattr(keras.losses, aim.loss) and aim.loss not in (*CHOICES, *BINARY)
        if not is_own or _RANGES.get(_kind(end)) != (0.0, 1.0) or place in blueprint.outputs:
            continue
        blueprint = blueprint.plus(outputs={place: (1 - 2 * _MARGIN, _MARGIN)})
        done.append(f'Keep the output of "{name}" {_MARGIN:g} away from 0 and 1, so that its logarithm is finite.')
    return (blueprint, " ".join(done)) if done else None


def _ends(anatomy: Anatomy, aims: tuple[Aim | None, ...]) -> list[tuple[int, Any, str, Aim]]:
    """Return place, last operation, its name and the aim of each output whose aim is known; none where outputs and aims do not match."""
    ends = anatomy.last_operations()
    if len(ends) != len(aims):
        return []
    pairs = enumerate(zip(ends, aims, strict=True))
    return [(place, end, anatomy.names.get(id(end), ""), aim) for place, (end, aim) in pairs if aim is not None]


def _kind(end: Any) -> str:
    if isinstance(end, keras.layers.Softmax):
        return "softmax"
    if isinstance(end, keras.layers.ReLU):
        return "relu"
    return getattr(getattr(end, "activation", None), "__name__", "linear")


def _units(end: Any) -> int:
    shape = getattr(end.output, "shape", ())
    return int(shape[-1]) if len(shape) > 1 and shape[-1] is not None else 1


def _own_loss(model: Any, place: int) -> Any:
    given = in_order_of_outputs(model, model.loss)
    return tree.flatten(given)[place] if isinstance(given, list | tuple | dict) else given


def scaled_inputs(anatomy: Anatomy, blueprint: Blueprint, x: Any, low: float, high: float) -> tuple[Blueprint, str] | None:
    """Return a blueprint that normalizes each input whose root mean square is outside [low, high], by channel."""
    inputs = tree.flatten(anatomy.model.inputs) if anatomy.has_graph else []
    arrays = tree.flatten(x)
    if len(inputs) != len(arrays):
        return None
    done = []
    for place, (tensor, array) in enumerate(zip(inputs, arrays, strict=True)):
        if place in blueprint.inputs or not keras.backend.is_float_dtype(tensor.dtype) or array.dtype.kind not in "biuf" or array.ndim < 2:
            continue
        first = anatomy.first_layers(place)
        if any(_takes_ids(layer) for layer in first):
            continue
        values = array.astype("float64")
        values = np.where(np.isfinite(values), values, np.nan)
        scales = [layer for layer in first if isinstance(layer, keras.layers.Rescaling)]
        given = values * scales[0].scale + scales[0].offset if len(scales) == 1 and np.ndim(scales[0].scale) == 0 else values
        rms = math.sqrt(float(np.nanmean(given**2)))
        if low <= rms <= high:
            continue
        axes = tuple(range(values.ndim - 1))
        mean, variance = np.nanmean(values, axis=axes), np.nanvar(values, axis=axes)
        # A constant column says nothing, and one that hardly varies must not be blown up.
        variance = np.where(variance > 1e-12 * (mean**2 + 1e-30), variance, 1.0)
        blueprint = blueprint.plus(inputs={place: (mean.astype("float32"), variance.astype("float32"))})
        blueprint = blueprint.plus(configs={anatomy.names[id(s)]: {"scale": 1.0, "offset": 0.0} for s in scales})
        which = f"input {place + 1}" if len(inputs) > 1 else "the input"
        done.append(f"Normalize {which} inside the model, whose root mean square is {rms:.3g}.")
    return (blueprint, " ".join(done)) if done else None


def _takes_ids(layer: Any) -> bool:
    inside = [layer, *keras_private.flatten_layers(layer)] if isinstance(layer, keras.layers.Layer) else []
    return any(isinstance(each, keras.layers.Embedding) for each in inside)


def scaled_outputs(
    anatomy: Anatomy, blueprint: Blueprint, aims: tuple[Aim | None, ...], y: Any, limit: float
) -> tuple[Blueprint, str] | None:
    """Return a blueprint that brings predictions to the scale of targets whose root mean square is over `limit`."""
    ends, targets = anatomy.last_operations(), [a for a in tree.flatten(in_order_of_outputs(anatomy.model, y)) if a is not None]
    if not len(ends) == len(aims) == len(targets):
        return None
    done = []
    for place, (end, aim, target) in enumerate(zip(ends, aims, targets, strict=True)):
        if aim is None or aim.loss not in DISTANCES or aim.rms <= limit or place in blueprint.outputs:
            continue
        scale, offset = float(np.std(target)) or 1.0, float(np.mean(target))
        blueprint = blueprint.plus(outputs={place: (scale, offset)})
        name = anatomy.names.get(id(end), "")
        if _kind(end) in _RANGES and hasattr(end, "activation"):
            blueprint = blueprint.plus(activations={name: "linear"})
        done.append(f'Multiply the output of "{name}" by {scale:.3g} and add {offset:.3g}, the scale of the targets.')
    return (blueprint, " ".join(done)) if done else None
