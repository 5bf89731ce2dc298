"""Which weights an argument is about.

An entry is a regular expression that is searched for in the weight's path, such as `encoder/dense_2/kernel`; with `@` before it, in the
weight's own name, the last part of that. `=` and a path mean that weight alone. A file or a clone may shorten paths (`encoder/` is lost
where the encoder was a model of its own), so that `=` also finds a path that is the end of the other.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_ext._checks import bad_argument, in_range, items
from keras_ext._warnings import warn

_NORMS_AND_BIASES = ("bias", "gamma", "beta")


def path_of(variable: Any) -> str:
    """Return the path of a weight; a framework's own variable has a name alone."""
    return getattr(variable, "path", variable.name)


def is_norm_or_bias(variable: Any) -> bool:
    """Return whether a weight has fewer than two axes, or a name that ends in bias, gamma or beta."""
    return len(variable.shape) < 2 or path_of(variable).endswith(_NORMS_AND_BIASES)


def matches(path: str, entries: Iterable[str]) -> bool:
    """Return whether one of the entries is about the weight of that path.

    >>> matches("bias_net/kernel", ["@^bias"]), matches("net/bias", ["@^bias"]), matches("dense/bias", ["=net/dense/bias"])
    (False, True, True)
    """
    return any(_matches(path, entry) for entry in entries)


def _matches(path: str, entry: str) -> bool:
    if entry.startswith("="):
        return f"/{path}".endswith(f"/{entry[1:]}") or f"/{entry[1:]}".endswith(f"/{path}")
    if entry.startswith("@"):
        return re.search(entry[1:], path.rsplit("/", 1)[-1]) is not None
    return re.search(entry, path) is not None


def multiplier(path: str, multipliers: Mapping[str, float]) -> float:
    """Return the factor of the first entry that is about the weight of that path, or 1.

    >>> multiplier("encoder/dense/kernel", {"encoder/.*kernel": 0.1, "encoder": 0.5})
    0.1
    """
    return next((factor for entry, factor in multipliers.items() if _matches(path, entry)), 1.0)


def warn_of_idle(name: str, entries: Iterable[str], variables: Sequence[Any]) -> None:
    """Warn of an expression that is found in no path: it is likely to be misspelt."""
    entries, paths = list(entries), [path_of(v) for v in variables]
    if any(entry.startswith("=") for entry in entries):
        # Of a model that was saved: these hold what the expressions found then.
        return
    for entry in entries:
        if not any(_matches(path, entry) for path in paths):
            shown = ", ".join(paths[:4]) + (", ..." if len(paths) > 4 else "")
            warn(f"`{name}`: {entry!r} is found in no weight's path; there are {shown}.")


def checked_entries(name: str, entries: Any, rule: str = "a list of regular expressions", example: str = '["bias", "norm/"]') -> list[str]:
    """Return `entries` as a list if each is a regular expression."""
    if entries is None:
        return []
    found = items(entries)
    if found is None or not all(isinstance(p, str) for p in found):
        raise bad_argument(name, rule, entries, f"For instance {example}.", TypeError)
    for entry in found:
        if entry.startswith("="):
            continue
        try:
            re.compile(entry.removeprefix("@"))
        except re.error as error:
            raise bad_argument(name, f"{rule} ({error})", entry, f"For instance {example}.") from None
    return [str(entry) for entry in found]


def checked_multipliers(name: str, multipliers: Any) -> dict[str, float]:
    """Return `multipliers` as a dict if its keys are regular expressions and its values at least 0."""
    rule, example = "a dict of regular expressions and factors", '{"encoder/": 0.1}'
    if multipliers is None:
        return {}
    if not isinstance(multipliers, Mapping):
        raise bad_argument(name, rule, multipliers, f"For instance {example}.", TypeError)
    checked_entries(name, list(multipliers), rule, example)
    return {entry: in_range(f"{name}[{entry!r}]", factor, 0.0) for entry, factor in multipliers.items()}
