"""Repairs inside a fit: changes that keep the graph, made between epochs, and undone where two epochs show no gain."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._backend import keras_private
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.probe.names import names_of
from keras_ext.optimizers import GradientClipping
from keras_ext.optimizers.exchange import innermost
from keras_ext.remedies.table import INSIDE_A_FIT
from keras_ext.remedies.weights import draw_again

# Epochs that a change gets to show a gain, and the share of the loss that must be gone.
_EPOCHS = 2
_GAIN = 0.05
_FACTOR = 10.0
_THRESHOLD = 1.0


@dataclass(frozen=True)
class _Undo:
    """The state before a change, and what to say of it."""

    finding: Finding
    loss: float
    epoch: int
    variables: list[tuple[Any, np.ndarray]]
    threshold: float | None


class FitRepairs:
    """Makes one change after the other for the critical findings that it hears of.

    Of the remedies for a symptom the first comes first; if two epochs later the loss is not 5 % lower, weights, rate and clipping go back
    to what they were, and the next remedy comes.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._waiting: list[tuple[Finding, list[str]]] = []
        self._undo: _Undo | None = None

    def hear(self, finding: Finding) -> bool:
        """Take a critical finding; return whether there is a remedy inside a fit."""
        remedies = list(INSIDE_A_FIT.get(finding.symptom, ()))
        if remedies:
            self._waiting.append((finding, remedies))
        return bool(remedies)

    def end_epoch(self, model: Any, loss: float, epoch: int) -> list[tuple[Finding, str]]:
        """Judge the last change and make the next; return what was done for which finding."""
        done = []
        undo = self._undo
        if undo is not None:
            gained = loss < undo.loss - _GAIN * abs(undo.loss) or (math.isfinite(loss) and not math.isfinite(undo.loss))
            if not gained and epoch < undo.epoch + _EPOCHS:
                return []
            self._undo = None
            if gained:
                # It learns again: what else was found came of the same cause.
                self._waiting = []
            else:
                _put_back(model, undo)
                done.append((undo.finding, f"Undone after epoch {epoch}: the loss was {loss:.3g}, and {undo.loss:.3g} before."))
        while self._waiting and self._undo is None:
            finding, remedies = self._waiting[0]
            if not remedies:
                self._waiting.pop(0)
                continue
            remedy = remedies.pop(0)
            kept = _Undo(finding, loss, epoch, _values(model), innermost(model.optimizer).global_clipnorm)
            what = _MADE[remedy](model, finding, self._seed)
            if what:
                self._undo = kept
                done.append((finding, f"Repaired after epoch {epoch}: {what}"))
        return done


def _values(model: Any) -> list[tuple[Any, np.ndarray]]:
    variables = {id(v): v for v in (*model.variables, *model.optimizer.variables)}.values()
    return [(v, np.array(ops.convert_to_numpy(v))) for v in variables]


def _put_back(model: Any, undo: _Undo) -> None:
    for variable, value in undo.variables:
        if variable is not model.optimizer.iterations:
            variable.assign(value)
    _clip(model, undo.threshold)


def _clip(model: Any, threshold: float | None) -> None:
    inner = innermost(model.optimizer)
    if inner.global_clipnorm != threshold:
        inner.global_clipnorm = threshold
        # A compiled step has the number in its program.
        model.make_train_function(force=True)


def _rate_times(factor: float) -> Callable[[Any, Finding, int], str]:
    def change(model: Any, finding: Finding, seed: int) -> str:
        inner = innermost(model.optimizer)
        if not isinstance(keras_private.rate_of(inner), keras.Variable):  # a schedule, or a function
            return ""
        before = float(ops.convert_to_numpy(inner.learning_rate))
        inner.learning_rate = before * factor
        return f"learning_rate from {before:.3g} to {before * factor:.3g}."

    return change


def _clipped(model: Any, finding: Finding, seed: int) -> str:
    inner, outer = innermost(model.optimizer), model.optimizer
    while outer is not inner:
        if isinstance(outer, GradientClipping):
            return ""
        outer = outer.inner_optimizer
    if inner.clipnorm or inner.clipvalue or inner.global_clipnorm:
        return ""
    _clip(model, _THRESHOLD)
    return f"the optimizer clips with global_clipnorm={_THRESHOLD:g}."


def _drawn(model: Any, finding: Finding, seed: int) -> str:
    names = names_of(model)
    layers = list(keras_private.flatten_layers(model))
    if finding.symptom == "non_finite":
        chosen = [layer for layer in layers if not all(np.isfinite(ops.convert_to_numpy(v)).all() for v in layer.weights if _is_float(v))]
    else:
        chosen = layers if finding.layer is None else [layer for layer in layers if names[id(layer)] == finding.layer]
    chosen = [layer for layer in chosen if layer.trainable_variables]
    if not chosen:
        return ""
    draw_again(model, chosen, seed)
    for variable in innermost(model.optimizer).variables:
        if not np.isfinite(ops.convert_to_numpy(variable)).all():
            variable.assign(ops.zeros(variable.shape, variable.dtype))
    shown = "all layers" if len(chosen) > 1 else f'"{names[id(chosen[0])]}"'
    return f"the weights of {shown} are drawn again."


def _is_float(variable: Any) -> bool:
    return "float" in str(variable.dtype)


_MADE = {"draw_weights": _drawn, "clip_gradients": _clipped, "lower_rate": _rate_times(1 / _FACTOR), "raise_rate": _rate_times(_FACTOR)}
