"""An optimizer of the same settings, without state."""

from typing import Any

import keras

from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument


def clone(optimizer: Any, learning_rate: Any = None) -> Any:
    """Return a new optimizer, not built, with the settings of `optimizer` and of the wrappers around it; with another rate, if given."""
    if hasattr(optimizer, "inner_optimizer"):
        return rewrapped(optimizer, clone(optimizer.inner_optimizer, learning_rate))
    config = optimizer.get_config()
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


def rewrapped(wrapper: Any, inner: Any) -> Any:
    """Return a new wrapper with the settings of `wrapper` around another optimizer."""
    config = wrapper.get_config()
    key = "inner_optimizer" if "inner_optimizer" in config else "optimizer"
    # A stand-in: a config knows no functions that give a rate, and no excluded weights.
    new = type(wrapper).from_config({**config, key: keras.saving.serialize_keras_object(keras.optimizers.SGD())})
    new.inner_optimizer = inner
    return new


def innermost(optimizer: Any) -> Any:
    """Return the optimizer that takes the step, without the wrappers around it."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
