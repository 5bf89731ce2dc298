"""Activations as a hyperparameter, and the layer of each."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import bad_argument, items, one_of

ACTIVATIONS = ("relu", "leaky_relu", "selu", "tanh", "sigmoid")
ALL_ACTIVATIONS = (*ACTIVATIONS, "gelu", "silu", "prelu")

# He et al. (2015), section 2.1, start there; Keras starts at 0, where a PReLU is a ReLU.
PRELU_SLOPE = 0.25


def activation(hp: Any, name: str = "activation", activations: Sequence[str] = ACTIVATIONS) -> str:
    """Choose an activation; returns its name, for `activation_layer` and `initializer`.

    Each name but "prelu", which has weights, is one that Keras knows.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        activations: to choose from: those of `ACTIVATIONS`, "gelu", "silu" and "prelu". Give the same to `initializer`.

    Raises:
        ValueError: `activations` is empty, or has another name.

    Examples:
        >>> import keras_tuner
        >>> activation(keras_tuner.HyperParameters())
        'relu'
    """
    return hp.Choice(name, list(checked_activations(activations)))


def activation_layer(activation: str, name: str | None = None, shared_axes: Sequence[int] | None = None) -> keras.layers.Layer:
    """Return a layer that applies `activation`: PReLU for "prelu", whose slope is trained, else Keras's Activation.

    Args:
        activation: one of `ALL_ACTIVATIONS`.
        name: of the layer.
        shared_axes: of PReLU: axes along which the slope is the same, counted from 1; height and width of images, (1, 2).

    Raises:
        ValueError: another name.

    Examples:
        >>> layer = activation_layer("prelu")
        >>> float(layer(keras.ops.array([[-2.0]]))[0, 0])
        -0.5

    References:
        He, Zhang, Ren and Sun (2015), Delving deep into rectifiers, arXiv:1502.01852, section 2.1: a slope for each channel, .25 at first.
    """
    one_of("activation", activation, ALL_ACTIVATIONS)
    if activation == "prelu":
        axes = None if shared_axes is None else list(shared_axes)
        return keras.layers.PReLU(keras.initializers.Constant(PRELU_SLOPE), shared_axes=axes, name=name)
    return keras.layers.Activation(activation, name=name)


def checked_activations(activations: Any) -> tuple[str, ...]:
    """Return names of activations that `initializer` knows as a tuple.

    >>> checked_activations(["relu", "gelu"])
    ('relu', 'gelu')
    """
    found = items(activations)
    if not found or not all(isinstance(name, str) and name in ALL_ACTIVATIONS for name in found):
        raise bad_argument("activations", f"a sequence of some of {', '.join(map(repr, ALL_ACTIVATIONS))}", activations)
    return tuple(map(str, found))
