"""At what scale a model's kernels would start by the usual initializers."""

import math
from dataclasses import dataclass
from typing import Any

from keras_ext.initializers._fans import Reading
from keras_ext.initializers._weights import weights_of


@dataclass(frozen=True)
class Scales:
    """The fan-in of a kernel, and the root mean squares, times the root of `fan_in`, between which the usual initializers draw it.

    `most` is that of He, the root of 2, and 1 for a recurrent kernel, through which the state goes at every step. `least` is the smaller of
    LeCun's, 1, and Glorot's, by the layer's reading of the shape and by Keras's, which counts all channels of a depthwise kernel.
    """

    fan_in: float
    least: float
    most: float


def scales_of(model: Any) -> dict[int, Scales]:
    """Return the scales of each kernel of a known kind by the `id` of its variable; an embedding sums up nothing and has none.

    >>> import keras
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(24)])
    >>> scales = scales_of(model)[id(model.layers[0].kernel)]
    >>> scales.fan_in, round(scales.least, 3), round(scales.most, 3)
    (8, 0.707, 1.414)
    """
    found = {}
    for weight in weights_of(model):
        axes = weight.axes
        if weight.reading.kind != "embedding" and axes.fan_in > 0:
            keras_reading = Reading().of(weight.variable.shape)
            variances = [1 / axes.fan_in, *(2 / (each.fan_in + each.fan_out) for each in (axes, keras_reading))]
            found[id(weight.variable)] = Scales(
                axes.fan_in, math.sqrt(min(variances) * axes.fan_in), 1.0 if weight.recurrent else math.sqrt(2)
            )
    return found
