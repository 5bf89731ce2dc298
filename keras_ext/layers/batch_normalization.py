"""Batch normalization (Ioffe and Szegedy 2015), batch renormalization (Ioffe 2017), ghost batches (Hoffer et al. 2017)."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._checks import bad_argument, flag, in_range, integer
from keras_ext._config import config_of
from keras_ext.layers import _channels, _moving_average, _normalizing
from keras_ext.layers._arguments import base_arguments, keras_object, regularizer

_AN_INITIALIZER = "an initializer, its name, or a function of shape and dtype"
# The count of `debias` in a file.
_COUNT = "debias_seen"


class _Moments(NamedTuple):
    """Statistics of a batch, each of shape (channels,).

    usable: where they may enter the moving statistics.
    steps: how many batches they stand for.
    """

    mean: Any
    variance: Any
    usable: Any
    steps: Any = 1

    @classmethod
    def of(cls, mean: Any, variance: Any, also: Any = True) -> "_Moments":
        """Return moments that are usable where they are finite, and `also` holds."""
        finite = ops.logical_and(ops.isfinite(mean), ops.isfinite(variance))
        return cls(mean, variance, ops.logical_and(finite, also))


def _float32_at_least(dtype: Any) -> str:
    # keras.backend.result_type makes float32 of float64 and float32.
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def _row(weight: Any, dtype: str) -> Any:
    """Return a weight as (channels,)."""
    value = ops.cast(weight, dtype)
    return value if len(value.shape) == 1 else ops.reshape(value, (-1,))


@keras.saving.register_keras_serializable(package="keras_ext")
class BatchNormalization(keras.layers.Layer):
    """Bring each channel to mean 0 and variance 1 over the batch, then to a learned mean and scale.

    In training `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the batch's own statistics, the variance being the biased
    one (divided by the number of values, as in Keras); at inference, and where `layer.trainable` is False, the moving statistics take
    their place. Drop-in for `keras.layers.BatchNormalization`: same arguments, defaults, weights and order of weights.

    Different from Keras's class:

    - A batch that is empty, whose statistics of a channel are not finite, or all of whose values are masked, leaves that channel's moving
      statistics as they were. Its own output is as it comes.
    - The variance is never negative, and an offset does not swallow it (Keras on PyTorch: `E[x^2] - E[x]^2`; on every backend the mean of
      50,000 values near 1e5 is off by half a unit). The gradient has gradients; on JAX a training call has no forward-mode derivative
      (`jax.jvp`).
    - Masks work with one channel and together with `synchronized`. `axis` may be several axes.
    - The statistics are float32 at least, under every dtype policy.

    Args:
        axis: the axis of the channels, or a tuple of axes: each of their positions has statistics of its own, and the weights have the
            shape of these axes in rising order.
        momentum: share of the old moving statistics that each step keeps, in [0, 1].
        epsilon: added to the variance under the root, at least 0. Keras and this class 1e-3, the paper leaves it open.
        center: learn `beta`.
        scale: learn `gamma`.
        beta_initializer: first `beta`.
        gamma_initializer: first `gamma`.
        moving_mean_initializer: first moving mean.
        moving_variance_initializer: first moving variance.
        beta_regularizer: for `beta`.
        gamma_regularizer: for `gamma`.
        beta_constraint: for `beta`.
        gamma_constraint: for `gamma`.
        renorm: batch renormalization: correct the batch's statistics towards their moving values in training.
        renorm_clipping: limits `rmin`, `rmax`, `dmax` of that correction; a missing one does not limit.
        renorm_momentum: as `momentum`, for the statistics that the correction aims at.
        synchronized: TensorFlow only: take the statistics over all replicas of a distribution strategy.
        virtual_batch_size: in training, normalise each run of this many samples by itself, at least 1 (ghost batches: the noise of small
            batches with the speed of large ones). A batch that is no multiple is cut into as many runs as fit into it, as even as can
            be. The moving statistics step once for each. Not with `renorm` or `synchronized`.
        debias: correct the moving statistics' first steps as Adam does, so that they are right from the first batch on, not after some
            `1 / (1 - momentum)`. The first batch replaces the initial values. Statistics that were loaded or assigned count as converged;
            files that a layer with `debias` wrote hold the count too, which Keras's layer refuses to load: it takes `get_weights()`.
        **kwargs: `name`, `dtype` and the rest of `keras.layers.Layer`.

    Raises:
        ValueError: an argument is outside its range, `axis` is not an axis of the input, the mask's rank does not fit,
            `synchronized=True` on JAX or PyTorch, `virtual_batch_size` with `renorm`, `synchronized` or channels on axis 0, or `debias`
            with a momentum of 1.

    Call arguments:
        inputs: shape (batch, ..., channels), or with the channels on `axis`.
        training: use and record the batch's statistics.
        mask: shape of the inputs without their last axis, or broadcastable to it; False leaves a position out of the statistics.

    Examples:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(5.0, 3.0, (256, 4)).astype("float32")
        >>> y = ops.convert_to_numpy(BatchNormalization()(x, training=True))
        >>> bool(abs(y.mean()) < 1e-5), bool(abs(y.std() - 1) < 1e-3)
        (True, True)

    References:
        Ioffe and Szegedy (2015), arXiv:1502.03167, algorithms 1 and 2. Ioffe (2017), arXiv:1702.03275, algorithm 1.
        Hoffer, Hubara and Soudry (2017), arXiv:1705.08741, algorithm 1.
    """

    def __init__(
        self,
        axis: int | tuple[int, ...] = -1,
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
        virtual_batch_size: int | None = None,
        debias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**base_arguments(kwargs))
        if "." in self.name and keras.backend.backend() == "torch":
            raise bad_argument("name", "text without a point on PyTorch, which names the weights by it", self.name)
        if flag("synchronized", synchronized) and keras.backend.backend() != "tensorflow":
            raise bad_argument("synchronized", "False on backends other than TensorFlow", synchronized)
        self.axis = _channels.checked_axis(axis)
        self.momentum = in_range("momentum", momentum, 0.0, 1.0)
        self.epsilon = in_range("epsilon", epsilon, 0.0)
        self.center = flag("center", center)
        self.scale = flag("scale", scale)
        self.beta_initializer = _initializer("beta_initializer", beta_initializer)
        self.gamma_initializer = _initializer("gamma_initializer", gamma_initializer)
        self.moving_mean_initializer = _initializer("moving_mean_initializer", moving_mean_initializer)
        if moving_variance_initializer is None:
            raise bad_argument("moving_variance_initializer", _AN_INITIALIZER, None, "Keras's own for None draws negative numbers too.")
        self.moving_variance_initializer = _initializer("moving_variance_initializer", moving_variance_initializer)
        self.beta_regularizer = regularizer("beta_regularizer", beta_regularizer)
        self.gamma_regularizer = regularizer("gamma_regularizer", gamma_regularizer)
        rule = "a constraint, its name, or None"
        self.beta_constraint = keras_object("beta_constraint", keras.constraints.get, beta_constraint, rule)
        self.gamma_constraint = keras_object("gamma_constraint", keras.constraints.get, gamma_constraint, rule)
        self.renorm = flag("renorm", renorm)
        self.renorm_clipping = _normalizing.checked_clipping(renorm_clipping, self.renorm)
        self.renorm_momentum = in_range("renorm_momentum", renorm_momentum, 0.0, 1.0)
        self.synchronized = flag("synchronized", synchronized)
        self.virtual_batch_size = None if virtual_batch_size is None else integer("virtual_batch_size", virtual_batch_size)
        self.debias = flag("debias", debias)
        if virtual_batch_size is not None and (self.renorm or self.synchronized):
            raise bad_argument("virtual_batch_size", "None with `renorm` or `synchronized`", virtual_batch_size)
        if self.debias and momentum == 1:
            raise bad_argument("momentum", "below 1 with `debias`", momentum, "At 1 the moving statistics never change.")
        self._debiasing = None
        self.supports_masking = True
        self.gamma = self.beta = None
        self.moving_mean = self.moving_variance = self.moving_stddev = None
        self.renorm_mean = self.renorm_stddev = None

    def build(self, input_shape: Any) -> None:
        """Create `gamma`, `beta` and the moving statistics, in Keras's order."""
        own = _channels.own_axes(self.axis, input_shape)
        if self.virtual_batch_size is not None and 0 in own:
            raise bad_argument("axis", "other than 0 with `virtual_batch_size`", self.axis, "Ghost batches are cut from axis 0.")
        shape = tuple(input_shape[axis] for axis in own)
        if self.scale:
            parts = {"initializer": self.gamma_initializer, "regularizer": self.gamma_regularizer, "constraint": self.gamma_constraint}
            self.gamma = self.add_weight(shape=shape, name="gamma", autocast=False, **parts)
        if self.center:
            parts = {"initializer": self.beta_initializer, "regularizer": self.beta_regularizer, "constraint": self.beta_constraint}
            self.beta = self.add_weight(shape=shape, name="beta", autocast=False, **parts)
        self.moving_mean = self._add_statistic("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self._add_statistic("moving_variance", shape, self.moving_variance_initializer)
        if self.renorm:
            self.moving_stddev = self._add_statistic("moving_stddev", shape, self._first_stddev)
            self.renorm_mean = self._add_statistic("renorm_mean", shape, self.moving_mean_initializer)
            self.renorm_stddev = self._add_statistic("renorm_stddev", shape, self._first_stddev)
        if self.debias:
            self._debiasing = _moving_average.Debiasing(self.moving_mean)
        self.input_spec = keras.InputSpec(ndim=len(input_shape), axes=dict(zip(own, shape, strict=True)))

    def _add_statistic(self, name: str, shape: tuple[int, ...], initializer: Any) -> Any:
        dtype = _float32_at_least(self.variable_dtype)
        return self.add_weight(shape=shape, name=name, initializer=_clone(initializer), dtype=dtype, trainable=False, autocast=False)

    def _first_stddev(self, shape: Any, dtype: Any = None) -> Any:
        return ops.sqrt(_clone(self.moving_variance_initializer)(shape, dtype=dtype))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised `inputs`, in the layer's compute dtype."""
        if mask is not None and len(mask.shape) != len(inputs.shape) - 1:
            raise ValueError(
                "The mask provided should be one dimension less than the inputs. "
                f"Received: mask.shape={mask.shape}, inputs.shape={inputs.shape}"
            )
        x, axis = _channels.on_one_axis(inputs, self.axis)
        # float16 overflows in a sum of squares; float64 stays float64.
        dtype = _float32_at_least(inputs.dtype)
        # An empty batch, as a replica's share of the last one may be, has no statistics.
        if training and self.trainable and 0 not in inputs.shape:
            keep = None
            if mask is not None:
                keep = ops.broadcast_to(ops.cast(ops.expand_dims(mask, -1), "bool"), ops.shape(inputs))
                keep, _ = _channels.on_one_axis(keep, self.axis)
            y = self._normalized_by_batch(x, axis, keep, dtype)
        else:
            scale, offset = (None if w is None else _row(w, dtype) for w in (self.gamma, self.beta))
            mean, variance = _row(self.moving_mean, dtype), _row(self.moving_variance, dtype)
            # With -1 Keras need not reshape.
            axis = -1 if axis == len(x.shape) - 1 else axis
            y = ops.batch_normalization(ops.cast(x, dtype), mean, variance, axis, offset, scale, self.epsilon)
        return ops.cast(_channels.as_it_came(y, inputs, self.axis), self.compute_dtype)

    def _normalized_by_batch(self, x: Any, axis: int, keep: Any, dtype: str) -> Any:
        """Return `x` normalised by its own statistics, and record them."""
        channels = (x.shape[axis],)
        scale = ops.ones(channels, dtype) if self.gamma is None else _row(self.gamma, dtype)
        offset = ops.zeros(channels, dtype) if self.beta is None else _row(self.beta, dtype)
        by_ghosts = self.virtual_batch_size is not None
        by_count = keep is not None or (self.synchronized and _backend.replica_count() > 1)
        if not (by_ghosts or by_count or self.renorm):
            y, *moments = _normalizing.normalize(x, scale, offset, axis, self.epsilon)
            self._record(_Moments.of(*moments))
            return y
        x = ops.cast(x, dtype)
        if by_ghosts:
            y, batch = self._by_ghosts(x, axis, keep)
        elif by_count:
            y, batch = self._by_count(x, axis, keep)
        else:
            y, *moments = _normalizing.normalize(x, ops.ones_like(scale), ops.zeros_like(offset), axis, self.epsilon)
            batch = _Moments.of(*moments)
        if self.renorm:
            wanted = _row(self.renorm_mean, dtype), _row(self.renorm_stddev, dtype)
            r, d = _normalizing.correction(batch.mean, batch.variance, *wanted, self.epsilon, self.renorm_clipping or {})
            scale, offset = r * scale, d * scale + offset
        self._record(batch)
        return y * _channels.along(scale, axis, len(x.shape)) + _channels.along(offset, axis, len(x.shape))

    def _by_count(self, x: Any, axis: int, keep: Any) -> tuple[Any, _Moments]:
        """Normalise by what the mask keeps, over all replicas if `synchronized`."""
        total = _backend.sum_over_replicas if self.synchronized else lambda value: value
        axes = [i for i in range(len(x.shape)) if i != axis]
        y, *moments = _normalizing.normalize_counted(x, keep, axes, self.epsilon, total)
        mean, variance, count = (ops.reshape(v, (-1,)) for v in moments)
        return y, _Moments.of(mean, variance, count > 0)

    def _by_ghosts(self, x: Any, axis: int, keep: Any) -> tuple[Any, _Moments]:
        """Normalise each ghost batch by itself (Hoffer, Hubara and Soudry 2017, algorithm 1)."""
        batch, rank = ops.shape(x)[0], len(x.shape)
        most = max if isinstance(batch, int) else ops.maximum
        full = most(1, batch // (self.virtual_batch_size or 1))
        # As even as can be; where it does not come out even, the last one is smaller, padded with what does not count.
        size = most(1, (batch + full - 1) // full)
        ghosts = (batch + size - 1) // size
        padding = [[0, ghosts * size - batch]] + [[0, 0]] * (rank - 1)

        def split(values: Any) -> Any:
            return ops.reshape(ops.pad(values, padding), (-1, size, *ops.shape(x)[1:]))

        keep = ops.ones_like(x, dtype="bool") if keep is None else keep
        axes = [i for i in range(1, rank + 1) if i != axis + 1]
        y, *moments = _normalizing.normalize_counted(split(x), split(keep), axes, self.epsilon, lambda value: value)
        mean, variance, count = (ops.reshape(v, (-1, x.shape[axis])) for v in moments)
        usable = _Moments.of(mean, variance, count > 0).usable
        (mean, variance), any_usable, steps = _moving_average.as_one_batch([mean, variance], usable, self.momentum)
        return ops.reshape(y, (-1, *ops.shape(x)[1:]))[:batch], _Moments(mean, variance, any_usable, steps)

    def _record(self, batch: _Moments) -> None:
        """Step the moving statistics."""

        def in_shape(value: Any) -> Any:
            return ops.reshape(value, self.moving_mean.shape) if isinstance(self.axis, tuple) else value  # type: ignore[union-attr]

        def step(statistic: Any, value: Any, momentum: Any) -> Any:
            new = _moving_average.step(ops.convert_to_tensor(statistic), value, momentum, usable)
            statistic.assign(new)
            return new

        mean, variance, usable = (in_shape(ops.stop_gradient(v)) for v in (batch.mean, batch.variance, batch.usable))
        momentum, steps, seen = self.momentum, batch.steps, None
        if not isinstance(steps, int):
            steps = in_shape(steps)
            momentum = ops.power(ops.cast(self.momentum, "float32"), steps)
        if self._debiasing is not None:
            momentum, seen = self._debiasing.momentum(self.momentum, steps), self._debiasing.count(steps, usable)
        if self.renorm:
            stddev = ops.sqrt(variance + self.epsilon)
            step(self.renorm_mean, mean, self.renorm_momentum)
            step(self.renorm_stddev, stddev, self.renorm_momentum)
            # Inference needs the variance; rounding must not make it negative.
            derived = ops.square(step(self.moving_stddev, stddev, momentum)) - self.epsilon
            step(self.moving_variance, ops.maximum(derived, 0.0), 0.0)
        else:
            step(self.moving_variance, variance, momentum)
        average = step(self.moving_mean, mean, momentum)
        if self._debiasing is not None:
            self._debiasing.record(seen, average)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return config_of(self, super().get_config())

    @property
    def variables(self) -> list[Any]:
        """All state: the weights, and what `debias` counts."""
        return super().variables + ([] if self._debiasing is None else self._debiasing.variables)

    def save_own_variables(self, store: Any) -> None:
        """Write the weights, and the count of `debias`."""
        super().save_own_variables(store)
        if self._debiasing is not None:
            store[_COUNT] = ops.convert_to_numpy(self._debiasing.seen)

    def load_own_variables(self, store: Any) -> None:
        """Read the weights, and the count of `debias` where there is one."""
        # A store of Keras's is no dict: it has keys, but iterates over nothing.
        stored = {key: store[key] for key in list(store.keys())}
        count = stored.pop(_COUNT, None)
        super().load_own_variables(stored)
        if self._debiasing is not None and count is not None:
            self._debiasing.record(count, ops.convert_to_tensor(self.moving_mean))


def _initializer(name: str, value: Any) -> Any:
    return keras_object(name, keras.initializers.get, value, _AN_INITIALIZER)


def _clone(initializer: Any) -> Any:
    """Return a copy: a seeded initializer that two weights share would draw on. A function has none."""
    return initializer.clone() if isinstance(initializer, keras.initializers.Initializer) else initializer
