"""Batch normalization (Ioffe and Szegedy 2015) and batch renormalization (Ioffe 2017)."""

import numbers
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._checks import bad_argument, flag, in_range
from keras_ext.layers import _normalizing


class _Moments(NamedTuple):
    """Statistics of one batch, each of shape (channels,); `usable`: where they may enter the moving statistics."""

    mean: Any
    variance: Any
    usable: Any

    @classmethod
    def of(cls, mean: Any, variance: Any, also: Any = True) -> "_Moments":
        """Return moments that are usable where they are finite, and `also` holds."""
        finite = ops.logical_and(ops.isfinite(mean), ops.isfinite(variance))
        return cls(mean, variance, ops.logical_and(finite, also))


@keras.saving.register_keras_serializable(package="keras_ext")
class BatchNormalization(keras.layers.Layer):
    """Bring each channel to mean 0 and variance 1 over the batch, then to a learned mean and scale.

    In training `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the batch's own statistics, the variance being the biased
    one (divided by the number of values, as in Keras); at inference, and where `layer.trainable` is False, the moving statistics take
    their place. Drop-in for `keras.layers.BatchNormalization`: same arguments, defaults, weights and order of weights.

    Different from Keras's class:

    - A batch whose statistics of a channel are not finite, or all of whose values are masked, leaves that channel's moving statistics as
      they were. Its own output is as it comes.
    - The variance is never negative, and an offset does not swallow it: it is taken in one pass of the values less a shift inside the data,
      or, with a mask or `synchronized`, in two passes (Keras on PyTorch: `E[x^2] - E[x]^2` of the values themselves). The input is centred
      before it is scaled, for the same reason. The gradient is derived by hand.
    - Masks work with one channel and together with `synchronized`.
    - The statistics are float32 at least, under every dtype policy.

    Args:
        axis: the axis of the channels.
        momentum: share of the old moving statistics that each step keeps, in [0, 1].
        epsilon: added to the variance under the root, at least 0. Keras and this class 1e-3, the paper leaves it open.
        center: learn `beta`.
        scale: learn `gamma`.
        beta_initializer: first `beta`; `gamma_initializer`, `moving_mean_initializer` and `moving_variance_initializer` likewise.
        gamma_initializer: see `beta_initializer`.
        moving_mean_initializer: see `beta_initializer`.
        moving_variance_initializer: see `beta_initializer`.
        beta_regularizer: for `beta`; `gamma_regularizer` likewise.
        gamma_regularizer: see `beta_regularizer`.
        beta_constraint: for `beta`; `gamma_constraint` likewise.
        gamma_constraint: see `beta_constraint`.
        renorm: batch renormalization: correct the batch's statistics towards their moving values in training.
        renorm_clipping: limits `rmin`, `rmax`, `dmax` of that correction; a missing one does not limit.
        renorm_momentum: as `momentum`, for the statistics that the correction aims at.
        synchronized: TensorFlow only: take the statistics over all replicas of a distribution strategy.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Raises:
        ValueError: an argument is outside its range, `axis` is not an axis of the input, the mask's rank does not fit, or
            `synchronized=True` on JAX or PyTorch.

    Call arguments:
        inputs: shape (batch, ..., channels), or with the channels on `axis`.
        training: use and record the batch's statistics.
        mask: shape of the inputs without their last axis, or broadcastable to it; False leaves a position out of the statistics.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(5.0, 3.0, (256, 4)).astype("float32")
        >>> y = ops.convert_to_numpy(BatchNormalization()(x, training=True))
        >>> bool(abs(y.mean()) < 1e-5), bool(abs(y.std() - 1) < 1e-3)
        (True, True)

    References:
        Ioffe and Szegedy (2015), arXiv:1502.03167, algorithms 1 and 2. Ioffe (2017), arXiv:1702.03275, algorithm 1.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(axis, bool) or not isinstance(axis, numbers.Integral):
            raise bad_argument("axis", "a whole number", axis, "Keras's channels are on -1, or on 1 with channels_first.")
        if synchronized and keras.backend.backend() != "tensorflow":
            raise bad_argument("synchronized", "False on backends other than TensorFlow", synchronized)
        self.axis = int(axis)
        self.momentum = in_range("momentum", momentum, 0.0, 1.0)
        self.epsilon = in_range("epsilon", epsilon, 0.0)
        self.center = flag("center", center)
        self.scale = flag("scale", scale)
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.renorm = flag("renorm", renorm)
        self.renorm_clipping = _checked_clipping(renorm_clipping) if renorm else renorm_clipping
        self.renorm_momentum = in_range("renorm_momentum", renorm_momentum, 0.0, 1.0)
        self.synchronized = flag("synchronized", synchronized)
        self.supports_masking = True
        self.gamma = None
        self.beta = None
        self.moving_mean = None
        self.moving_variance = None
        self.moving_stddev = None
        self.renorm_mean = None
        self.renorm_stddev = None

    def build(self, input_shape: Any) -> None:
        """Create `gamma`, `beta` and the moving statistics, in Keras's order."""
        rank = len(input_shape)
        if not -rank <= self.axis < rank:
            raise bad_argument("axis", f"an axis of the input, which has {rank}", self.axis)
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(
                f"The size of axis {self.axis} must be known, got an input of shape {tuple(input_shape)}. "
                "Give keras.Input a shape with the number of channels."
            )
        shape = (channels,)
        if self.scale:
            self.gamma = self.add_weight(
                shape=shape,
                name="gamma",
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        if self.center:
            self.beta = self.add_weight(
                shape=shape,
                name="beta",
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )
        self.moving_mean = self._add_statistic("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self._add_statistic("moving_variance", shape, self.moving_variance_initializer)
        if self.renorm:
            self.moving_stddev = self._add_statistic("moving_stddev", shape, self._first_stddev)
            self.renorm_mean = self._add_statistic("renorm_mean", shape, self.moving_mean_initializer)
            self.renorm_stddev = self._add_statistic("renorm_stddev", shape, self._first_stddev)
        self.input_spec = keras.InputSpec(ndim=rank, axes={self.axis: channels})

    def _add_statistic(self, name: str, shape: tuple[int], initializer: Any) -> Any:
        dtype = keras.backend.result_type(self.variable_dtype, "float32")
        if isinstance(initializer, keras.initializers.Initializer):
            initializer = initializer.clone()  # a seeded initializer shared by two weights would draw on
        return self.add_weight(shape=shape, name=name, initializer=initializer, dtype=dtype, trainable=False, autocast=False)

    def _first_stddev(self, shape: Any, dtype: Any = None) -> Any:
        return ops.sqrt(self.moving_variance_initializer.clone()(shape, dtype=dtype))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised `inputs`, in the layer's compute dtype."""
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                "The mask provided should be one dimension less than the inputs. "
                f"Received: mask.shape={mask.shape}, inputs.shape={inputs.shape}"
            )
        # float16 overflows in a sum of squares; float64 stays float64.
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        x = ops.cast(inputs, dtype)
        gamma = None if self.gamma is None else ops.cast(self.gamma, dtype)
        beta = None if self.beta is None else ops.cast(self.beta, dtype)
        if training and self.trainable:
            y = self._normalized_by_batch(x, mask, gamma, beta)
        else:
            y = self._normalized(x, ops.cast(self.moving_mean, dtype), ops.cast(self.moving_variance, dtype), gamma, beta)
        return ops.cast(y, self.compute_dtype)

    def _normalized(self, x: Any, mean: Any, variance: Any, gamma: Any, beta: Any) -> Any:
        factor = ops.rsqrt(variance + self.epsilon)
        if gamma is not None:
            factor = factor * gamma
        y = (x - self._as_channels(mean, x)) * self._as_channels(factor, x)
        return y if beta is None else y + self._as_channels(beta, x)

    def _normalized_by_batch(self, x: Any, mask: Any, gamma: Any, beta: Any) -> Any:
        """Return `x` normalised by its own statistics, and record them."""
        plain = mask is None and not self.synchronized
        view = _normalizing.channel_view(ops.stop_gradient(x), self.axis) if plain else None
        batch = _Moments.of(*_normalizing.moments(view)) if plain else self._counted_moments(x, mask)
        if self.renorm:
            gamma, beta = self._renormalise(batch, gamma, beta)
            self._update_renorm_statistics(batch)
        else:
            self._update(self.moving_mean, batch.mean, self.momentum, batch.usable)
            self._update(self.moving_variance, batch.variance, self.momentum, batch.usable)
        if not plain:
            return self._normalized(x, batch.mean, batch.variance, gamma, beta)
        gamma = ops.ones_like(batch.mean) if gamma is None else gamma
        beta = ops.zeros_like(batch.mean) if beta is None else beta
        inverse = ops.rsqrt(batch.variance + self.epsilon)
        y = _normalizing.normalize(_normalizing.channel_view(x, self.axis), batch.mean, inverse, gamma, beta)
        return ops.reshape(y, ops.shape(x))

    def _as_channels(self, value: Any, x: Any) -> Any:
        """Reshape (channels,) so that it broadcasts against `x`."""
        shape = [1] * len(x.shape)
        shape[self.axis] = x.shape[self.axis]
        return ops.reshape(value, shape)

    def _counted_moments(self, x: Any, mask: Any) -> _Moments:
        """Return the moments of what the mask keeps, over all replicas if `synchronized`; in two passes."""
        axes = [i for i in range(len(x.shape)) if i != self.axis % len(x.shape)]
        total = _backend.sum_over_replicas if self.synchronized else lambda value: value
        if mask is None:
            count = total(ops.cast(ops.size(x) // x.shape[self.axis], x.dtype))
            keep = None
        else:
            keep = ops.broadcast_to(ops.cast(ops.expand_dims(mask, -1), "bool"), ops.shape(x))
            count = total(ops.sum(ops.cast(keep, x.dtype), axes))
        divisor = ops.maximum(count, 1.0)
        mean = total(ops.sum(x if keep is None else ops.where(keep, x, 0.0), axes)) / divisor
        deviation = x - self._as_channels(mean, x)
        if keep is not None:
            deviation = ops.where(keep, deviation, 0.0)
        variance = total(ops.sum(ops.square(deviation), axes)) / divisor
        return _Moments.of(mean, variance, count > 0)

    def _update(self, statistic: Any, value: Any, momentum: float, usable: Any) -> None:
        old = ops.convert_to_tensor(statistic)
        new = old * momentum + ops.cast(value, old.dtype) * (1.0 - momentum)
        statistic.assign(ops.where(usable, new, old))

    def _renormalise(self, batch: _Moments, gamma: Any, beta: Any) -> tuple[Any, Any]:
        """Return the scale and offset that hold the correction r and d of Ioffe (2017), algorithm 1."""
        dtype = batch.mean.dtype
        wanted_mean = ops.cast(self.renorm_mean, dtype)
        # The floor keeps the first steps from dividing by a stddev of 0.
        wanted_stddev = ops.maximum(ops.cast(self.renorm_stddev, dtype), self.epsilon**0.5)
        r = ops.sqrt(batch.variance + self.epsilon) / wanted_stddev
        d = (batch.mean - wanted_mean) / wanted_stddev
        limits = self.renorm_clipping or {}
        if limits.get("rmin") is not None:
            r = ops.maximum(r, limits["rmin"])
        if limits.get("rmax") is not None:
            r = ops.minimum(r, limits["rmax"])
        if limits.get("dmax") is not None:
            d = ops.clip(d, -limits["dmax"], limits["dmax"])
        r, d = ops.stop_gradient(r), ops.stop_gradient(d)
        if gamma is not None:
            r, d = r * gamma, d * gamma
        return r, d if beta is None else d + beta

    def _update_renorm_statistics(self, batch: _Moments) -> None:
        stddev = ops.sqrt(batch.variance + self.epsilon)
        self._update(self.renorm_mean, batch.mean, self.renorm_momentum, batch.usable)
        self._update(self.renorm_stddev, stddev, self.renorm_momentum, batch.usable)
        self._update(self.moving_mean, batch.mean, self.momentum, batch.usable)
        self._update(self.moving_stddev, stddev, self.momentum, batch.usable)
        # Inference needs the variance; rounding must not make it negative.
        moving_stddev = ops.convert_to_tensor(self.moving_stddev)
        derived = ops.maximum(ops.square(moving_stddev) - self.epsilon, 0.0)
        old = ops.convert_to_tensor(self.moving_variance)
        self.moving_variance.assign(ops.where(batch.usable, derived, old))  # type: ignore[union-attr]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": keras.initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": keras.initializers.serialize(self.moving_variance_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
            "renorm": self.renorm,
            "renorm_clipping": self.renorm_clipping,
            "renorm_momentum": self.renorm_momentum,
            "synchronized": self.synchronized,
        }


def _checked_clipping(limits: dict[str, float] | None) -> dict[str, float]:
    """Return the limits of the renorm correction; Keras's wording where they are refused."""
    limits = dict(limits or {})
    names = ["rmax", "rmin", "dmax"]
    if set(limits) - set(names):
        raise ValueError(f"Received invalid keys for `renorm_clipping` argument: {limits}. Supported values: {names}.")
    rmax, rmin, dmax = (limits.get(name) for name in names)
    if rmax is not None and rmin is not None and rmax < rmin:
        raise ValueError(f"rmax should be greater than rmin in the `renorm_clipping` argument. Received: rmax={rmax}, rmin={rmin}.")
    if dmax is not None and dmax < 0:
        raise ValueError(f"dmax should be non-negative in the `renorm_clipping` argument. Received: dmax={dmax}.")
    return limits
