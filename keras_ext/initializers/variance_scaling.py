"""Random weights whose variance is set by the number of inputs and outputs of the layer.

One law, three choices: `variance = scale / n`, with `n` the fan-in, the fan-out or their mean, and a truncated normal or a uniform
distribution. Glorot, He and LeCun are settings of it.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# Standard deviation of a standard normal cut off at 2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
_STDDEV_OF_TRUNCATED_NORMAL = 0.87962566103423978


def fans(shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None) -> tuple[int, int]:
    """Return how many inputs feed one output of a weight of this shape, and how many outputs one input feeds.

    Without axes the shape is read as Keras reads it: `(inputs, outputs)` for a dense kernel, `(..., inputs, outputs)` times the size of
    the window for a convolution, the length for a vector, 1 for a scalar.

    >>> fans((64, 10)), fans((3, 3, 16, 32)), fans((32, 4, 16), input_axes=[0], output_axes=[1, 2])
    ((64, 10), (144, 288), (32, 64))
    """
    shape = tuple(shape)
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[i] for i in input_axes), math.prod(shape[i] for i in output_axes)
    if len(shape) == 0:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


@keras.saving.register_keras_serializable(package="keras_ext")
class VarianceScaling(keras.initializers.VarianceScaling):
    """Draw weights of mean 0 and variance `scale / n`, `n` being the fan-in, the fan-out or their mean.

    Drop-in for `keras.initializers.VarianceScaling`. It subclasses that class, whose draw it replaces, because `EinsumDense` and
    `MultiHeadAttention` tell the axes of inputs and outputs to subclasses of it alone. The draw is float32 and cast last, so that
    half-precision weights have the right variance too.

    Args:
        scale: factor of the variance, above 0.
        mode: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"` (cut off at two standard deviations, the variance being that after the cut),
            `"untruncated_normal"` or `"uniform"`.
        seed: int, `keras.random.SeedGenerator` or None. With an int or None each call gives the same numbers, as in Keras.
        input_axes: axes of the weight that are inputs; None reads the shape as `fans` says.
        output_axes: axes of the weight that are outputs.

    Raises:
        ValueError: `scale` is not above 0, or `mode` or `distribution` is none of those.

    Example:
        >>> w = ops.convert_to_numpy(VarianceScaling(scale=2.0, seed=1)((400, 300)))
        >>> bool(abs(w.std() - (2 / 400) ** 0.5) < 5e-4)
        True

    References:
        He, Zhang, Ren and Sun (2015), arXiv:1502.01852, section 2.2, for the argument; LeCun, Bottou, Orr and Müller (1998),
        Efficient BackProp, section 4.6, for the fan-in rule.
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return a tensor of this shape and dtype (default: `keras.config.floatx()`)."""
        fan_in, fan_out = fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        wide = "float64" if dtype == "float64" else "float32"
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            drawn = keras.random.uniform(shape, -limit, limit, dtype=wide, seed=self.seed)
        elif self.distribution == "untruncated_normal":
            drawn = keras.random.normal(shape, 0.0, math.sqrt(variance), dtype=wide, seed=self.seed)
        else:
            stddev = math.sqrt(variance) / _STDDEV_OF_TRUNCATED_NORMAL
            drawn = keras.random.truncated_normal(shape, 0.0, stddev, dtype=wide, seed=self.seed)
        return ops.cast(drawn, dtype)


class _NamedScaling(VarianceScaling):
    """A setting of `VarianceScaling` under its own name; its config holds only the seed and the axes, as Keras's does."""

    _setting: dict[str, Any]

    def __init__(self, seed: Any = None, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None) -> None:
        super().__init__(**self._setting, seed=seed, input_axes=input_axes, output_axes=output_axes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        return {name: config[name] for name in ("seed", "input_axes", "output_axes")}


@keras.saving.register_keras_serializable(package="keras_ext")
class GlorotUniform(_NamedScaling):
    """Draw from U(-r, r) with r = sqrt(6 / (fan_in + fan_out)): the scale for tanh and softmax layers.

    Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural networks, equation 16.

    >>> GlorotUniform(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform"}


@keras.saving.register_keras_serializable(package="keras_ext")
class GlorotNormal(_NamedScaling):
    """Draw from a truncated normal of variance 2 / (fan_in + fan_out): the scale for tanh and softmax layers.

    Glorot and Bengio (2010), equation 12.

    >>> GlorotNormal(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 1.0, "mode": "fan_avg", "distribution": "truncated_normal"}


@keras.saving.register_keras_serializable(package="keras_ext")
class HeUniform(_NamedScaling):
    """Draw from U(-r, r) with r = sqrt(6 / fan_in): the scale for the ReLU family.

    He, Zhang, Ren and Sun (2015), arXiv:1502.01852, equation 10 (the variance; the paper draws normals).

    >>> HeUniform(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 2.0, "mode": "fan_in", "distribution": "uniform"}


@keras.saving.register_keras_serializable(package="keras_ext")
class HeNormal(_NamedScaling):
    """Draw from a truncated normal of variance 2 / fan_in: the scale for the ReLU family.

    He, Zhang, Ren and Sun (2015), arXiv:1502.01852, equation 10 (the paper's normal is not truncated).

    >>> HeNormal(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 2.0, "mode": "fan_in", "distribution": "truncated_normal"}


@keras.saving.register_keras_serializable(package="keras_ext")
class LecunUniform(_NamedScaling):
    """Draw from U(-r, r) with r = sqrt(3 / fan_in): the scale for selu and for linear layers.

    LeCun, Bottou, Orr and Müller (1998), Efficient BackProp, section 4.6, equation 16.

    >>> LecunUniform(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 1.0, "mode": "fan_in", "distribution": "uniform"}


@keras.saving.register_keras_serializable(package="keras_ext")
class LecunNormal(_NamedScaling):
    """Draw from a truncated normal of variance 1 / fan_in: the scale for selu and for linear layers.

    LeCun, Bottou, Orr and Müller (1998), equation 16; Klambauer, Unterthiner, Mayr and Hochreiter (2017), arXiv:1706.02515, for selu.

    >>> LecunNormal(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"}
