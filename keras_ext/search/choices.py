"""Hyperparameters that choose among the package's parts, each for use inside a `build(hp)` of one's own.

Every function takes KerasTuner's `hp` and returns what Keras takes. Choices that only make sense together stand in a conditional scope, so
that no trial is spent on a value that nothing reads. The scopes of the options that were not chosen are entered too: that is how KerasTuner
learns of them before the first trial.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext import initializers, layers, optimizers
from keras_ext._checks import whole, wholes

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

# Lowest, usual and highest rate: a decade or so to both sides of what the rule is commonly run at.
LEARNING_RATES = {"adam": (1e-4, 1e-3, 3e-2), "rmsprop": (1e-4, 1e-3, 3e-2), "adagrad": (1e-3, 1e-2, 0.3), "sgd": (1e-3, 1e-2, 0.5)}


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
    chosen = INITIALIZERS[activation][0]
    for option, fitting in INITIALIZERS.items():
        with hp.conditional_scope("activation", [option]):
            if option == activation:
                chosen = hp.Choice(f"{name}_{option}", list(fitting))
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
    0.001
    """
    low, usual, high = LEARNING_RATES[optimizer]
    return hp.Float(f"{name}_{optimizer}", low, high, default=usual, sampling="log")


def clipping(hp: Any, optimizer: Any, name: str = "clipping") -> Any:
    """Choose gradient clipping by global norm, with its threshold, or none; returns `optimizer`, wrapped or as it was.

    >>> import keras_tuner
    >>> type(clipping(keras_tuner.HyperParameters(), optimizers.Adam())).__name__
    'Adam'
    """
    chosen = hp.Choice(name, ["none", "global_norm"])
    with hp.conditional_scope(name, ["global_norm"]):
        if chosen == "global_norm":
            threshold = hp.Float(f"{name}_threshold", 0.1, 10.0, default=1.0, sampling="log")
            return optimizers.GradientClipping(optimizer, rule=chosen, threshold=threshold)
    return optimizer


def optimizer(hp: Any, name: str = "optimizer") -> keras.optimizers.Optimizer:
    """Choose an optimizer with its learning rate, its momentum where it has one, and its clipping.

    >>> import keras_tuner
    >>> type(optimizer(keras_tuner.HyperParameters())).__name__
    'Adam'
    """
    classes = {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "adagrad": optimizers.Adagrad, "sgd": optimizers.SGD}
    chosen, arguments = hp.Choice(name, list(classes)), {}
    for option in classes:
        with hp.conditional_scope(name, [option]):
            if option == chosen:
                arguments["learning_rate"] = learning_rate(hp, option)
                if option == "sgd":
                    arguments["momentum"] = hp.Choice("momentum", [0.0, 0.5, 0.9, 0.99])
    return clipping(hp, classes[chosen](**arguments))


def batch_size(hp: Any, samples: int, name: str = "batch_size", sizes: Sequence[int] = (16, 32, 64, 128)) -> int:
    """Choose a batch size, from 16 to 128 or of `sizes`, as far as the data has as many samples twice; half of them where none fits.

    A GPU computes larger batches in the time of small ones: give `sizes` up to some thousands there.

    >>> import keras_tuner
    >>> batch_size(keras_tuner.HyperParameters(), samples=1000), batch_size(keras_tuner.HyperParameters(), samples=20)
    (16, 10)
    >>> batch_size(keras_tuner.HyperParameters(), samples=1000, sizes=(256, 512, 1024))
    256
    """
    whole("samples", samples)
    fitting = [size for size in wholes("sizes", sizes) if 2 * size <= samples] or [max(1, samples // 2)]
    return hp.Choice(name, fitting)
