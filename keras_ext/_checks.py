"""One wording for every bad argument: the argument, the rule, the value received.

Each check returns the value it was given, so that a constructor reads as a list of assignments:

>>> momentum = in_range("momentum", 0.9, 0.0, 1.0)
>>> in_range("rate", 1.5, 0.0, 1.0, closed="left")
Traceback (most recent call last):
    ...
ValueError: `rate` must be a number in [0, 1), got 1.5.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any


def bad_argument(name: str, rule: str, value: Any, mend: str = "", error: type[Exception] = ValueError) -> Exception:
    """Build the error that says that argument `name` breaks `rule`; the caller raises it."""
    shown = repr(value)
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return error(f"`{name}` must be {rule}, got {shown}.{' ' + mend if mend else ''}")


def is_number(value: Any) -> bool:
    """True for a real number that is neither a bool nor NaN."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


def in_range(name: str, value: Any, low: float, high: float = math.inf, *, closed: str = "both", mend: str = "") -> Any:
    """Return `value` if it is a number between `low` and `high`.

    Args:
        name: the argument's name, as the caller knows it.
        value: what was received.
        low: lower end.
        high: upper end; infinity itself is never inside.
        closed: `"both"`, `"left"`, `"right"` or `"neither"`: the ends that belong to the range.
        mend: one more sentence: what to do instead.
    """
    left = "[" if closed in ("both", "left") else "("
    right = "]" if closed in ("both", "right") and high != math.inf else ")"
    fits = is_number(value) and math.isfinite(value)
    fits = fits and (value > low or (value == low and left == "["))
    fits = fits and (value < high or (value == high and right == "]"))
    if not fits:
        if high == math.inf:
            rule = f"a finite number {'of at least' if left == '[' else 'above'} {low:g}"
        else:
            rule = f"a number in {left}{low:g}, {high:g}{right}"
        raise bad_argument(name, rule, value, mend)
    return value


def whole(name: str, value: Any, low: int = 1, *, mend: str = "") -> Any:
    """Return `value` if it is a whole number of at least `low`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise bad_argument(name, f"a whole number of at least {low}", value, mend)
    return value


def wholes(name: str, values: Any) -> tuple[int, ...]:
    """Return a sequence of one positive whole number or several as a tuple."""
    is_sequence = isinstance(values, list | tuple) and len(values) > 0
    if not is_sequence or any(not isinstance(v, numbers.Integral) or isinstance(v, bool) or v < 1 for v in values):
        raise bad_argument(name, "a sequence of positive whole numbers", values)
    return tuple(values)


def one_of(name: str, value: Any, allowed: Iterable[Any], *, mend: str = "") -> Any:
    """Return `value` if it is one of `allowed`."""
    allowed = list(allowed)
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        raise bad_argument(name, "one of " + ", ".join(repr(a) for a in allowed), value, mend)
    return value


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise bad_argument(name, "True or False", value)
    return value


class BadInput(ValueError):
    """What the user gave cannot be used; the message is one line that names the mend. The command line prints it without a traceback."""
