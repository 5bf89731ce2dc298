"""Checks of arguments that Keras reads: an error names the argument."""

from collections.abc import Callable
from typing import Any

import keras

from keras_ext._checks import bad_argument


def keras_object(name: str, get: Callable[[Any], Any], value: Any, rule: str) -> Any:
    """Return what Keras's `get` makes of `value`: a function, or None."""
    try:
        found = get(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        found = value
    if found is not None and not callable(found):
        raise bad_argument(name, rule, value)
    return found


def regularizer(name: str, value: Any) -> Any:
    """Return the regularizer that `value` means, or None."""
    return keras_object(name, keras.regularizers.get, value, "a regularizer, its name, or None")


def base_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `keras.layers.Layer` if Keras can read those whose refusal would not name them."""
    if kwargs.get("dtype") is not None:
        try:
            policy = keras.dtype_policies.get(kwargs["dtype"])
        except (ValueError, TypeError, KeyError, AttributeError):
            policy = None
        if not isinstance(policy, keras.DTypePolicy):
            fix = 'Such as "float32" or "mixed_bfloat16".'
            raise bad_argument("dtype", "a dtype, a name of a policy, or a keras.DTypePolicy", kwargs["dtype"], fix)
    regularizer("activity_regularizer", kwargs.get("activity_regularizer"))
    return kwargs


def seed_generator(seed: Any) -> keras.random.SeedGenerator:
    """Return a generator for `seed`, refused where the backend's cannot hold it."""
    if seed is None:
        return keras.random.SeedGenerator()
    try:
        return keras.random.SeedGenerator(seed)
    except (ValueError, TypeError, OverflowError, RuntimeError):
        fix = "Every backend holds those from 0 to 2,147,483,647."
        raise bad_argument("seed", "None, or a whole number that the backend's generators hold", seed, fix) from None
