"""Rules that bound gradients, for `GradientClipping`.

Norms are taken in float32 at least, whatever the gradients' dtype (a float16 sum of squares overflows at a norm of 256); the gradients are
the sum over all replicas, with the rows of one id summed, and a sparse gradient stays sparse.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ext import _backend
from keras_ext._checks import MOST_STEPS, in_float32, in_range, integer
from keras_ext._config import config_of
from keras_ext.optimizers import _per_weight


class Clipped(NamedTuple):
    """The result of a rule: the gradients, whether one of them was changed, and the rule's next state."""

    gradients: list[Any]
    changed: Any
    state: dict[str, Any]


class ClippingRule:
    """A rule for `GradientClipping(optimizer, rule=...)`; subclass it for one of your own.

    `clip` is compiled with the training step and must be pure: what it wants to know of earlier steps it returns as its state. Steps whose
    gradients are not finite do not reach it. Register a subclass with `keras.saving.register_keras_serializable` if models are saved.

    Args:
        threshold: what it bounds; None for the default.

    Examples:
        >>> class HalfTheNorm(ClippingRule):
        ...     default = 0.5
        ...
        ...     def clip(self, gradients, variables, norm, state):
        ...         return Clipped([g * self.threshold for g in gradients], norm > 0, {})
        >>> from keras_ext.optimizers import GradientClipping
        >>> w = keras.Variable([0.0])
        >>> GradientClipping(keras.optimizers.SGD(1.0), HalfTheNorm()).apply([ops.convert_to_tensor([3.0])], [w])
        >>> float(w.numpy()[0])
        -1.5
    """

    default = 1.0
    # The threshold lies above 0 and up to here.
    largest = float("inf")

    def __init__(self, threshold: float | None = None) -> None:
        value = self.default if threshold is None else threshold
        closed = "neither" if self.largest == float("inf") else "right"
        self.threshold = float(in_float32("threshold", in_range("threshold", value, 0.0, self.largest, closed=closed)))

    def first_state(self) -> dict[str, Any]:
        """Return the state before the first step: names and arrays."""
        return {}

    def clip(self, gradients: list[Any], variables: list[Any], norm: Any, state: dict[str, Any]) -> Clipped:
        """Return the clipped gradients; `norm` is their joint norm, finite, and `variables` are the weights, in their order."""
        factor, changed = _factor(norm, self.threshold)
        return Clipped([_scaled(g, factor) for g in gradients], changed, state)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return config_of(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ClippingRule":
        """Build it from what `get_config` returned."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_ext")
class ClipByGlobalNorm(ClippingRule):
    """Scale all gradients by one factor so that their joint L2 norm is at most `threshold`; the direction stays.

    Args:
        threshold: the largest norm that passes, above 0, in units of the gradient. 1 by default, common for recurrent networks.

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, algorithm 1.
    """


@keras.saving.register_keras_serializable(package="keras_ext")
class ClipByNorm(ClippingRule):
    """Scale each weight's gradient by itself so that its L2 norm is at most `threshold`.

    Args:
        threshold: the largest norm that passes, above 0, in units of the gradient. 1 by default.

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, algorithm 1, one weight at a time.
    """

    def clip(self, gradients: list[Any], variables: list[Any], norm: Any, state: dict[str, Any]) -> Clipped:
        """Return the clipped gradients."""
        factors, changed = zip(*(_factor(each, self.threshold) for each in _backend.norms(gradients)), strict=True)
        return Clipped([_scaled(g, f) for g, f in zip(gradients, factors, strict=True)], ops.any(ops.stack(changed)), state)


@keras.saving.register_keras_serializable(package="keras_ext")
class ClipByValue(ClippingRule):
    """Bring every number of the gradients into [-threshold, threshold]; the direction changes.

    Args:
        threshold: the largest number that passes, above 0, in units of the gradient. 1 by default.

    References:
        Mikolov (2012), Statistical language models based on neural networks, section 3.2.2.
    """

    def clip(self, gradients: list[Any], variables: list[Any], norm: Any, state: dict[str, Any]) -> Clipped:
        """Return the clipped gradients."""
        values = [_backend.sparse_values(g) for g in gradients]
        changed = ops.any(ops.stack([ops.cast(size, "float32") for size in _backend.largest(gradients)]) > self.threshold)
        clipped = [ops.clip(v, -self.threshold, self.threshold) for v in values]
        return Clipped([_backend.with_sparse_values(g, v) for g, v in zip(gradients, clipped, strict=True)], changed, state)


@keras.saving.register_keras_serializable(package="keras_ext")
class AdaptiveClipping(ClippingRule):
    """Scale the gradient of each unit so that its norm is at most `threshold` times the norm of the unit's weights (AGC).

    A unit is what shares the last axis: an output of a dense layer, a filter of a convolution; a row in an embedding; the whole of a weight
    with one axis.

    Args:
        threshold: the largest ratio that passes, above 0, without unit. The paper's lambda; .01 by default, its value for batches of 4096.
        epsilon: norms of weights count as at least this, so that a unit of zeros can move.
        exclude: regular expressions; weights whose path has one in it pass as they are. The paper excludes the output layer.

    References:
        Brock, De, Smith and Simonyan (2021), High-performance large-scale image recognition without normalization, arXiv:2102.06171,
        equation 3.
    """

    default = 0.01

    def __init__(self, threshold: float | None = None, epsilon: float = 1e-3, exclude: Sequence[str] | None = None) -> None:
        super().__init__(threshold)
        self.epsilon = in_range("epsilon", epsilon, 0.0, closed="neither")
        self.exclude = _per_weight.checked_entries("exclude", exclude)

    def clip(self, gradients: list[Any], variables: list[Any], norm: Any, state: dict[str, Any]) -> Clipped:
        """Return the clipped gradients."""
        clipped, changed = zip(*(self._clip_one(g, v) for g, v in zip(gradients, variables, strict=True)), strict=True)
        return Clipped(list(clipped), ops.any(ops.stack(changed)), state)

    def _clip_one(self, gradient: Any, variable: Any) -> tuple[Any, Any]:
        path = _per_weight.path_of(variable)
        if _per_weight.matches(path, self.exclude):
            return gradient, ops.convert_to_tensor(False)
        ids, values = _backend.row_ids(gradient), _backend.sparse_values(gradient)
        weights = variable if ids is None else _backend.take_rows(variable, ids)
        axes: Any = None
        if len(values.shape) > 1:
            by_row = ids is not None or path.endswith("embeddings")
            axes = tuple(range(1, len(values.shape)) if by_row else range(len(values.shape) - 1))
        largest = self.threshold * ops.maximum(_unit_norms(weights, axes), self.epsilon)
        size = _unit_norms(values, axes)
        factor, above = _factor(size, largest)
        return _scaled(gradient, factor), ops.any(above)


# Some megabytes, sorted at each step.
_MOST_NORMS = 1_000_000


@keras.saving.register_keras_serializable(package="keras_ext")
class PercentileClipping(ClippingRule):
    """Clip the joint norm to a percentile of the norms so far, this step's included (AutoClip).

    Args:
        threshold: the percentile, above 0 and up to 100. 10 by default, the paper's choice: nine steps of ten are clipped.
        history: how many of the last norms are kept, up to 1,000,000; the paper keeps all.

    References:
        Seetharaman, Wichern, Pardo and Le Roux (2020), AutoClip: adaptive gradient clipping for source separation networks,
        arXiv:2007.14469, algorithm 1.
    """

    default = 10.0
    largest = 100.0

    def __init__(self, threshold: float | None = None, history: int = 1000) -> None:
        super().__init__(threshold)
        self.history = integer("history", history, 2, _MOST_NORMS)

    def first_state(self) -> dict[str, Any]:
        """Return no norms."""
        return {"norms": np.zeros(self.history, "float32"), "count": np.zeros((), "int32")}

    def clip(self, gradients: list[Any], variables: list[Any], norm: Any, state: dict[str, Any]) -> Clipped:
        """Return the clipped gradients."""
        places = ops.arange(self.history, dtype="int32")
        kept = ops.where(places == state["count"] % self.history, norm, state["norms"])
        count = state["count"] + 1
        known = ops.minimum(count, self.history)
        rising = ops.sort(ops.where(places < known, kept, np.inf))
        # As NumPy does it by default: linear between the two nearest.
        place = ops.cast(known - 1, "float32") * (self.threshold / 100)
        below = ops.cast(ops.floor(place), "int32")
        low, high = ops.take(rising, below), ops.take(rising, ops.minimum(below + 1, known - 1))
        factor, changed = _factor(norm, low + (high - low) * (place - ops.floor(place)))
        return Clipped([_scaled(g, factor) for g in gradients], changed, {"norms": kept, "count": count})


@keras.saving.register_keras_serializable(package="keras_ext")
class ZScoreClipping(ClippingRule):
    """Clip norms that lie more than `threshold` standard deviations above their moving mean (ZClip); others pass.

    A norm with z-score z above the threshold is brought to `mean + threshold^2 / z * deviation`: the further out, the nearer to the mean.
    Mean and variance move with the norm after clipping, so that a spike does not raise them.

    Args:
        threshold: the z-score, above 0. 2.5 by default, the paper's.
        decay: share of mean and variance that each step keeps, in (0, 1).
        warmup: steps that pass as they are, and give the first mean and variance.

    References:
        Kumar, Owen, Chowdhury and Güra (2025), ZClip: adaptive spike mitigation for LLM pre-training, arXiv:2504.02507, section 3.
    """

    default = 2.5

    def __init__(self, threshold: float | None = None, decay: float = 0.97, warmup: int = 25) -> None:
        super().__init__(threshold)
        self.decay = in_range("decay", decay, 0.0, 1.0, closed="neither")
        self.warmup = integer("warmup", warmup, 2, MOST_STEPS)

    def first_state(self) -> dict[str, Any]:
        """Return no mean and no variance."""
        return {"count": np.zeros((), "int32"), "mean": np.zeros((), "float32"), "variance": np.zeros((), "float32")}

    def clip(self, gradients: list[Any], variables: list[Any], norm: Any, state: dict[str, Any]) -> Clipped:
        """Return the clipped gradients."""
        count, mean, variance = ops.cast(state["count"], norm.dtype), state["mean"], state["variance"]
        warm = state["count"] >= self.warmup
        deviation = ops.sqrt(variance)
        z = (norm - mean) / (deviation + 1e-6)
        changed = ops.logical_and(warm, z > self.threshold)
        size = ops.where(changed, mean + self.threshold / ops.where(changed, z, 1.0) * self.threshold * deviation, norm)
        factor = ops.where(changed, size / ops.where(changed, norm, 1.0), 1.0)
        # The plain mean and variance of the warm-up, one norm after the other (Welford 1962).
        early_mean = mean + (norm - mean) / (count + 1)
        early = (count * variance + (norm - mean) * (norm - early_mean)) / (count + 1)
        late_mean = self.decay * mean + (1 - self.decay) * size
        late = self.decay * variance + (1 - self.decay) * ops.square(size - late_mean)
        after = {
            "count": ops.minimum(state["count"] + 1, self.warmup),
            "mean": ops.where(warm, late_mean, early_mean),
            "variance": ops.where(warm, late, early),
        }
        return Clipped([_scaled(g, factor) for g in gradients], changed, after)


RULES: dict[str, Callable[..., ClippingRule]] = {
    "global_norm": ClipByGlobalNorm,
    "norm": ClipByNorm,
    "value": ClipByValue,
    "adaptive": AdaptiveClipping,
    "percentile": PercentileClipping,
    "zscore": ZScoreClipping,
}


def over_replicas(gradients: Sequence[Any]) -> list[Any]:
    """Return the gradients summed over the replicas, and the rows of one id summed."""
    # In this order: the replicas' sum puts the rows of each side by side.
    return [_backend.sum_repeated_rows(g) for g in _backend.sum_over_replicas(list(gradients))]


def share_of_replica(gradients: Sequence[Any]) -> list[Any]:
    """Return what each replica gives to a sum over all of them that is `gradients`."""
    replicas = _backend.replica_count()
    return list(gradients) if replicas == 1 else [_backend.with_sparse_values(g, _backend.sparse_values(g) / replicas) for g in gradients]


def _unit_norms(values: Any, axes: Any) -> Any:
    wide = ops.cast(values, keras.backend.result_type(keras.backend.standardize_dtype(values.dtype), "float32"))
    return ops.sqrt(ops.sum(ops.square(wide), axis=axes, keepdims=axes is not None))


def _factor(norm: Any, threshold: Any) -> tuple[Any, Any]:
    """Return by what to scale, and whether it changes anything."""
    # Exactly 1 within the threshold: a rounded quotient would change the gradient in its last bit. A norm that is NaN scales nothing.
    above = norm > threshold
    return ops.where(above, threshold / norm, 1.0), above


def _scaled(gradient: Any, factor: Any) -> Any:
    values = _backend.sparse_values(gradient)
    # In the norm's dtype: a factor under 6e-8 is 0 in float16.
    scaled = ops.cast(ops.cast(values, factor.dtype) * factor, keras.backend.standardize_dtype(values.dtype))
    return _backend.with_sparse_values(gradient, scaled)
