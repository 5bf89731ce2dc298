"""The arguments that every optimizer has, checked before Keras takes them."""

import numbers
from typing import Any

from keras_ext._checks import MOST_STEPS, bad_argument, flag, in_float32, in_range, integer


def checked(learning_rate: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the arguments of Keras's class, numbers as Python's own, if each is in its range; Keras checks some of them, some late."""
    if isinstance(learning_rate, numbers.Real):
        learning_rate = float(in_float32("learning_rate", in_range("learning_rate", learning_rate, 0.0)))
    elif isinstance(learning_rate, type):
        rule = "a number, a LearningRateSchedule or a function without arguments"
        raise bad_argument("learning_rate", rule, learning_rate, f"Give {learning_rate.__name__}(...).")
    checked = dict(given)
    if given.get("weight_decay") is not None:
        checked["weight_decay"] = in_float32("weight_decay", in_range("weight_decay", given["weight_decay"], 0.0))
    for name in ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"):
        if given.get(name) is not None:
            checked[name] = in_float32(name, in_range(name, given[name], 0.0, closed="neither", fix="None switches it off."))
    for name, low in (("gradient_accumulation_steps", 2), ("ema_overwrite_frequency", 0)):
        if given.get(name) is not None:
            checked[name] = integer(name, given[name], low, MOST_STEPS)
    if "use_ema" in given:
        checked["use_ema"] = flag("use_ema", given["use_ema"])
    if "ema_momentum" in given:
        checked["ema_momentum"] = in_range("ema_momentum", given["ema_momentum"], 0.0, 1.0)
    return learning_rate, checked
