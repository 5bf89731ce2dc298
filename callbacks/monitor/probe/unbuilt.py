"""Models that have no weights yet, or that do not fit their data."""

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument
from keras_ext._wording import one_line


def build(model: keras.Model, data: tuple[Any, Any, Any]) -> None:
    """Make the weights of a model that has none yet, by a symbolic call, which computes and changes nothing."""
    if keras_private.is_built(model):
        return
    try:
        model(tree.map_structure(lambda a: keras.Input(a.shape[1:], dtype=_dtype(a)), data[0]))
    except Exception as error:
        raise cannot("built", model, data, error) from error


def check_targets(model: keras.Model, data: tuple[Any, Any, Any]) -> None:
    """Refuse data without targets for a model that is compiled with a loss."""
    if _lacks_targets(model, data):
        raise bad_argument("y", "targets, as the model is compiled with a loss", None, "Give them as `fit` takes them.")


def _lacks_targets(model: keras.Model, data: tuple[Any, Any, Any]) -> bool:
    return getattr(model, "loss", None) is not None and all(a is None for a in tree.flatten(data[1]))


def _dtype(a: np.ndarray) -> str:
    return keras.config.floatx() if a.dtype.kind == "f" else "string" if a.dtype.kind in "US" else a.dtype.name


def cannot(what: str, model: keras.Model, data: tuple[Any, Any, Any], error: Exception) -> ValueError:
    """Return an error that reports what `model` was given, after `error`."""
    shapes = [
        f"`{name}` {', '.join(f'{a.dtype} {a.shape}' for a in tree.flatten(given) if a is not None)}"
        for name, given in zip(("x", "y", "sample_weight"), data, strict=True)
        if any(a is not None for a in tree.flatten(given))
    ]
    if _lacks_targets(model, data):
        return ValueError(f"`model` cannot be {what} without `y`: it is compiled with a loss. Give the targets as `fit` takes them.")
    inputs = getattr(model, "inputs", None)
    takes = f"; it takes {', '.join(str(tuple(i.shape)) for i in tree.flatten(inputs))}" if inputs else ""
    return ValueError(f"`model` cannot be {what} on this data: {', '.join(shapes)}{takes}. {one_line(error)}")
