"""One wording for every bad argument: the argument, the rule, the value received.

Each check returns the value it was given, NumPy's numbers as Python's own: a constructor reads as assignments, and its config is JSON.

>>> momentum = in_range("momentum", 0.9, 0.0, 1.0)
>>> in_range("rate", 1.5, 0.0, 1.0, closed="left")
Traceback (most recent call last):
    ...
ValueError: `rate` must be a number in [0, 1), got 1.5.
"""

import math
import numbers
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

# Keras counts steps in 32 bits on JAX and PyTorch; half of that leaves room for twice as many.
MOST_STEPS = 2**30


def bad_argument(name: str, rule: str, value: Any, fix: str = "", error: type[Exception] = ValueError) -> Exception:
    """Build the error that says that argument `name` breaks `rule`; the caller raises it."""
    try:
        shown = repr(value)
    except Exception:  # a number of more digits than Python writes
        shown = f"a value of type {type(value).__name__}"
    if len(shown) > 80:
        shown = shown[:77] + "..."
    return error(f"`{name}` must be {rule}, got {shown}.{' ' + fix if fix else ''}")


def is_number(value: Any) -> bool:
    """True for a real number that a float can hold, and that is neither a bool nor NaN."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:
        return False


def is_integer(value: Any) -> bool:
    """True for an integer that is no bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def plain(value: Any) -> int | float:
    """Return a number that `is_number` let through as Python's own; an integer that JAX's 32 bits cannot hold as a float."""
    return int(value) if isinstance(value, numbers.Integral) and abs(int(value)) < 2**31 else float(value)


def items(value: Any) -> tuple[Any, ...] | None:
    """Return the items of a list, or of what is like one; None for text, a mapping and what has no items."""
    if isinstance(value, (str, bytes, Mapping)):
        return None
    try:
        return tuple(value)
    except TypeError:
        return None


def in_range(name: str, value: Any, low: float, high: float = math.inf, *, closed: str = "both", fix: str = "") -> Any:
    """Return `value` if it is a number between `low` and `high`; infinity is never inside.

    `closed` is `"both"`, `"left"`, `"right"` or `"neither"`: the ends that belong to the range. `fix` says what to do instead.
    """
    left = "[" if closed in ("both", "left") else "("
    right = "]" if closed in ("both", "right") and high != math.inf else ")"
    fits = is_number(value) and math.isfinite(value)
    if not (fits and (value > low or (value == low and left == "[")) and (value < high or (value == high and right == "]"))):
        if high == math.inf == -low:
            rule = "a finite number"
        elif high == math.inf:
            rule = f"a finite number {'of at least' if left == '[' else 'above'} {low:g}"
        else:
            rule = f"a number in {left}{low:g}, {high:g}{right}"
        raise bad_argument(name, rule, value, fix)
    return plain(value)


def in_float32(name: str, value: float) -> float:
    """Return a number if float32, as which weights and rates are kept, can hold it."""
    if abs(value) > float(np.finfo("float32").max):
        raise bad_argument(name, "a number that float32 can hold", value)
    return value


def integer(name: str, value: Any, low: int = 1, high: int | None = None, *, fix: str = "") -> Any:
    """Return `value` if it is an integer of at least `low`, and of at most `high`."""
    if not is_integer(value) or value < low:
        raise bad_argument(name, f"a whole number of at least {low}", value, fix)
    if high is not None and int(value) > high:
        raise bad_argument(name, f"a whole number of at most {high}", value, fix)
    return int(value)


def integers(name: str, values: Any) -> tuple[int, ...]:
    """Return a sequence of one positive integer or several as a tuple."""
    found = items(values)
    if not found or not all(is_integer(v) and v >= 1 for v in found):
        raise bad_argument(name, "a sequence of positive whole numbers", values)
    return tuple(int(v) for v in found)


def one_of(name: str, value: Any, allowed: Iterable[Any], *, fix: str = "") -> Any:
    """Return `value` if it is one of `allowed`."""
    allowed = list(allowed)
    if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
        raise bad_argument(name, "one of " + ", ".join(repr(a) for a in allowed), value, fix)
    return value


def flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise bad_argument(name, "True or False", value)
    return bool(value)


def keep(record: Any, **checked: Any) -> None:
    """Set fields of a frozen `record` to what their checks returned."""
    vars(record).update(checked)


def a_path(name: str, value: Any) -> Path:
    """Return `value` as a path if it can be one."""
    if not isinstance(value, str | PathLike) or not str(value).strip() or "\0" in str(value):
        raise bad_argument(name, "the path of a file or folder", value)
    return Path(value)


class BadInput(ValueError):
    """The user's input cannot be used; the message is one line that names the fix. The command line prints it without a traceback."""
