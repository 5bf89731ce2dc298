"""Spatial dropout (Tompson et al. 2015): whole feature maps are dropped."""

from typing import Any

import keras

from keras_ext._checks import one_of
from keras_ext.layers.dropout import Dropout


class _SpatialDropout(Dropout):
    """Dropout whose mask is shared over the `_spatial` axes between the batch's and the channels'."""

    _spatial: int

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        data_format = keras.config.image_data_format() if data_format is None else data_format
        one_of("data_format", data_format, ("channels_last", "channels_first"))
        shared = (1,) * self._spatial
        shape = (None, *shared, None) if data_format == "channels_last" else (None, None, *shared)
        super().__init__(rate, noise_shape=shape, seed=seed, name=name, dtype=dtype, **kwargs)
        self.data_format = data_format
        self.input_spec = keras.InputSpec(ndim=self._spatial + 2)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = {**super().get_config(), "data_format": self.data_format}
        del config["noise_shape"]
        return config


@keras.saving.register_keras_serializable(package="keras_ext")
class SpatialDropout1D(_SpatialDropout):
    """Set each channel of a series to zero with probability `rate` in training and scale the rest.

    Drop-in for `keras.layers.SpatialDropout1D`, which forgets its dtype policy when it is saved.

    Args:
        rate: share of the channels set to zero, in [0, 1].
        seed: as in `Dropout`.
        **kwargs: `monte_carlo`, `stream`, `name`, `dtype` and the rest of `Dropout`.

    Call arguments:
        inputs: shape (batch, time, channels).
        training: drop (True) or pass through (False).

    Examples:
        >>> import numpy as np
        >>> y = np.asarray(keras.ops.convert_to_numpy(SpatialDropout1D(0.5, seed=1)(np.ones((2, 9, 8), "float32"), training=True)))
        >>> bool((y == y[:, :1]).all())
        True

    References:
        Tompson, Goroshin, Jain, LeCun and Bregler (2015), arXiv:1411.4280, section 3.2.
    """

    _spatial = 1

    def __init__(self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(rate, "channels_last", seed, name, dtype, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["data_format"]
        return config


@keras.saving.register_keras_serializable(package="keras_ext")
class SpatialDropout2D(_SpatialDropout):
    """Set each channel of an image to zero with probability `rate` in training and scale the rest.

    Drop-in for `keras.layers.SpatialDropout2D`, which forgets its dtype policy when it is saved.

    Args:
        rate: share of the channels set to zero, in [0, 1].
        data_format: "channels_last" or "channels_first"; None: Keras's `image_data_format`.
        seed: as in `Dropout`.
        **kwargs: `monte_carlo`, `stream`, `name`, `dtype` and the rest of `Dropout`.

    Call arguments:
        inputs: shape (batch, rows, columns, channels), or (batch, channels, rows, columns).
        training: drop (True) or pass through (False).

    Examples:
        >>> import numpy as np
        >>> y = np.asarray(keras.ops.convert_to_numpy(SpatialDropout2D(0.5, seed=1)(np.ones((2, 9, 9, 8), "float32"), training=True)))
        >>> bool((y == y[:, :1, :1]).all())
        True

    References:
        Tompson, Goroshin, Jain, LeCun and Bregler (2015), arXiv:1411.4280, section 3.2.
    """

    _spatial = 2


@keras.saving.register_keras_serializable(package="keras_ext")
class SpatialDropout3D(_SpatialDropout):
    """Set each channel of a volume to zero with probability `rate` in training and scale the rest.

    Drop-in for `keras.layers.SpatialDropout3D`, which forgets its dtype policy when it is saved.

    Args:
        rate: share of the channels set to zero, in [0, 1].
        data_format: "channels_last" or "channels_first"; None: Keras's `image_data_format`.
        seed: as in `Dropout`.
        **kwargs: `monte_carlo`, `stream`, `name`, `dtype` and the rest of `Dropout`.

    Call arguments:
        inputs: shape (batch, depth, rows, columns, channels), or (batch, channels, depth, rows, columns).
        training: drop (True) or pass through (False).

    Examples:
        >>> import numpy as np
        >>> y = np.asarray(keras.ops.convert_to_numpy(SpatialDropout3D(0.5, seed=1)(np.ones((2, 5, 5, 5, 8), "float32"), training=True)))
        >>> bool((y == y[:, :1, :1, :1]).all())
        True

    References:
        Tompson, Goroshin, Jain, LeCun and Bregler (2015), arXiv:1411.4280, section 3.2.
    """

    _spatial = 3
