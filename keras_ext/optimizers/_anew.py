"""An optimizer of the same settings, without state."""

from typing import Any

import keras

from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument


def anew(optimizer: Any, learning_rate: Any = None) -> Any:
    """Return a new optimizer, not built, with the settings of `optimizer` and of the wrappers around it; with another rate, if given."""
    config = optimizer.get_config()
    inner = next((name for name in ("inner_optimizer", "optimizer") if name in config), None)
    if inner is not None:
        # A stand-in: a config knows no functions that give a rate, and no excluded weights.
        new = type(optimizer).from_config({**config, inner: keras.saving.serialize_keras_object(keras.optimizers.SGD())})
        new.inner_optimizer = anew(optimizer.inner_optimizer, learning_rate)
        return new
    if "learning_rate" not in config:
        raise bad_argument("optimizer", "one whose config has a `learning_rate`", type(optimizer).__name__, error=TypeError)
    rate = keras_private.rate_function(optimizer) if learning_rate is None else {"learning_rate": learning_rate}
    new = type(optimizer).from_config({**config, **rate})
    variables, names = keras_private.excluded_from_weight_decay(optimizer)
    if hasattr(optimizer, "without_weight_decay"):
        variables, names = optimizer.without_weight_decay() if optimizer.built and optimizer.weight_decay else [], []
    if variables or names:
        new.exclude_from_weight_decay(var_list=variables, var_names=names)
    return new


def innermost(optimizer: Any) -> Any:
    """Return the optimizer that takes the step, without the wrappers around it."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
