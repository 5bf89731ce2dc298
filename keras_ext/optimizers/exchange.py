"""Optimizers from optimizers: ours from Keras's and back, with what they have learned, and clones without it."""

from typing import Any

import keras
from keras import ops

from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument
from keras_ext.optimizers._base import ExactOptimizer
from keras_ext.optimizers.adagrad import Adagrad
from keras_ext.optimizers.adam import Adam
from keras_ext.optimizers.gradient_clipping import GradientClipping
from keras_ext.optimizers.rmsprop import RMSprop
from keras_ext.optimizers.sgd import SGD

# AdamW is Adam with a default for weight_decay.
_OURS: dict[str, type] = {"SGD": SGD, "Adagrad": Adagrad, "RMSprop": RMSprop, "Adam": Adam, "AdamW": Adam}
_KERAS: dict[type, type] = {ours: getattr(keras.optimizers, ours.__name__) for ours in (SGD, Adagrad, RMSprop, Adam)}


def from_keras(optimizer: Any) -> Any:
    """Return our optimizer that goes on where one of Keras's is: same arguments, slots, iterations, rate and exclusions.

    A new optimizer on the same weights; the old one stays as it is. `LossScaleOptimizer` and `GradientClipping` are gone through.

    Args:
        optimizer: SGD, Adagrad, RMSprop, Adam or AdamW of Keras, built or not, or one of ours, which is returned as it is. `clipnorm=0`
            and the like, which do nothing in Keras, are left out.

    Raises:
        TypeError: there is no optimizer of ours for it.

    Examples:
        >>> keras_adam, w = keras.optimizers.Adam(0.1), keras.Variable([1.0])
        >>> keras_adam.apply([ops.convert_to_tensor([4.0])], [w])
        >>> ours = from_keras(keras_adam)
        >>> type(ours).__module__, int(ours.iterations), len(ours.variables)
        ('keras_ext.optimizers.adam', 1, 4)
    """
    if isinstance(optimizer, ExactOptimizer):
        return optimizer
    if type(optimizer) in (keras.optimizers.LossScaleOptimizer, GradientClipping):
        return _around(optimizer, from_keras)
    # By name, as Keras's are of other classes on PyTorch; a user's subclass may do what ours does not.
    cls = type(optimizer)
    if cls.__module__.split(".")[0] != "keras" or cls.__name__ not in _OURS:
        raise _not_one("SGD, Adagrad, RMSprop, Adam or AdamW of Keras", optimizer, "There is no other of ours; keep Keras's.")
    config = {**optimizer.get_config(), **keras_private.rate_function(optimizer)}
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        if config.get(name) is not None and not config[name] > 0:
            config[name] = None
    variables, names = keras_private.excluded_from_weight_decay(optimizer)
    # Keras searches a variable's own name; on TensorFlow that has the path in it.
    config["exclude_from_weight_decay"] = names if keras.backend.backend() == "tensorflow" else [f"@{name}" for name in names]
    new = _OURS[cls.__name__].from_config(config)
    if variables:
        new.exclude_from_weight_decay(var_list=variables)
    return _with_state(new, optimizer)


def to_keras(optimizer: Any) -> Any:
    """Return Keras's optimizer that goes on where one of ours is; undoes `from_keras`.

    Args:
        optimizer: SGD, Adagrad, RMSprop or Adam of ours, built or not, or one of Keras's, which is returned as it is. `LossScaleOptimizer`
            and `GradientClipping` are gone through.

    Raises:
        ValueError: it does what Keras's cannot: `lazy`, `master_weights`, `learning_rate_multipliers`, `dampening`, `epsilon_root`,
            `epsilon_outside` or `bias_correction=False`.
        TypeError: `optimizer` is no optimizer.

    Examples:
        >>> isinstance(to_keras(SGD(0.1, momentum=0.9)), keras.optimizers.SGD)
        True
    """
    if type(optimizer) in (keras.optimizers.LossScaleOptimizer, GradientClipping):
        return _around(optimizer, to_keras)
    if type(optimizer) not in _KERAS:
        if isinstance(optimizer, keras.optimizers.Optimizer) and not isinstance(optimizer, ExactOptimizer):
            return optimizer
        raise _not_one("SGD, Adagrad, RMSprop or Adam of keras_ext", optimizer, "There is none of Keras for it; keep it.")
    config = optimizer.get_config()
    excluded = config.pop("exclude_from_weight_decay")
    norms_and_biases = config.pop("exclude_norms_and_biases")
    theirs = _KERAS[type(optimizer)]
    off = type(optimizer)().get_config()
    known = set(theirs().get_config())
    used = ", ".join(f"{name}={value!r}" for name, value in config.items() if name not in known and value != off[name])
    if used:
        raise bad_argument("optimizer", "one that does what Keras's can", used, "Keep ours for it.")
    config |= keras_private.rate_function(optimizer)
    new = theirs.from_config({name: value for name, value in config.items() if name in known})
    if optimizer.weight_decay is not None and (excluded or norms_and_biases):
        if not optimizer.built:
            raise ValueError("Weights are excluded from weight decay by their path, which Keras's cannot. Build the optimizer first.")
        new.exclude_from_weight_decay(var_list=optimizer.without_weight_decay())
    return _with_state(new, optimizer)


def _not_one(rule: str, optimizer: Any, fix: str) -> Exception:
    if isinstance(optimizer, str | type):
        return bad_argument("optimizer", rule, optimizer, "Give an optimizer, such as Adam().", TypeError)
    return TypeError(f"`optimizer` must be {rule}, got {type(optimizer).__name__}. {fix}")


def _with_state(new: Any, old: Any) -> Any:
    """Build `new` on the weights of `old` and give it the values of its variables."""
    if old.built:
        new.build(keras_private.trainable_variables(old))
    for mine, theirs in zip(new.variables, old.variables, strict=True):
        # Through NumPy: on JAX two variables would hold one buffer, which the first step gives away.
        mine.assign(ops.convert_to_numpy(theirs))
    return new


def _around(wrapper: Any, convert: Any) -> Any:
    """Return a wrapper like `wrapper` around what `convert` makes of the optimizer in it."""
    return _with_state(rewrapped(wrapper, convert(wrapper.inner_optimizer)), wrapper)


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
