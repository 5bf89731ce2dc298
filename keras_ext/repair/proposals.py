"""From the name of a remedy to a blueprint with it: which layers it changes, and how."""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_ext._backend import keras_private
from keras_ext.callbacks import Finding, Limits
from keras_ext.callbacks.monitor.probe.targets import Aim, baseline
from keras_ext.callbacks.monitor.probe.training import RECURRENT_RATES, penalty_on_outputs, training_of
from keras_ext.optimizers import GradientClipping
from keras_ext.optimizers.exchange import innermost
from keras_ext.remedies.change import Change
from keras_ext.remedies.table import remedies
from keras_ext.repair import outputs
from keras_ext.repair.anatomy import Anatomy, Hidden
from keras_ext.repair.blueprint import Blueprint

# What saturates, dies or grows without bound is exchanged for elu, which does none of these (Clevert et al. 2016).
_EXCHANGED = ("sigmoid", "hard_sigmoid", "tanh", "softsign", "softmax", "exponential", "relu", "relu6")
_OTHER = dict.fromkeys(_EXCHANGED, "elu")
_RATE_OF_DROPOUT, _MOMENTUM, _EPSILON, _DECAY, _THRESHOLD = 0.5, 0.99, 1e-7, 0.004, 1.0
# The arguments of a layer that press its weights, and its outputs.
_OF_WEIGHTS = ("kernel_regularizer", "embeddings_regularizer", "kernel_constraint", "embeddings_constraint")
_OF_OUTPUTS = ("activity_regularizer",)
# Batches so small have no statistics to normalize by.
_LEAST_BATCH = 8
_LARGE_EPSILON = 1e-3


@dataclass(frozen=True)
class Proposal:
    """A change, and the blueprint with it."""

    change: Change
    blueprint: Blueprint


class Proposals:
    """Makes blueprints with the remedies for what was found in `model`."""

    def __init__(self, model: Any, data: tuple[Any, Any, Any], aims: tuple[Aim | None, ...], limits: Limits, batch_size: int) -> None:
        self.model, self.data, self.aims, self.limits, self.batch_size = model, data, aims, limits, batch_size
        self.anatomy = Anatomy(model)
        iterations = getattr(getattr(model, "optimizer", None), "iterations", None)
        self.is_new = iterations is None or int(ops.convert_to_numpy(iterations)) == 0

    def of(self, remedy: str, blueprint: Blueprint, findings: tuple[Finding, ...]) -> Proposal | None:
        """Return the blueprint with `remedy`, for the findings that ask for it; None where it changes nothing that is not changed."""
        asking = [f for f in findings if remedy in remedies(f.symptom)] or list(findings)
        made = getattr(self, f"_{remedy}")(blueprint, asking)
        if made is None or not asking:
            return None
        new, what, layers = made
        reason = asking[0]
        return Proposal(Change(remedy, what, reason.symptom, reason.advice, tuple(layers)), new)

    def _thaw(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        names = [n for n in training_of(self.model).frozen if not blueprint.configs.get(n, {}).get("trainable")]
        if not names:
            return None
        return blueprint.plus(configs={n: {"trainable": True} for n in names}), f"Let {_listed(names)} train.", names

    def _fit_output(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        return _with_layers(outputs.fitted_output(self.anatomy, blueprint, self.aims), found)

    def _bound_output(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        return _with_layers(outputs.bounded_output(self.anatomy, blueprint, self.aims), found)

    def _scale_inputs(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        made = outputs.scaled_inputs(self.anatomy, blueprint, self.data[0], self.limits.faint_input, self.limits.unscaled_input)
        return _with_layers(made, found)

    def _scale_outputs(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        return _with_layers(outputs.scaled_outputs(self.anatomy, blueprint, self.aims, self.data[1], self.limits.unscaled_target), found)

    def _lower_dropout(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        training = training_of(self.model)
        rates = {n: rate for n, rate in training.dropping if "rate" not in blueprint.configs.get(n, {})}
        outputs = [n for n in rates if n in training.dropping_outputs]
        heavy = [n for n in rates if n not in outputs and rates[n] >= self.limits.heavy_dropout]
        if not heavy and not outputs:
            return None
        lowered = [(names, new) for names, new in ((heavy, _RATE_OF_DROPOUT), (outputs, 0.0)) if names]
        what = " ".join(f"Set the rate of {_listed(names)} from {max(rates[n] for n in names):.3g} to {new:g}." for names, new in lowered)
        recurrent = {
            self.anatomy.names.get(id(layer), ""): {name: min(getattr(layer, name, 0.0), _RATE_OF_DROPOUT) for name in RECURRENT_RATES}
            for layer in keras_private.flatten_layers(self.model)
            if isinstance(layer, keras.layers.RNN)
        }
        configs = {n: recurrent.get(n, {"rate": new}) for names, new in lowered for n in names}
        return blueprint.plus(configs=configs), what, list(configs)

    def _follow_statistics(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        moving = training_of(self.model).moving
        names = [n for n, momentum in moving if momentum > _MOMENTUM and "momentum" not in blueprint.configs.get(n, {})]
        if not names:
            return None
        return blueprint.plus(configs={n: {"momentum": _MOMENTUM} for n in names}), f"Set the momentum of {_listed(names)} to .99.", names

    def _leave_out_penalties(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        pressed, cost = {f.layer for f in found if f.symptom == "strong_decay"}, self.limits.penalty_share * baseline(self.aims)
        # Without a layer the penalties of all are meant.
        of_weights = None in pressed and training_of(self.model).penalty > cost
        of_outputs = None in pressed and penalty_on_outputs(self.model, self.data[0]) > cost
        configs: dict[str, dict[str, None]] = {}
        for layer in keras_private.flatten_layers(self.model):
            name = self.anatomy.names.get(id(layer), "")
            keys = (*(_OF_WEIGHTS if of_weights or name in pressed else ()), *(_OF_OUTPUTS if of_outputs else ()))
            held = [key for key in keys if getattr(layer, key, None) is not None and key not in blueprint.configs.get(name, {})]
            if held:
                configs[name] = dict.fromkeys(held)
        if not configs:
            return None
        keys = ", ".join(dict.fromkeys(key for each in configs.values() for key in each))
        return blueprint.plus(configs=configs), f"Leave out {keys} of {_listed(list(configs))}.", list(configs)

    def _default_step(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        step = training_of(self.model).step
        more: dict[str, Any] = {}
        if step.epsilon > _LARGE_EPSILON:
            more["epsilon"] = _EPSILON
        if any(f.symptom in ("small_step", "unchanged_weights") for f in found) and step.clipping and step.threshold < _THRESHOLD:
            more[step.clipping] = None
        if step.rate * step.weight_decay > self.limits.strong_decay:
            more["weight_decay"] = _DECAY
        more = {name: value for name, value in more.items() if name not in blueprint.optimizer}
        if not more:
            return None
        return blueprint.plus(optimizer=more), f"Set {', '.join(f'{name}={value}' for name, value in more.items())} in the optimizer.", ()

    def _draw_weights(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        poor = [f.layer for f in found if f.symptom == "poor_initialization"]
        # What is saturated before the first step was drawn too large as well, though each scale alone may pass.
        poor += [f.layer for f in found if poor and f.symptom == "saturated" and f.step == 0]
        named = poor or [f.layer for f in found]
        # After a training the layers that do well keep what they have learned.
        whole = not poor and (self.is_new or not any(named))
        names = list(self.anatomy.layers) if whole else [n for n in named if n in self.anatomy.layers]
        names = [n for n in dict.fromkeys(names) if n not in blueprint.drawn and self.anatomy.layers[n].trainable_variables]
        if not names:
            return None
        which = "all layers" if whole else _listed(names)
        return blueprint.plus(drawn=names), f'Draw the weights of {which} again, by initializers.initialize(model, "auto").', names

    def _clip_gradients(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        optimizer = getattr(self.model, "optimizer", None)
        is_clipped = training_of(self.model).step.clipping or _is_wrapped(optimizer)
        if optimizer is None or is_clipped or blueprint.threshold is not None or hasattr(innermost(optimizer), "optimizers"):
            return None
        return blueprint.plus(threshold=_THRESHOLD), f"Put GradientClipping(threshold={_THRESHOLD:g}) around the optimizer.", ()

    def _exchange_activation(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        new, was = {}, {}
        for hidden in self._free():
            now = blueprint.activations.get(hidden.by, hidden.activation)
            if now in _OTHER:
                new[hidden.by], was[now] = _OTHER[now], _OTHER[now]
        if not new:
            return None
        names = [h.name for h in self._free() if h.by in new]
        changed = blueprint.plus(activations=new)
        changed = changed.plus(drawn=names) if self.is_new else changed
        pairs = ", ".join(f"{other} for {old}" for old, other in was.items())
        drawn = ", and draw their weights for it" if self.is_new else ""
        return changed, f"Take {pairs} in {_listed(names)}{drawn}.", names

    def _normalize_layers(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        names = [h.name for h in self._free() if not h.normalized and h.name not in blueprint.normalized]
        if not names or self.batch_size < _LEAST_BATCH:
            return None
        return blueprint.plus(normalized=names), f"Put BatchNormalization between {_listed(names)} and their activations.", names

    def _add_skips(self, blueprint: Blueprint, found: list[Finding]) -> Any:
        names = [h.name for h in self._free() if _is_even(h.layer) and h.name not in blueprint.skipped]
        if len(names) < 2:
            return None
        # Sums of kernels of the usual scale double the signal from layer to layer; those that are drawn start smaller.
        more = {"drawn": names} if self.is_new else {}
        return blueprint.plus(skipped=names, **more), f"Add to the output of {_listed(names)} their input.", names

    def _free(self) -> list[Hidden]:
        """Return the hidden layers that no product makes gates of."""
        return [h for h in self.anatomy.hidden() if not self.anatomy.is_gate(h.layer)]


def _with_layers(made: tuple[Blueprint, str] | None, found: list[Finding]) -> Any:
    return made and (*made, [f.layer for f in found if f.layer])


def _is_wrapped(optimizer: Any) -> bool:
    while optimizer is not None:
        if isinstance(optimizer, GradientClipping):
            return True
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return False


def _is_even(layer: Any) -> bool:
    try:
        return isinstance(layer, keras.layers.Layer) and tuple(layer.input.shape) == tuple(layer.output.shape)
    except AttributeError:  # called more than once, or not at all
        return False


def _listed(names: list[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def rate_in_words(rate: float) -> str:
    """Return a rate as it stands in a change."""
    return f"{rate:.2g}" if math.isfinite(rate) else "its schedule"
