"""Random weights whose variance is set by the number of inputs and outputs of the layer; Glorot, He and LeCun are settings of one law."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ext._checks import bad_argument, is_number, plain
from keras_ext._config import config_of
from keras_ext.initializers._draws import Draws, checked_seed
from keras_ext.initializers._fans import Reading
from keras_ext.initializers.gains import as_number, checked_gain

# Standard deviation of a standard normal cut off at 2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
_STDDEV_OF_TRUNCATED_NORMAL = 0.87962566103423978


@keras.saving.register_keras_serializable(package="keras_ext")
class VarianceScaling(keras.initializers.VarianceScaling, Draws):
    """Draw weights of mean 0 and variance `scale * gain^2 / n`, `n` being the fan-in, the fan-out or their mean.

    Drop-in for `keras.initializers.VarianceScaling`, and a subclass of it: `EinsumDense` and `MultiHeadAttention` tell the axes of inputs
    and outputs to no others. The draw is float32 and cast last, so that half-precision weights have the right variance too.

    By default a shape is read as Keras reads it, `(..., inputs, outputs)`, which is wrong by the number of channels for a depthwise kernel.
    `kind` says what it is; `initialize(model, ...)` finds it for a whole model.

    Args:
        scale: factor of the variance, above 0.
        mode: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"` (cut off at two standard deviations, the variance being that after the cut),
            `"untruncated_normal"` or `"uniform"`.
        seed: int, `keras.random.SeedGenerator` or None. With an int or None each call gives the same numbers, as in Keras; a second call
            for the same shape warns, once.
        input_axes: axes of the weight that an output sums over; None reads the shape as `kind` says.
        output_axes: axes of the weight that an input feeds. Axes that are neither count matrices that stand side by side.
        gain: a further factor of the standard deviation: a number above 0, or the name of the activation that the weights' inputs come
            from, see `calculate_gain`.
        kind: what the weight is; None is Keras's reading of the shape.

            - `"dense"`: (inputs, outputs).
            - `"conv"`: (*window, inputs of a group, outputs), with `groups`; an input takes part in 1 / stride of the window.
            - `"depthwise"`: (*window, channels, multiplier): one output sums over the window alone.
            - `"conv_transpose"`: (*window, outputs, inputs): 1 / stride of the window meet in one output.
            - `"embedding"`: (vocabulary, size): one row is read, the fan-in is 1.
            - `"recurrent"`: (inputs, gates * units), with `groups` gates: each gate by itself.
            - `"einsum"`: by `input_axes` and `output_axes`, which must be given.
        groups: a convolution's groups, or the gates of a recurrent kernel; it divides the last axis.
        strides: of the convolution, an int or one for each axis of the window.

    Raises:
        ValueError: an argument is outside its range, or the shape does not fit `kind`.

    Examples:
        >>> w = ops.convert_to_numpy(VarianceScaling(scale=2.0, seed=1)((400, 300)))
        >>> bool(abs(w.std() - (2 / 400) ** 0.5) < 5e-4)
        True

    References:
        He, Zhang, Ren and Sun (2015), arXiv:1502.01852, section 2.2, for the argument; LeCun, Bottou, Orr and Müller (1998),
        Efficient BackProp, section 4.6, for the fan-in rule.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
        *,
        gain: float | str = 1.0,
        kind: str | None = None,
        groups: int = 1,
        strides: int | Sequence[int] = 1,
    ) -> None:
        # What Keras's class would stumble over; the rest it refuses in its own words.
        if not is_number(scale) or math.isinf(scale):
            raise bad_argument("scale", "a finite number above 0", scale)
        for name, value in (("mode", mode), ("distribution", distribution)):
            if not isinstance(value, str):
                raise bad_argument(name, "a word", value)
        reading = Reading(kind, groups, strides, input_axes, output_axes)
        super().__init__(plain(scale), mode, distribution, checked_seed(seed), reading.input_axes, reading.output_axes)
        self.gain = checked_gain(gain)
        self.kind, self.groups, self.strides = reading.kind, reading.groups, reading.strides
        self._reading = reading

    def variance(self, shape: Sequence[int]) -> float:
        """Return the variance of the weights of this shape."""
        axes = self._reading.of(shape)
        n = (axes.fan_in + axes.fan_out) / 2 if self.mode == "fan_avg" else getattr(axes, self.mode)
        gain = as_number(self.gain)
        # Not ** 2, which raises where the product is infinite.
        return self.scale * gain * gain / (n or 1.0)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return a tensor of this shape and dtype (default: `keras.config.floatx()`)."""
        variance = self.variance(shape)
        self.note_draw(shape, self._init_seed)
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
        return drawn if dtype == wide else ops.cast(drawn, dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return config_of(self, super().get_config())


class _NamedScaling(VarianceScaling):
    """A setting of `VarianceScaling` under its own name; its config holds what is not set, as Keras's does.

    With `gain` given, `scale` is 1: a gain that is in the class's own scale (He's is relu's) gives way to it.
    """

    _setting: dict[str, Any]

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
        *,
        gain: float | str | None = None,
        kind: str | None = None,
        groups: int = 1,
        strides: int | Sequence[int] = 1,
    ) -> None:
        setting = self._setting if gain is None else {**self._setting, "scale": min(1.0, self._setting["scale"])}
        reading = {"input_axes": input_axes, "output_axes": output_axes, "kind": kind, "groups": groups, "strides": strides}
        super().__init__(**setting, seed=seed, gain=1.0 if gain is None else gain, **reading)
        self._given_gain = None if gain is None else self.gain

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = {**super().get_config(), "gain": self._given_gain}
        return {name: value for name, value in config.items() if name not in self._setting}


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

    `gain="leaky_relu"`, or another's, takes the place of relu's sqrt(2).

    He, Zhang, Ren and Sun (2015), arXiv:1502.01852, equation 10 (the variance; the paper draws normals).

    >>> HeUniform(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 2.0, "mode": "fan_in", "distribution": "uniform"}


@keras.saving.register_keras_serializable(package="keras_ext")
class HeNormal(_NamedScaling):
    """Draw from a truncated normal of variance 2 / fan_in: the scale for the ReLU family.

    `gain="leaky_relu"`, or another's, takes the place of relu's sqrt(2).

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


@keras.saving.register_keras_serializable(package="keras_ext")
class FanInUniform(_NamedScaling):
    """Draw from U(-r, r) with r = 1 / sqrt(fan_in): the classical choice for sigmoid networks.

    Its variance is 1 / (3 fan_in): a third of what keeps a signal alive, as Glorot and Bengio (2010), equation 1, show. PyTorch's linear
    and convolution layers draw from the same law. LeCun, Bottou, Orr and Müller (1998), section 4.6, for fans.

    >>> FanInUniform(seed=1)((2, 3)).shape == (2, 3)
    True
    """

    _setting = {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}
