"""Initializers as a hyperparameter: for each activation those that fit it."""

import math
from collections.abc import Sequence
from typing import Any

from keras_ext import initializers
from keras_ext._backend.keras_private import conditional_scope
from keras_ext._checks import integer, one_of
from keras_ext.search.choices.activations import ACTIVATIONS, PRELU_SLOPE, checked_activations

# Initializers whose published argument covers the activation; the first is the paper's own choice.
# gelu, silu and prelu, which are offered where they are asked for, have a gain of their own in place of relu's.
INITIALIZERS = {
    "relu": ("he_normal", "he_uniform", "orthogonal"),
    "leaky_relu": ("he_normal", "he_uniform", "orthogonal"),
    "selu": ("lecun_normal", "lecun_uniform", "orthogonal"),
    "tanh": ("xavier_uniform", "xavier_normal", "lecun_normal", "orthogonal", "fan_in_uniform"),
    "sigmoid": ("xavier_uniform", "xavier_normal", "lecun_normal", "orthogonal", "fan_in_uniform"),
    "gelu": ("he_normal", "he_uniform", "orthogonal"),
    "silu": ("he_normal", "he_uniform", "orthogonal"),
    "prelu": ("he_normal", "he_uniform", "orthogonal"),
}
# With a gain that is searched for: any activation has it.
SCALED = "variance_scaling"
GAINS = (0.5, 2.0)

_PRELU_GAIN = math.sqrt(2 / (1 + PRELU_SLOPE**2))
_OWN_GAINS: dict[str, Any] = {"gelu": "gelu", "silu": "silu", "prelu": _PRELU_GAIN}

_CLASSES = {
    "he_normal": initializers.HeNormal,
    "he_uniform": initializers.HeUniform,
    "lecun_normal": initializers.LecunNormal,
    "lecun_uniform": initializers.LecunUniform,
    "xavier_normal": initializers.XavierNormal,
    "xavier_uniform": initializers.XavierUniform,
    "fan_in_uniform": initializers.FanInUniform,
    "orthogonal": initializers.Orthogonal,
    SCALED: initializers.VarianceScaling,
}


def initializer(
    hp: Any,
    activation: str,
    name: str = "initializer",
    activations: Sequence[str] | None = ACTIVATIONS,
    gates: int | None = None,
    gains: bool = False,
) -> Any:
    """Choose an initializer that fits `activation`; returns a new instance.

    `hp` must have the hyperparameter "activation"; each activation has an initializer hyperparameter of its own, `initializer_relu` and so
    on, which exists only where that activation was chosen.

    Args:
        hp: KerasTuner's hyperparameters.
        activation: the activation that was chosen.
        name: of the hyperparameter, or how it begins.
        activations: what "activation" chooses from. None: `activation` is no choice, and the hyperparameter is called `name`.
        gates: for recurrent layers, the matrices that lie side by side in a kernel: 4 in an LSTM. Each is drawn by itself.
        gains: offer `VarianceScaling` too, with the gain of the activation times a factor from .5 to 2. The factor is a hyperparameter,
            `initializer_relu_gain` and so on, which exists only there.

    Raises:
        ValueError: `activation` is not one of `activations`, or has no initializers here.

    Examples:
        >>> import keras_tuner
        >>> from keras_ext.search.choices import activation as choose_activation
        >>> hp = keras_tuner.HyperParameters()
        >>> type(initializer(hp, choose_activation(hp))).__name__
        'HeNormal'

    References:
        Each initializer's docstring has its own. Saxe, McClelland and Ganguli (2014), arXiv:1312.6120, for orthogonal weights, which keep
        the norm whatever follows.
    """
    if activations is None:
        one_of("activation", activation, INITIALIZERS)
        return _chosen(hp, name, activation, gates, gains)
    one_of("activation", activation, checked_activations(activations), fix="Give `activations` as for the choice of the activation.")
    made = None
    for option in activations:
        with conditional_scope(hp, "activation", [option]):
            if option == activation:
                made = _chosen(hp, f"{name}_{option}", option, gates, gains)
    return made


def _chosen(hp: Any, name: str, activation: str, gates: int | None, gains: bool) -> Any:
    chosen = hp.Choice(name, [*INITIALIZERS[activation], *([SCALED] if gains else [])])
    if chosen is None:  # in a scope of the caller's that is not active
        return None
    arguments: dict[str, Any] = {"gain": _OWN_GAINS[activation]} if activation in _OWN_GAINS else {}
    if gains:
        with conditional_scope(hp, name, [SCALED]):
            if chosen == SCALED:
                factor = hp.Float(f"{name}_gain", *GAINS, default=1.0, sampling="log")
                arguments["gain"] = factor * (_PRELU_GAIN if activation == "prelu" else initializers.calculate_gain(activation))
    if gates is not None:
        arguments |= {"kind": "recurrent", "blocks" if chosen == "orthogonal" else "groups": integer("gates", gates)}
    return _CLASSES[chosen](**arguments)
