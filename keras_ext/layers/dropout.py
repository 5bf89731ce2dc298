"""Dropout (Srivastava et al. 2014)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import is_number


@keras.saving.register_keras_serializable(package="keras_ext")
class Dropout(keras.layers.Layer):
    """Set each input to zero with probability `rate` in training and scale the rest, so that the mean is kept.

    The kept inputs are multiplied by `1 / (1 - rate)`; at inference the layer returns its input. Drop-in for `keras.layers.Dropout`.
    The mask is drawn and the scale applied in float32 whatever the layer's dtype: Keras draws it in the dtype of the input, and a bfloat16
    uniform number has too few values for a small rate (asked .001, dropped .0078) and rounds the scale.

    Args:
        rate: share of the inputs set to zero, in [0, 1].
        noise_shape: shape of the mask, which is broadcast to the input. `None` entries take the input's size:
            `(None, 1, None)` drops whole features of `(batch, time, features)`.
        seed: int, or None for a seed of the layer's own.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Raises:
        ValueError: `rate` is outside [0, 1], or `noise_shape` is not a sequence of positive integers and None, or is longer
            than the input's shape.

    Call arguments:
        inputs: tensor of any shape.
        training: drop (True) or pass through (False).

    Example:
        >>> import numpy as np
        >>> y = ops.convert_to_numpy(Dropout(0.5, seed=1)(np.ones((1000, 100), "float32"), training=True))
        >>> sorted({float(v) for v in y.ravel()})
        [0.0, 2.0]
        >>> bool(abs(y.mean() - 1) < 0.02)
        True

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), JMLR 15, section 4; the scaling in training instead of at
        inference is their section 10.
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Keras's wording up to the received value: a drop-in class raises what it raises.
        if not is_number(rate) or not 0 <= rate <= 1:
            raise ValueError(
                "Invalid value received for argument `rate`. Expected a float value between 0 and 1. "
                f"Received: rate={rate!r}. It is the share of the inputs to drop: .5 drops every second one."
            )
        self.rate = rate
        self.seed = seed
        self.noise_shape = _checked_noise_shape(noise_shape)
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        # Nothing to build, unless a subclass builds something.
        self.built = type(self).build is keras.layers.Layer.build

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return `inputs` with a share of `rate` set to zero and the rest scaled, or as they are."""
        if not training or self.rate == 0:
            return inputs
        if self.rate == 1:
            return ops.zeros_like(inputs)
        noise = keras.random.uniform(self._mask_shape(inputs), dtype="float32", seed=self.seed_generator)
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        return ops.cast(ops.where(noise >= self.rate, wide / (1.0 - self.rate), 0.0), inputs.dtype)

    def _mask_shape(self, inputs: Any) -> Any:
        shape = ops.shape(inputs)
        if self.noise_shape is None:
            return shape
        missing = len(shape) - len(self.noise_shape)
        if missing < 0:
            raise ValueError(
                f"`noise_shape` must have at most one entry for each of the input's {len(shape)} axes, got {self.noise_shape}. "
                "Use None where the mask takes the input's size, and 1 where it is shared."
            )
        wanted = (1,) * missing + self.noise_shape
        return tuple(size if w is None else w for w, size in zip(wanted, shape, strict=True))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "noise_shape": self.noise_shape, "seed": self.seed}


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
        if not isinstance(size, int) or isinstance(size, bool):
            raise ValueError(
                f"{where}Expected all elements to be integers or None. "
                f"Received element at index {i}: {size!r} (type: {type(size).__name__})"
            )
        if size <= 0:
            raise ValueError(
                f"{where}Expected all dimensions to be positive integers or None. Received negative or zero value at index {i}: {size}"
            )
    return shape
