"""Hyperparameters that choose among the package's parts, each for use inside a `build(hp)` of one's own.

Every function takes KerasTuner's `hp` and returns what Keras takes. Choices that only make sense together stand in a conditional scope, so
that no trial is spent on a value that nothing reads.
"""

from typing import Any

import keras

from keras_ext import initializers, layers, optimizers
from keras_ext._checks import whole

ACTIVATIONS = ("relu", "leaky_relu", "selu", "tanh", "sigmoid")

# Initializers whose published argument covers the activation; the first is the paper's own choice.
INITIALIZERS = {
    "relu": ("he_normal", "he_uniform", "orthogonal"),
    "leaky_relu": ("he_normal", "he_uniform", "orthogonal"),
    "selu": ("lecun_normal", "lecun_uniform"),
    "tanh": ("xavier_uniform", "xavier_normal", "lecun_normal", "orthogonal"),
    "sigmoid": ("xavier_uniform", "xavier_normal", "lecun_normal"),
}

_INITIALIZER_CLASSES = {
    "he_normal": initializers.HeNormal,
    "he_uniform": initializers.HeUniform,
    "lecun_normal": initializers.LecunNormal,
    "lecun_uniform": initializers.LecunUniform,
    "xavier_normal": initializers.XavierNormal,
    "xavier_uniform": initializers.XavierUniform,
    "orthogonal": initializers.Orthogonal,
}

# Around each rule's usual rate: Keras's default is inside, a decade or so to both sides.
LEARNING_RATES = {"adam": (1e-4, 3e-2), "rmsprop": (1e-4, 3e-2), "adagrad": (1e-3, 0.3), "sgd": (1e-3, 0.5)}


def activation(hp: Any, name: str = "activation") -> str:
    """Choose an activation; returns its Keras name.

    >>> import keras_tuner
    >>> activation(keras_tuner.HyperParameters())
    'relu'
    """
    return hp.Choice(name, list(ACTIVATIONS))


def initializer(hp: Any, activation: str, name: str = "initializer") -> Any:
    """Choose an initializer that fits `activation`; returns a new instance.

    `hp` must have the hyperparameter "activation"; each activation has an initializer hyperparameter of its own, `initializer_relu` and so
    on, which exists only where that activation was chosen.

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> type(initializer(hp, activation(hp))).__name__
    'HeNormal'
    """
    with hp.conditional_scope("activation", [activation]):
        chosen = hp.Choice(f"{name}_{activation}", list(INITIALIZERS[activation]))
    return _INITIALIZER_CLASSES[chosen]()


def normalization(hp: Any, name: str = "normalization") -> list[Any]:
    """Choose batch normalization or none; returns a list of no or one layer, to stand before the activation.

    >>> import keras_tuner
    >>> normalization(keras_tuner.HyperParameters())
    []
    """
    return [layers.BatchNormalization()] if hp.Choice(name, ["none", "batch"]) == "batch" else []


def dropout(hp: Any, name: str = "dropout", largest: float = 0.5) -> list[Any]:
    """Choose a dropout rate from 0 to `largest` in steps of .1; returns a list of no or one layer.

    >>> import keras_tuner
    >>> dropout(keras_tuner.HyperParameters())
    []
    """
    rate = hp.Float(name, 0.0, largest, step=0.1)
    return [layers.Dropout(rate)] if rate > 0 else []


def learning_rate(hp: Any, optimizer: str, name: str = "learning_rate") -> float:
    """Choose a learning rate on a logarithmic scale, from the range that is usual for `optimizer`.

    >>> import keras_tuner
    >>> learning_rate(keras_tuner.HyperParameters(), "adam")
    0.0001
    """
    low, high = LEARNING_RATES[optimizer]
    return hp.Float(f"{name}_{optimizer}", low, high, sampling="log")


def clipping(hp: Any, optimizer: Any, name: str = "clipping") -> Any:
    """Choose gradient clipping by global norm, with its threshold, or none; returns `optimizer`, wrapped or as it was.

    >>> import keras_tuner
    >>> type(clipping(keras_tuner.HyperParameters(), optimizers.Adam())).__name__
    'Adam'
    """
    if hp.Choice(name, ["none", "global_norm"]) == "none":
        return optimizer
    with hp.conditional_scope(name, ["global_norm"]):
        threshold = hp.Float(f"{name}_threshold", 0.1, 10.0, sampling="log")
    return optimizers.GradientClipping(optimizer, rule="global_norm", threshold=threshold)


def optimizer(hp: Any, name: str = "optimizer") -> keras.optimizers.Optimizer:
    """Choose an optimizer with its learning rate, its momentum where it has one, and its clipping.

    >>> import keras_tuner
    >>> type(optimizer(keras_tuner.HyperParameters())).__name__
    'Adam'
    """
    chosen = hp.Choice(name, list(LEARNING_RATES))
    with hp.conditional_scope(name, [chosen]):
        rate = learning_rate(hp, chosen)
        momentum = hp.Choice("momentum", [0.0, 0.5, 0.9, 0.99]) if chosen == "sgd" else 0.0
    built = {
        "adam": lambda: optimizers.Adam(rate),
        "rmsprop": lambda: optimizers.RMSprop(rate),
        "adagrad": lambda: optimizers.Adagrad(rate),
        "sgd": lambda: optimizers.SGD(rate, momentum=momentum),
    }[chosen]()
    return clipping(hp, built)


def batch_size(hp: Any, samples: int, name: str = "batch_size") -> int:
    """Choose a batch size from 16 to 128, as far as the data has as many samples twice.

    >>> import keras_tuner
    >>> batch_size(keras_tuner.HyperParameters(), samples=1000), batch_size(keras_tuner.HyperParameters(), samples=20)
    (16, 8)
    """
    whole("samples", samples)
    sizes = [size for size in (16, 32, 64, 128) if 2 * size <= samples] or [max(1, min(8, samples // 2))]
    return hp.Choice(name, sizes)
