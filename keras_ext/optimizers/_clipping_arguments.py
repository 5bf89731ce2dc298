"""The optimizer and the rule that `GradientClipping` is given."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import bad_argument, one_of
from keras_ext.optimizers.clipping_rules import RULES, ClippingRule

# Keras's argument and the rule that does the same.
_RULE_OF = {"clipnorm": "norm", "clipvalue": "value", "global_clipnorm": "global_norm"}


def checked_rule(rule: Any, threshold: float | None) -> ClippingRule:
    """Return the rule that a name and a threshold mean, or that is one."""
    if isinstance(rule, str):
        one_of("rule", rule, RULES)
        return RULES[rule](threshold)
    is_rule = callable(getattr(rule, "clip", None)) and callable(getattr(rule, "first_state", None)) and hasattr(rule, "get_config")
    if isinstance(rule, type) or not is_rule:
        names = ", ".join(repr(name) for name in RULES)
        fix = "See keras_ext.optimizers.clipping_rules."
        if isinstance(rule, type):
            fix = f"Give {rule.__name__}()."
        elif isinstance(rule, int | float):
            fix = f"For a bound write threshold={rule!r}."
        raise bad_argument("rule", f"{names} or a ClippingRule", rule, fix, TypeError)
    if threshold is not None:
        raise bad_argument("threshold", "None with a rule that has its own", threshold)
    return rule


def optimizer_of(given: Any) -> Any:
    """Return the optimizer of a name; what is no name as it is."""
    if not isinstance(given, str):
        return given
    try:
        return keras.optimizers.get(given)
    except ValueError:
        raise bad_argument("optimizer", "a Keras optimizer, or the name of one", given, 'Such as "adam".') from None


def check_inner(inner: Any, wrapper: type) -> None:
    """Refuse what is no optimizer, or one that clips or scales its loss itself; `wrapper` is the class that clips."""

    def refused(rule: str, value: Any, fix: str, error: type[Exception] = ValueError) -> Exception:
        return bad_argument("optimizer", rule, value, fix, error)

    outside = "Write LossScaleOptimizer(GradientClipping(inner))"
    if not isinstance(inner, keras.optimizers.Optimizer):
        raise refused("a Keras optimizer", inner, "Give for instance keras_ext.optimizers.Adam().", TypeError)
    if isinstance(inner, keras.optimizers.LossScaleOptimizer):
        raise refused("an optimizer that does not scale its loss", inner.name, f"{outside}: gradients are clipped after they are unscaled.")
    if isinstance(inner, wrapper):
        fix = "Gradients would be clipped twice. Write a ClippingRule that does both."
        raise refused("an optimizer that does not clip", inner.name, fix)
    parts: Sequence[Any] = getattr(inner, "optimizers", [])
    for part in parts:
        if part.gradient_accumulation_steps:
            rule = "a MultiOptimizer whose parts have gradient_accumulation_steps=None"
            fix = "The parts that they accumulate would be clipped one by one, which does not bound their mean. Use a larger batch."
            raise refused(rule, part.gradient_accumulation_steps, fix)
    for part in [inner, *parts]:
        if part.loss_scale_factor is not None:
            rule = "an optimizer with loss_scale_factor=None"
            raise refused(rule, part.loss_scale_factor, f"Scaled gradients would be clipped. {outside}.")
        for argument, name in _RULE_OF.items():
            if getattr(part, argument) is not None:
                fix = f'Gradients would be clipped twice. Write rule="{name}" and the threshold here.'
                raise refused(f"an optimizer with {argument}=None", getattr(part, argument), fix)
