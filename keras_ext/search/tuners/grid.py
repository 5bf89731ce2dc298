"""The grid of a space: its values, its size, and its points in an order in which every hyperparameter varies early."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras_tuner

from keras_ext._checks import bad_argument, is_number, items
from keras_ext.search.tuners import evolution

# Values of a number that has more than this many get three.
_FEW = 5
_PLACES = (0.25, 0.75)
# Points within which all is to vary, and strides that are tried for it.
_EARLY, _STRIDES = 12, 40


def coarse(hp: Any) -> list[Any]:
    """Return the values of a hyperparameter in a grid: all of a choice, and of a number of more than five its default and two others.

    The two lie at a quarter and at three quarters of the range, on the number's own scale.

    >>> kinds = keras_tuner.engine.hyperparameters
    >>> coarse(kinds.Int("layers", 1, 4)), coarse(kinds.Float("rate", 1e-4, 1.0, default=1e-2, sampling="log"))
    ([1, 2, 3, 4], [0.001, 0.01, 0.1])
    """
    if not evolution.is_range(hp):
        return list(dict.fromkeys(hp.values))
    values = evolution.few_values(hp)
    if 0 < len(values) <= _FEW:
        return values
    others = [hp.prob_to_value(place) for place in _PLACES]
    return sorted({hp.default, *(value if isinstance(value, int) else float(f"{value:.12g}") for value in others)})


class Grid:
    """The combinations of values of a space; what only some have, such as momentum with SGD, is combined with those alone.

    Point 0 has the default of each hyperparameter, or the first of its values where that is none of them. From there the points follow each
    other in equal strides that have no divisor in common with their number, and are near the golden ratio of it. So each point comes once,
    and after few of them each hyperparameter has had several of its values.

    Args:
        space: KerasTuner's hyperparameters.
        values: of hyperparameters by name.
        otherwise: function of a hyperparameter that returns its values where `values` does not.

    Raises:
        ValueError: a name is unknown, or a value is none of its hyperparameter's.

    Examples:
        >>> hp = keras_tuner.HyperParameters()
        >>> optimizer = hp.Choice("optimizer", ["adam", "sgd"])
        >>> with hp.conditional_scope("optimizer", ["sgd"]):
        ...     momentum = hp.Choice("momentum", [0.0, 0.9])
        >>> grid = Grid(hp.space)
        >>> grid.size, grid.point(1)
        (3, {'optimizer': 'sgd', 'momentum': 0.9})

    References:
        Niederreiter (1992), Random number generation and quasi-Monte Carlo methods, chapter 3, for the golden ratio.
    """

    def __init__(
        self,
        space: Sequence[Any],
        values: Mapping[str, Iterable[Any]] | None = None,
        otherwise: Callable[[Any], list[Any]] = coarse,
    ) -> None:
        self._space = _nested(space)
        given = checked_values(self._space, values or {})
        self._values = [given.get(hp.name) or otherwise(hp) for hp in self._space]
        # The names on which a hyperparameter from the i-th on depends.
        self._parents = [{c.name for hp in self._space[i:] for c in hp.conditions} for i in range(len(self._space))]
        self._counts: dict[Any, int] = {}
        self.size = self._count(0, {})
        self._first = self._rank_of_defaults()
        self._stride = self._chosen_stride()

    def values_of(self, name: str) -> list[Any]:
        """Return the values that a hyperparameter has in the grid."""
        return list(dict.fromkeys(v for hp, found in zip(self._space, self._values, strict=True) if hp.name == name for v in found))

    def point(self, number: int) -> dict[str, Any]:
        """Return the values of the combination that comes after so many others; after all of them the first comes again."""
        return self._at((self._first + number * self._stride) % self.size)

    def _at(self, rank: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for i, hp in enumerate(self._space):
            if not _is_active(hp, values):
                continue
            for value in self._values[i]:
                values[hp.name] = value
                behind = self._count(i + 1, values)
                if rank < behind:
                    break
                rank -= behind
        return values

    def _count(self, i: int, values: Mapping[str, Any]) -> int:
        """Return how many combinations the hyperparameters from the `i`-th on have behind these values of those before."""
        if i == len(self._space):
            return 1
        hp, known = self._space[i], {name: values[name] for name in sorted(self._parents[i]) if name in values}
        key = (i, *known.items())
        if key not in self._counts:
            if not _is_active(hp, known):
                found = self._count(i + 1, known)
            elif i + 1 == len(self._space) or hp.name not in self._parents[i + 1]:
                found = len(self._values[i]) * self._count(i + 1, known)
            else:
                found = sum(self._count(i + 1, {**known, hp.name: value}) for value in self._values[i])
            self._counts[key] = found
        return self._counts[key]

    def _rank_of_defaults(self) -> int:
        rank, values = 0, {}
        for i, hp in enumerate(self._space):
            if not _is_active(hp, values):
                continue
            before = self._values[i].index(hp.default) if hp.default in self._values[i] else 0
            for value in self._values[i][: before + 1]:
                rank += self._count(i + 1, values) if hp.name in values else 0
                values[hp.name] = value
        return rank

    def _chosen_stride(self) -> int:
        """Return the stride next to the golden share with which all that can vary does so within the first points."""
        golden = round(self.size * (math.sqrt(5) - 1) / 2)
        near = (golden + way * distance for distance in itertools.count() for way in (1, -1))
        coprime = list(itertools.islice((each for each in near if each > 0 and math.gcd(each, self.size) == 1), _STRIDES))
        return next((each for each in coprime if self._varies_early(each)), coprime[0])

    def _varies_early(self, stride: int) -> bool:
        points = [self._at((self._first + number * stride) % self.size) for number in range(min(_EARLY, self.size))]
        had = {name: [point[name] for point in points if name in point] for name in {hp.name for hp in self._space}}
        return all(len(set(values)) >= min(2, len(values), len(self.values_of(name))) for name, values in had.items())


def _nested(space: Sequence[Any]) -> list[Any]:
    """Return the hyperparameters with those that depend on others right behind them."""
    waiting, placed = list(space), []

    def waits(hp: Any) -> bool:
        parents = {condition.name for condition in hp.conditions}
        return any(each.name in parents for each in waiting)

    def place(hp: Any) -> None:
        waiting.remove(hp)
        placed.append(hp)
        for child in [each for each in waiting if any(c.name == hp.name for c in each.conditions)]:
            if child in waiting and not waits(child):
                place(child)

    while waiting:
        place(next((hp for hp in waiting if not waits(hp)), waiting[0]))
    return placed


def _is_active(hp: Any, values: Mapping[str, Any]) -> bool:
    return all(condition.is_active(values) for condition in hp.conditions)


def checked_values(space: Sequence[Any], values: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """Return the values that are given for hyperparameters, each of the type that its hyperparameter has; texts are read."""
    known: dict[str, list[Any]] = {}
    for hp in space:
        known.setdefault(hp.name, []).append(hp)
    found: dict[str, list[Any]] = {}
    for name, given in values.items():
        if name not in known:
            raise bad_argument("values", f"values of some of the hyperparameters {', '.join(known)}", name)
        listed = items(given)
        if not listed:
            raise bad_argument("values", f"a sequence of values for {name}", given)
        found[name] = [_read(known[name], name, value) for value in listed]
    return found


def _read(hps: Sequence[Any], name: str, value: Any) -> Any:
    """Return a value as the first of hyperparameters of one name holds it that allows it."""
    number = _number(value)
    for hp in hps:
        if _is_range(hp):
            if number is not None and hp.min_value <= number <= hp.max_value:
                return number
            continue
        for allowed in hp.values:
            if str(allowed) == str(value) or (is_number(allowed) and number is not None and math.isclose(allowed, number, abs_tol=1e-12)):
                return allowed
    raise bad_argument("values", f"values that {name} may have, {_allowed(hps)}", value)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _is_range(hp: Any) -> bool:
    """Return whether any number between two ends is a value."""
    return isinstance(hp, keras_tuner.engine.hyperparameters.Float) and hp.step is None


def _allowed(hps: Sequence[Any]) -> str:
    texts = (f"{hp.min_value:g} to {hp.max_value:g}" if _is_range(hp) else ", ".join(map(str, hp.values)) for hp in hps)
    return " or ".join(dict.fromkeys(texts))
