"""Which weights an argument is about: patterns are searched for in the weights' paths, such as `encoder/dense_2/kernel`."""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_ext._checks import bad_argument, in_range

_NORMS_AND_BIASES = ("bias", "gamma", "beta")


def path_of(variable: Any) -> str:
    """Return the path of a weight; a framework's own variable has a name alone."""
    return getattr(variable, "path", variable.name)


def is_norm_or_bias(variable: Any) -> bool:
    """Return whether a weight has fewer than two axes, or a name that ends in bias, gamma or beta."""
    return len(variable.shape) < 2 or path_of(variable).endswith(_NORMS_AND_BIASES)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns is found in `path`."""
    return any(re.search(pattern, path) for pattern in patterns)


def multiplier(path: str, multipliers: Mapping[str, float]) -> float:
    """Return the factor of the first pattern that is found in `path`, or 1.

    >>> multiplier("encoder/dense/kernel", {"encoder/.*kernel": 0.1, "encoder": 0.5})
    0.1
    """
    return next((factor for pattern, factor in multipliers.items() if re.search(pattern, path)), 1.0)


def warn_of_idle(name: str, patterns: Iterable[str], variables: Sequence[Any]) -> None:
    """Warn of a pattern that is found in no path: it is likely to be misspelt."""
    paths = [path_of(v) for v in variables]
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            shown = ", ".join(paths[:4]) + (", ..." if len(paths) > 4 else "")
            warnings.warn(f"`{name}`: {pattern!r} is found in no weight's path; there are {shown}.", stacklevel=4)


def checked_patterns(name: str, patterns: Any) -> list[str]:
    """Return `patterns` as a list if each is a regular expression."""
    if patterns is None:
        return []
    if isinstance(patterns, str) or not all(isinstance(p, str) for p in patterns):
        raise bad_argument(name, "a list of regular expressions", patterns, 'For instance ["bias", "norm/"].', TypeError)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise bad_argument(name, f"a list of regular expressions ({error})", pattern) from None
    return list(patterns)


def checked_multipliers(name: str, multipliers: Any) -> dict[str, float]:
    """Return `multipliers` as a dict if its keys are regular expressions and its values at least 0."""
    if multipliers is None:
        return {}
    if not isinstance(multipliers, Mapping):
        raise bad_argument(name, "a dict of regular expressions and factors", multipliers, 'For instance {"encoder/": 0.1}.', TypeError)
    checked_patterns(name, list(multipliers))
    return {pattern: in_range(f"{name}[{pattern!r}]", factor, 0.0) for pattern, factor in multipliers.items()}


def pattern_of_name(pattern: str) -> str:
    """Return the pattern of paths whose last part, the variable's own name, has `pattern` in it.

    >>> bool(re.search(pattern_of_name("^bias"), "bias_net/kernel")), bool(re.search(pattern_of_name("^bias"), "net/bias"))
    (False, True)
    """
    start, rest = (r"(?:^|/)", pattern[1:]) if pattern.startswith("^") else ("", pattern)
    return f"{start}(?:{rest})[^/]*$"
