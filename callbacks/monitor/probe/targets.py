"""A training before its first step: the losses, the range of the targets, and what a constant prediction would cost."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext._backend import keras_private

CHOICES = ("categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy")
_SPARSE = "sparse_categorical_crossentropy"
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
# Fewer samples say nothing of their order.
_LEAST_NEIGHBOURS = 32
# Losses of numbers that are 0 at best, and whose best constant has no formula.
_LEAST_ZERO = ("huber", "log_cosh", "logcosh", "mean_squared_logarithmic_error", "mean_absolute_percentage_error")
DISTANCES = ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "logcosh")


@dataclass(frozen=True)
class Aim:
    """The aim of one output: the loss's name, whether it takes logits, and range and root mean square of the targets.

    `baseline` is the loss of the best prediction that does not depend on the input: the entropy of the classes, the variance of numbers,
    or their mean distance from the median. NaN where it is not known. `deviation` is the standard deviation of the targets over the
    samples, `units` their last axis, or 0 where another one has the classes. `are_whole` is whether they are whole numbers, and `most_sum`
    the largest sum over the last axis.
    Classes that the loss ignores do not count. `finds_logits` is whether the loss goes back to what came before a softmax or a sigmoid, as
    Keras does on TensorFlow, whatever `from_logits` is. `in_runs` is how much oftener than by chance a sample has the class of the one
    before: 0 where samples are shuffled, 1 where they are sorted; NaN where targets are no classes. `weight` is that of its loss among
    the losses of all outputs. `is_one_class` is whether a loss of one number by sample, which is a class, gets the same for all.
    `is_own` is whether the loss is not Keras's.
    """

    loss: str
    from_logits: bool
    low: float
    high: float
    rms: float
    baseline: float = math.nan
    deviation: float = math.nan
    units: int = 0
    are_whole: bool = True
    most_sum: float = math.nan
    finds_logits: bool = False
    in_runs: float = math.nan
    weight: float = 1.0
    is_one_class: bool = False
    is_own: bool = False


def aims(model: Any, y: Any, sample_weight: Any = None) -> tuple[Aim | None, ...]:
    """Return the aim of each output in the order of the model's outputs, None for one that is not known. Weights hide the baseline."""
    y, sample_weight = (in_order_of_outputs(model, given) for given in (y, sample_weight))
    targets = [np.asarray(a) for a in tree.flatten(y) if a is not None]
    losses = losses_of(model, len(targets))
    if len(losses) != len(targets):
        return (None,) * len(targets)
    weights = [np.asarray(w) for w in tree.flatten(sample_weight) if w is not None]
    if len(weights) == len(targets):
        targets = [_weighted(target, w) for target, w in zip(targets, weights, strict=True)]
    found = [_aim(loss, target) for loss, target in zip(losses, targets, strict=True)]
    if weights:
        found = [aim and replace(aim, baseline=math.nan) for aim in found]
    return tuple(aim and replace(aim, weight=w) for aim, w in zip(found, _loss_weights(model, len(found)), strict=True))


def losses_of(model: Any, count: int) -> list[Any]:
    """Return the loss of each of `count` outputs, in their order: one that is given for all is that of each."""
    given = in_order_of_outputs(model, getattr(model, "loss", None))
    return tree.flatten(given) if isinstance(given, list | tuple | dict) else [given] * count


def in_order_of_outputs(model: Any, given: Any) -> Any:
    """Return a dict by the names of a model's outputs as a list in their order, and anything else as it is."""
    names = getattr(model, "output_names", None)
    return [given[name] for name in names] if isinstance(given, dict) and names and set(names) == set(given) else given


def _loss_weights(model: Any, count: int) -> list[float]:
    """Return the weight of each loss in their sum; NaN where it is not known."""
    given = keras_private.compile_arguments(model).get("loss_weights") if getattr(model, "compiled", False) else None
    if given is None:
        return [1.0] * count
    given = in_order_of_outputs(model, given)
    weights = tree.flatten(given)
    return [float(w) for w in weights] if len(weights) == count and None not in weights else [math.nan] * count


def _weighted(target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the targets whose weight is not 0, where there is one for each."""
    fits = weights.shape == target.shape[: weights.ndim]
    return target[weights != 0] if fits and (weights != 0).any() else target


def _aim(loss: Any, target: np.ndarray) -> Aim | None:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if loss is None or target.dtype.kind not in "biuf" or not target.size:
        return None
    name, config = getattr(loss, "__name__", ""), {}
    if isinstance(loss, keras.losses.Loss):
        name, config = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(loss).__name__).lower(), loss.get_config()
        # In the config of one loss alone.
        config = {"axis": -1, **config, **{k: v for each in keras_private.arguments_of_loss(loss) for k, v in each.items() if k == "axis"}}
    values = target.astype("float64")
    if config.get("ignore_class") is not None and (values != config["ignore_class"]).any():
        values = values[values != config["ignore_class"]]
    is_plain = not config.get("label_smoothing") and config.get("ignore_class") is None and config.get("reduction") != "sum"
    # Of targets that are all the same a constant prediction costs nothing, and is no measure.
    constant = (_of_a_constant(name, values, loss) or math.nan) if is_plain else math.nan
    rms = float(np.sqrt(np.mean(values**2)))
    units = target.shape[-1] if target.ndim > 1 else 1
    deviation = float(np.sqrt(values.var(axis=0).mean()))
    if config.get("axis", -1) != -1:
        units = 0
    numbers: Any = {
        "are_whole": bool((values == np.round(values))[np.isfinite(values)].all()),
        "most_sum": float(values.sum(axis=-1).max()),
    }
    from_logits = bool(config.get("from_logits", False))
    numbers["finds_logits"] = keras.backend.backend() == "tensorflow"
    numbers["is_own"] = is_own(loss)
    is_class = target.ndim == 1 or (target.ndim == 2 and target.shape[1] == 1)
    numbers["is_one_class"] = name in (_SPARSE, *BINARY) and is_class and len(target) >= _LEAST_NEIGHBOURS and values.min() == values.max()
    numbers["in_runs"] = _in_runs(values) if name in (*CHOICES, *BINARY) else math.nan
    return Aim(name, from_logits, float(values.min()), float(values.max()), rms, constant, deviation, units, **numbers)


def is_own(loss: Any) -> bool:
    """Return True for a loss that is not one of Keras's own."""
    if isinstance(loss, keras.losses.Loss):
        loss = type(loss)
    return callable(loss) and getattr(loss, "__module__", "").split(".")[0] != "keras"


def _in_runs(values: np.ndarray) -> float:
    """Return how much oftener than by chance neighbours are of one class; NaN where there are not two classes of some samples."""
    if values.ndim > 1 and values.shape[-1] > 1:
        values = values.argmax(axis=-1)
    classes = values.reshape(len(values), -1)
    if classes.shape[1] != 1 or len(classes) < _LEAST_NEIGHBOURS:
        return math.nan
    shares = np.unique(classes, return_counts=True)[1] / len(classes)
    by_chance = float((shares**2).sum())
    alike = float((classes[1:] == classes[:-1]).mean())
    return math.nan if len(shares) < 2 or len(shares) > len(classes) / 4 else (alike - by_chance) / (1 - by_chance)


def baseline(aims: Sequence[Aim | None]) -> float:
    """Return the loss of the best prediction that does not depend on the input, all outputs together; NaN where one's is not known."""
    return math.fsum(math.nan if aim is None else aim.weight * aim.baseline for aim in aims) if aims else math.nan


def _of_a_constant(loss: str, target: np.ndarray, function: Any) -> float:
    if loss == _SPARSE:
        return _entropy(np.unique(target, return_counts=True)[1] / target.size)
    flat = target.reshape(-1, target.shape[-1] if target.ndim > 1 else 1)
    mean = flat.mean(axis=0)
    if loss == "categorical_crossentropy" and mean.min() >= 0 and mean.sum() > 0:
        return _entropy(mean / mean.sum())
    if loss == "binary_crossentropy" and flat.min() >= 0 and flat.max() <= 1:
        return float(np.mean([_entropy(np.array([p, 1 - p])) for p in mean]))
    if loss == "mean_squared_error":
        return float(flat.var(axis=0).mean())
    if loss == "mean_absolute_error":
        return float(np.abs(flat - np.median(flat, axis=0)).mean())
    if function is not None and loss in _LEAST_ZERO:
        # The best of some constants is at most a little above the best of all.
        tried = (np.broadcast_to(c, flat.shape) for c in (*np.quantile(flat, (0.0, 0.1, 0.25, 0.5, 0.75, 0.9), axis=0), mean, 0.0 * mean))
        return min(float(np.mean(ops.convert_to_numpy(function(flat.astype("float32"), c.astype("float32"))))) for c in tried)
    return math.nan


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
