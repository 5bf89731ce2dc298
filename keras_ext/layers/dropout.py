"""Dropout (Srivastava et al. 2014)."""

import numbers
import weakref
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import flag, integer, is_number, plain
from keras_ext._config import config_of
from keras_ext.layers import _dropout_mask
from keras_ext.layers._arguments import base_arguments, seed_generator


class _RateState:
    """The rate and the factor of what is kept, as a compiled step reads them.

    In a holder, because Keras makes a weight of each variable that a layer holds itself.
    """

    def __init__(self, rate: float) -> None:
        # PyTorch's step is not compiled by default: it reads the layer's own number, and no device has to wait for it.
        wanted = keras.backend.backend() != "torch"
        start = _rate_and_scale(rate)
        self.variable = keras.Variable(start, dtype="float32", trainable=False, autocast=False, name="rate") if wanted else None

    def assign(self, rate: float) -> None:
        if self.variable is not None:
            self.variable.assign(_rate_and_scale(rate))

    def read(self) -> float | None:
        """Return the rate that the next step reads, or None where it cannot be seen: inside a trace, or given away by JAX."""
        if self.variable is None:
            return None
        try:
            return float(ops.convert_to_tensor(self.variable)[0])
        except (TypeError, ValueError, RuntimeError, AttributeError):
            return None


def _rate_and_scale(rate: float) -> list[float]:
    # Taken in double precision: from a float32 rate of .9 the factor would be off by two units in the last place.
    return [float(rate), 1 / (1 - rate) if rate < 1 else 0.0]


# Seeded layers that depend on one Input, counted for each seed.
_seeded: weakref.WeakKeyDictionary[Any, dict[int, int]] = weakref.WeakKeyDictionary()


@keras.saving.register_keras_serializable(package="keras_ext")
class Dropout(keras.layers.Layer):
    """Set each input to zero with probability `rate` in training and scale the rest, so that the mean is kept.

    The kept inputs are multiplied by `1 / (1 - rate)`; at inference the layer returns its input. Drop-in for `keras.layers.Dropout`.

    Different from Keras's class:

    - The asked rate is the dropped rate in every dtype: Keras draws in the dtype of the input, and a bfloat16 uniform number has too few
      values for a small rate (asked .001, dropped .0078), and rounds the scale.
    - The mask is made of random bytes and kept for the backward pass in one byte an element; the rate is exact to 24 bits.
    - `layer.rate = .2` acts during training, without a new trace, from the next batch. On JAX, which holds the state within an epoch, it
      must be set at an epoch's beginning or after the callback has read `self.model`; else it is lost, and `layer.rate` says the old rate.
      Rates below 1/32 and above 31/32 have two random bytes an element; a step that was traced with one keeps one, and drops 255/256
      where more is asked.
    - Layers with one `seed` behind one Input of a Sequential or functional model draw different masks (`stream`). Behind different Inputs,
      in models inside a model and in subclassed models they draw alike, as Keras's: give them seeds of their own.

    Args:
        rate: share of the inputs set to zero, in [0, 1].
        noise_shape: shape of the mask, which is broadcast to the input. `None` entries take the input's size:
            `(None, 1, None)` drops whole features of `(batch, time, features)`.
        seed: int, or None for a seed of the layer's own.
        monte_carlo: drop at inference too (Gal and Ghahramani 2016: several predictions of one input show how sure the model is).
        stream: number of the layer among those of one seed, at least 0. None: set when a functional model first calls the layer, to 0 for
            the first layer with that seed behind an Input, 1 for the next, and so on.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Raises:
        ValueError: `rate` is outside [0, 1]; `noise_shape` is not a sequence of positive integers and None, is longer than the input's
            shape, or has a size that is neither 1 nor the input's.

    Call arguments:
        inputs: tensor of any shape.
        training: drop (True) or pass through (False).

    Examples:
        >>> import numpy as np
        >>> y = ops.convert_to_numpy(Dropout(0.5, seed=1)(np.ones((1000, 100), "float32"), training=True))
        >>> sorted({float(v) for v in y.ravel()})
        [0.0, 2.0]
        >>> bool(abs(y.mean() - 1) < 0.02)
        True

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), JMLR 15, section 4; the scaling in training instead of at
        inference is their section 10. Gal and Ghahramani (2016), arXiv:1506.02142.
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Any = None,
        seed: int | None = None,
        monte_carlo: bool = False,
        stream: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**base_arguments(kwargs))
        self._rate = _checked_rate(rate)
        # NumPy's as Python's own, which Keras takes and JSON keeps.
        self.seed = int(seed) if isinstance(seed, np.integer) else seed
        self.noise_shape = _checked_noise_shape(noise_shape)
        self.monte_carlo = flag("monte_carlo", monte_carlo)
        self.stream = None if stream is None else integer("stream", stream, 0)
        self.seed_generator = seed_generator(self.seed)
        self._rate_state = _RateState(self._rate)
        self.supports_masking = True
        # Nothing to build, unless a subclass builds something.
        self.built = type(self).build is keras.layers.Layer.build

    @property
    def rate(self) -> float:
        """Share of the inputs set to zero. An assignment acts in a running training; see the class."""
        now = self._rate_state.read()
        # Float32 in the step; what it was made from where it was not replaced.
        return self._rate if now is None or np.float32(self._rate) == np.float32(now) else now

    @rate.setter
    def rate(self, rate: float) -> None:
        self._rate = _checked_rate(rate)
        self._rate_state.assign(self._rate)

    @property
    def variables(self) -> list[Any]:
        """All state: that of the seed and, except on PyTorch, the rate. Neither is among `weights`."""
        rate = self._rate_state.variable
        return super().variables + ([] if rate is None else [rate])

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; the first time in a functional model, find its `stream`."""
        if self.stream is None and self.seed is not None:
            source = keras_private.source_of(inputs)
            if source is not None:
                numbers = _seeded.setdefault(source, {})
                self.stream = numbers.get(self.seed, 0)
                numbers[self.seed] = self.stream + 1
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return `inputs` with a share of `rate` set to zero and the rest scaled, or as they are."""
        wanted = self._noise_shape_for(inputs.shape)
        if not (training or self.monte_carlo):
            return inputs
        shape = ops.shape(inputs)
        if wanted is not None:
            shape = tuple(size if w is None else w for w, size in zip(wanted, shape, strict=True))
        seed = self.seed_generator.next()
        variable = self._rate_state.variable
        if variable is None:
            if self._rate in (0, 1):
                return ops.zeros_like(inputs) if self._rate else inputs
            # A program of several models has a tensor for the rate of each.
            numbers = (self._rate, 1 / (1 - self._rate))
            rate, scale = (n if type(n) is float else ops.convert_to_tensor(n, "float32") for n in numbers)
            return self._dropped(inputs, shape, seed, rate, scale)
        current = ops.convert_to_tensor(variable)
        if self._rate > 0:
            return self._dropped(inputs, shape, seed, current[0], current[1])
        # Traced with a rate of 0, which may be raised later.
        return ops.cond(current[0] > 0, lambda: self._dropped(inputs, shape, seed, current[0], current[1]), lambda: inputs)

    def rematerialized_call(self, layer_call: Any, *args: Any, **kwargs: Any) -> Any:
        """Return `layer_call`: computed again under `keras.RematScope`, it would draw another mask, and the mask is all that it keeps."""
        return layer_call

    def _dropped(self, inputs: Any, shape: Any, seed: Any, rate: Any, scale: Any) -> Any:
        if self.stream:
            # Far from each other and from small seeds: 2^32 over the golden ratio.
            apart = np.array([self.stream * 2654435769 % 2**31, 0])
            seed = seed + ops.convert_to_tensor(apart, dtype=seed.dtype)
        keep = _dropout_mask.keep_mask(shape, rate, seed, _dropout_mask.needs_two_bytes(self._rate))
        return _backend.drop(inputs, keep, scale)

    def _noise_shape_for(self, shape: Any) -> Any:
        """Return `noise_shape` with one entry for each axis of an input of this shape, which it must fit; None if there is none."""
        if self.noise_shape is None:
            return None
        missing = len(shape) - len(self.noise_shape)
        if missing < 0:
            raise ValueError(
                f"`noise_shape` must have at most one entry for each of the input's {len(shape)} axes, got {self.noise_shape}. "
                "Use None where the mask takes the input's size, and 1 where it is shared."
            )
        wanted = (1,) * missing + self.noise_shape
        for axis, (size, known) in enumerate(zip(wanted, shape, strict=True)):
            if size not in (None, 1) and isinstance(known, int) and size != known:
                raise ValueError(
                    f"`noise_shape` must have 1, None or the input's size on each axis, got {self.noise_shape} for an input of shape "
                    f"{tuple(shape)}: {size} does not fit {known} on axis {axis}. Use None there, or 1 to share the mask."
                )
        return wanted

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `input_shape`, which `noise_shape` must fit."""
        self._noise_shape_for(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, `rate` as it is now."""
        return config_of(self, super().get_config())


def _checked_rate(rate: Any) -> Any:
    # Keras's wording up to the received value: a drop-in class raises what it raises.
    if not is_number(rate) or not 0 <= rate <= 1:
        raise ValueError(
            "Invalid value received for argument `rate`. Expected a float value between 0 and 1. "
            f"Received: rate={rate!r}. It is the share of the inputs to drop: .5 drops every second one."
        )
    return plain(rate)


def _checked_noise_shape(noise_shape: Any) -> tuple[int | None, ...] | None:
    """Return `noise_shape` as a tuple; Keras's wording where it refuses."""
    if noise_shape is None:
        return None
    where = "Invalid value received for argument `noise_shape`. "
    if isinstance(noise_shape, str):
        raise ValueError(f"{where}Expected a tuple or list of integers. Received: noise_shape={noise_shape}")
    try:
        shape = tuple(noise_shape)
    except TypeError:
        raise ValueError(f"{where}Expected an iterable of integers (e.g., a tuple or list). Received: noise_shape={noise_shape}") from None
    for i, size in enumerate(shape):
        if size is None:
            continue
        if not isinstance(size, numbers.Integral) or isinstance(size, bool):
            raise ValueError(
                f"{where}Expected all elements to be integers or None. "
                f"Received element at index {i}: {size!r} (type: {type(size).__name__})"
            )
        if size <= 0:
            raise ValueError(
                f"{where}Expected all dimensions to be positive integers or None. Received negative or zero value at index {i}: {size}"
            )
    return tuple(None if size is None else int(size) for size in shape)
