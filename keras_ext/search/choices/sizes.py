"""Depth and width as hyperparameters."""

from collections.abc import Sequence
from typing import Any

from keras_ext._backend.keras_private import conditional_scope
from keras_ext._checks import integer, integers, one_of

WIDTHS = ("same", "pyramid", "free")


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


def widths(
    hp: Any,
    count: int,
    inputs: int,
    outputs: int,
    sizes: Sequence[int] = (32, 64, 128, 256),
    kind: str = "same",
    most: int = 4,
    name: str = "units",
    layers: str = "layers",
) -> list[int]:
    """Choose the width of each of `count` hidden layers; returns them from the first to the last.

    - `"same"`: one choice, for all layers.
    - `"pyramid"`: one choice, for the first; the others fall to the number of outputs by equal ratios, where the first is wider than that.
    - `"free"`: a choice for each layer. That of the first is called `units`, that of the second `units_2`, and so on. Each exists only
      where there are so many layers.

    Args:
        hp: KerasTuner's hyperparameters; for `"free"` with the number of layers.
        count: hidden layers that were chosen.
        inputs: numbers that the first hidden layer takes.
        outputs: numbers that the network gives.
        sizes: widths to choose from.
        kind: `"same"`, `"pyramid"` or `"free"`.
        most: hidden layers that could have been chosen.
        name: of the hyperparameter, or how it begins.
        layers: name of the hyperparameter of the number of layers.

    Raises:
        ValueError: a number is not a positive whole one, `kind` is unknown, or `count` is above `most`.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> hp.values["units"] = 256
        >>> widths(hp, 4, inputs=64, outputs=16, kind="pyramid")
        [256, 128, 64, 32]

    References:
        Masters (1993), Practical neural network recipes in C++, chapter 10, for the geometric pyramid.
    """
    one_of("kind", kind, WIDTHS)
    count = integer("count", count, 1, integer("most", most))
    first = units(hp, inputs, outputs, sizes, name)
    if kind == "same":
        return [first] * count
    if kind == "pyramid":
        ratio = min(1.0, outputs / first)
        return [max(1, round(first * ratio ** (i / count))) for i in range(count)]
    found = [first]
    for i in range(2, most + 1):
        # The deepest is the first that KerasTuner tries to learn of them: it has all of these.
        with conditional_scope(hp, layers, list(range(most, i - 1, -1))):
            if i <= count:
                found.append(units(hp, inputs, outputs, sizes, f"{name}_{i}"))
    return found
