"""Hyperparameters that choose among the package's parts, each for use inside a `build(hp)` of one's own.

Every function takes KerasTuner's `hp` and returns what Keras takes. Choices that only make sense together stand in a conditional scope, so
that no trial is spent on a value that nothing reads. The scopes of the options that were not chosen are entered too: that is how KerasTuner
learns of them before the first trial.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext import initializers, optimizers
from keras_ext._checks import bad_argument, in_range, integer, integers, items, one_of
from keras_ext.layers import BatchNormalization, Dropout
from keras_ext.search.batch_sizes import batch_size as batch_size

ACTIVATIONS = ("relu", "leaky_relu", "selu", "tanh", "sigmoid")

# Initializers whose published argument covers the activation; the first is the paper's own choice.
# gelu and silu, which are offered where they are asked for, have a gain of their own in place of relu's.
INITIALIZERS = {
    "relu": ("he_normal", "he_uniform", "orthogonal"),
    "leaky_relu": ("he_normal", "he_uniform", "orthogonal"),
    "selu": ("lecun_normal", "lecun_uniform"),
    "tanh": ("xavier_uniform", "xavier_normal", "lecun_normal", "orthogonal"),
    "sigmoid": ("xavier_uniform", "xavier_normal", "lecun_normal"),
    "gelu": ("he_normal", "he_uniform", "orthogonal"),
    "silu": ("he_normal", "he_uniform", "orthogonal"),
}
_WITH_GAIN = ("gelu", "silu")

_INITIALIZER_CLASSES = {
    "he_normal": initializers.HeNormal,
    "he_uniform": initializers.HeUniform,
    "lecun_normal": initializers.LecunNormal,
    "lecun_uniform": initializers.LecunUniform,
    "xavier_normal": initializers.XavierNormal,
    "xavier_uniform": initializers.XavierUniform,
    "orthogonal": initializers.Orthogonal,
}

_NORMALIZATIONS = {
    "none": lambda: [],
    "batch": lambda: [BatchNormalization()],
    "layer": lambda: [keras.layers.LayerNormalization()],
}

# How the names begin of the hyperparameters that leave the program of a training step as it is.
NUISANCE = ("learning_rate", "momentum", "clipping_threshold", "dropout", "initializer", "regularizer_")

# Lowest, usual and highest rate: a decade or so to both sides of what the rule is commonly run at.
LEARNING_RATES = {"adam": (1e-4, 1e-3, 3e-2), "rmsprop": (1e-4, 1e-3, 3e-2), "adagrad": (1e-3, 1e-2, 0.3), "sgd": (1e-3, 1e-2, 0.5)}


def layers(hp: Any, most: int = 4, name: str = "layers") -> int:
    """Choose the number of hidden layers, from 1 to `most`.

    One hidden layer approximates any continuous mapping (Heaton 2008, table 5.1), so that 1 is where a search begins.

    >>> import keras_tuner
    >>> layers(keras_tuner.HyperParameters())
    1
    """
    return hp.Int(name, 1, integer("most", most))


def units(hp: Any, inputs: int, outputs: int, sizes: Sequence[int] = (32, 64, 128, 256), name: str = "units") -> int:
    """Choose the width of the hidden layers; where a search begins is the one of `sizes` that is nearest to a rule of thumb.

    The rule is two thirds of the number of inputs, plus that of outputs, but at most twice the inputs, and at least the outputs.

    Args:
        hp: KerasTuner's hyperparameters.
        inputs: numbers that the first hidden layer takes.
        outputs: numbers that the network gives: its classes, or what it predicts.
        sizes: widths to choose from.
        name: of the hyperparameter.

    Raises:
        ValueError: a number is not a positive whole one.

    Examples:
        >>> import keras_tuner
        >>> units(keras_tuner.HyperParameters(), inputs=64, outputs=10)  # the rule says 53
        64

    References:
        Heaton (2008), Introduction to Neural Networks for Java, 2nd edition, chapter 5, The number of neurons in the hidden layers: between
        the sizes of the input and the output layer; two thirds of the input's, plus the output's; less than twice the input's. They are
        where to begin, no law: they know neither the number of samples nor the noise. With fewer inputs than outputs they contradict
        each other, and the outputs count here.
    """
    inputs, outputs = integer("inputs", inputs), integer("outputs", outputs)
    thumb = max(outputs, min(2 * inputs / 3 + outputs, 2 * inputs))
    sizes = list(integers("sizes", sizes))
    return hp.Choice(name, sizes, default=min(sizes, key=lambda size: abs(size - thumb)))


def activation(hp: Any, name: str = "activation", activations: Sequence[str] = ACTIVATIONS) -> str:
    """Choose an activation; returns its Keras name.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        activations: to choose from: those of `ACTIVATIONS`, "gelu" and "silu". Give the same to `initializer`.

    Raises:
        ValueError: `activations` is empty, or has another name.

    Examples:
        >>> import keras_tuner
        >>> activation(keras_tuner.HyperParameters())
        'relu'
    """
    return hp.Choice(name, list(checked_activations(activations)))


def checked_activations(activations: Any) -> tuple[str, ...]:
    """Return names of activations that `initializer` knows as a tuple.

    >>> checked_activations(["relu", "gelu"])
    ('relu', 'gelu')
    """
    found = items(activations)
    if not found or not all(isinstance(name, str) and name in INITIALIZERS for name in found):
        raise bad_argument("activations", f"a sequence of some of {', '.join(map(repr, INITIALIZERS))}", activations)
    return tuple(map(str, found))


def initializer(
    hp: Any, activation: str, name: str = "initializer", activations: Sequence[str] | None = ACTIVATIONS, gates: int | None = None
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

    Raises:
        ValueError: `activation` is not one of `activations`, or has no initializers here.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> type(initializer(hp, activation(hp))).__name__
        'HeNormal'
    """
    if activations is None:
        one_of("activation", activation, INITIALIZERS)
        chosen = hp.Choice(name, list(INITIALIZERS[activation]))
    else:
        one_of("activation", activation, checked_activations(activations), fix="Give `activations` as for the choice of the activation.")
        chosen = INITIALIZERS[activation][0]
        for option in activations:
            with hp.conditional_scope("activation", [option]):
                if option == activation:
                    chosen = hp.Choice(f"{name}_{option}", list(INITIALIZERS[option]))
    arguments: dict[str, Any] = {"gain": activation} if activation in _WITH_GAIN else {}
    if gates is not None:
        arguments |= {"kind": "recurrent", "blocks" if chosen == "orthogonal" else "groups": integer("gates", gates)}
    return _INITIALIZER_CLASSES[chosen](**arguments)


def normalization(
    hp: Any, name: str = "normalization", kinds: Sequence[str] = ("none", "batch"), batch_sizes: Sequence[int] = ()
) -> list[Any]:
    """Choose batch normalization or none; returns a list of no or one layer, to stand before the activation.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        kinds: to choose from: "none", "batch" and "layer", which is Keras's LayerNormalization.
        batch_sizes: what the hyperparameter "batch_size" chooses from, if there is one. A batch of one sample has no variance: with a 1
            among them, the kind is a choice for the other sizes only, and for 1 the first of `kinds` that is not "batch", or "none".

    Raises:
        ValueError: `kinds` is empty, or has another name.

    Examples:
        >>> import keras_tuner
        >>> normalization(keras_tuner.HyperParameters())
        []
    """
    if not isinstance(kinds, list | tuple) or not kinds or not all(isinstance(kind, str) and kind in _NORMALIZATIONS for kind in kinds):
        raise bad_argument("kinds", f"a sequence of some of {', '.join(map(repr, _NORMALIZATIONS))}", kinds)
    several = [size for size in batch_sizes if size > 1]
    if "batch" not in kinds or len(several) == len(batch_sizes):
        chosen = hp.Choice(name, list(kinds))
    else:
        chosen = next((kind for kind in kinds if kind != "batch"), "none")
        if several:
            with hp.conditional_scope("batch_size", several):
                chosen = hp.Choice(name, list(kinds)) or chosen  # None where the scope is not active
    return _NORMALIZATIONS[chosen]()


def dropout(hp: Any, name: str = "dropout", largest: float = 0.5) -> list[Any]:
    """Choose a dropout rate from 0 to `largest` in steps of .1; returns a list of no or one layer.

    >>> import keras_tuner
    >>> dropout(keras_tuner.HyperParameters())
    []
    """
    rate = hp.Float(name, 0.0, largest, step=0.1)
    return [Dropout(rate)] if rate > 0 else []


def regularizer(hp: Any, name: str = "regularizer", strengths: tuple[float, float] = (1e-6, 1e-2)) -> Any:
    """Choose a penalty on the weights, L1 or L2, with its strength on a logarithmic scale, or none; returns a Keras regularizer or None.

    Each penalty has a strength of its own, `regularizer_l1` and `regularizer_l2`, which exists only where that penalty was chosen.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        strengths: lowest and highest; where a search begins is their geometric mean.

    Raises:
        ValueError: `strengths` is not a rising pair of numbers above 0.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> hp.values["regularizer"] = "l2"
        >>> round(regularizer(hp).l2, 6)
        0.0001
    """
    if not isinstance(strengths, list | tuple) or len(strengths) != 2:
        raise bad_argument("strengths", "a pair of numbers, the lowest and the highest", strengths)
    low = in_range("strengths", strengths[0], 0.0, closed="neither")
    high = in_range("strengths", strengths[1], low, closed="neither")
    classes = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
    chosen, made = hp.Choice(name, ["none", *classes]), None
    for option in classes:
        with hp.conditional_scope(name, [option]):
            if option == chosen:
                made = classes[option](hp.Float(f"{name}_{option}", low, high, default=(low * high) ** 0.5, sampling="log"))
    return made


def learning_rate(hp: Any, optimizer: str = "adam", name: str = "learning_rate") -> float:
    """Choose a learning rate on a logarithmic scale, from the range that is usual for `optimizer`.

    >>> import keras_tuner
    >>> learning_rate(keras_tuner.HyperParameters())
    0.001
    """
    one_of("optimizer", optimizer, LEARNING_RATES)
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


def optimizer(hp: Any, name: str = "optimizer", gradient_accumulation_steps: int | None = None) -> keras.optimizers.Optimizer:
    """Choose an optimizer with its learning rate, its momentum where it has one, and its clipping.

    With `gradient_accumulation_steps` it takes one step for so many batches.

    >>> import keras_tuner
    >>> type(optimizer(keras_tuner.HyperParameters())).__name__
    'Adam'
    """
    classes = {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "adagrad": optimizers.Adagrad, "sgd": optimizers.SGD}
    chosen = hp.Choice(name, list(classes))
    arguments: dict[str, Any] = {"gradient_accumulation_steps": gradient_accumulation_steps}
    for option in classes:
        with hp.conditional_scope(name, [option]):
            if option == chosen:
                arguments["learning_rate"] = learning_rate(hp, option)
                if option == "sgd":
                    arguments["momentum"] = hp.Choice("momentum", [0.0, 0.5, 0.9, 0.99])
    return clipping(hp, classes[chosen](**arguments))
