"""What is known of a training before its first step: the losses, and the range of the targets."""

import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

CHOICES = ("categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy")
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
DISTANCES = ("mean_squared_error", "mean_absolute_error", "huber", "log_cosh", "logcosh")


@dataclass(frozen=True)
class Aim:
    """What one output is trained for: the loss's name, whether it takes logits, and range and root mean square of the targets."""

    loss: str
    from_logits: bool
    low: float
    high: float
    rms: float


def aims(model: Any, y: Any) -> tuple[Aim | None, ...]:
    """Return the aim of each output in the order of `keras.tree.flatten`, None for one that is not known.

    Args:
        model: a compiled model.
        y: targets, as arrays.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
        >>> aims(model, np.array([[0.0], [1.0]]))
        (Aim(loss='binary_crossentropy', from_logits=True, low=0.0, high=1.0, rms=0.7071067811865476),)
    """
    targets = [np.asarray(a) for a in tree.flatten(y) if a is not None]
    given = getattr(model, "loss", None)
    losses = tree.flatten(given) if isinstance(given, list | tuple | dict) else [given] * len(targets)
    if len(losses) != len(targets):
        return (None,) * len(targets)
    return tuple(_aim(loss, target) for loss, target in zip(losses, targets, strict=True))


def _aim(loss: Any, target: np.ndarray) -> Aim | None:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if loss is None or target.dtype.kind not in "biuf" or not target.size:
        return None
    if isinstance(loss, keras.losses.Loss):
        name, from_logits = _snake_case(type(loss).__name__), bool(loss.get_config().get("from_logits", False))
    else:
        name, from_logits = getattr(loss, "__name__", ""), False
    values = target.astype("float64")
    return Aim(name, from_logits, float(values.min()), float(values.max()), float(np.sqrt(np.mean(values**2))))


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
