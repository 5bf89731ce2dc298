"""Orthogonal weights (Saxe et al. 2014)."""

import math
import random
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ext._checks import bad_argument, is_number


@keras.saving.register_keras_serializable(package="keras_ext")
class Orthogonal(keras.initializers.Initializer):
    """Draw `gain` times a matrix with orthonormal rows or columns, uniformly over all such matrices.

    A weight of more than two axes is read as the matrix `(product of all axes but the last, last axis)`. Tall matrices get orthonormal
    columns, wide ones orthonormal rows. Drop-in for `keras.initializers.Orthogonal`; the factorisation is float32 under every dtype (Keras
    asks for one in bfloat16, which no backend has) and cast last.

    Args:
        gain: factor of the matrix, any finite number.
        seed: int, `keras.random.SeedGenerator` or None. With an int or None each call gives the same numbers, as in Keras.

    Raises:
        ValueError: `gain` or `seed` is of another kind, or the shape has fewer than two axes.

    Example:
        >>> import numpy as np
        >>> q = ops.convert_to_numpy(Orthogonal(seed=1)((6, 4)))
        >>> bool(np.allclose(q.T @ q, np.eye(4), atol=1e-6))
        True

    References:
        Saxe, McClelland and Ganguli (2014), arXiv:1312.6120. Mezzadri (2007), How to generate random matrices from the classical compact
        groups, section 5: why the signs of R's diagonal must go into Q.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        if not is_number(gain) or not math.isfinite(gain):
            raise bad_argument("gain", "a finite number", gain)
        self._config_seed = seed
        if seed is None:
            seed = random.randint(1, 10**9)  # Python's generator: keras.utils.set_random_seed sets it
        elif isinstance(seed, dict):
            seed = keras.saving.deserialize_keras_object(seed)
        elif isinstance(seed, bool) or not isinstance(seed, int | keras.random.SeedGenerator):
            raise bad_argument("seed", "an int, a keras.random.SeedGenerator or None", seed)
        self.gain = gain
        self.seed = seed

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return a tensor of this shape and dtype (default: `keras.config.floatx()`)."""
        if len(shape) < 2:
            raise ValueError(
                f"The tensor to initialize must be at least two-dimensional. Received: shape={tuple(shape)} of rank {len(shape)}."
            )
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        wide = "float64" if dtype == "float64" else "float32"
        q, r = ops.qr(keras.random.normal(tall, dtype=wide, seed=self.seed))
        q = q * ops.cast(ops.where(ops.diagonal(r) < 0, -1.0, 1.0), wide)
        if rows < columns:
            q = ops.transpose(q)
        return ops.cast(self.gain * ops.reshape(q, shape), dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"gain": self.gain, "seed": keras.saving.serialize_keras_object(self._config_seed)}
