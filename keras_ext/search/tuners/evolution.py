"""How sets of hyperparameters are made from others: by default, at random, by crossover and by mutation.

Every function takes the space, a list of KerasTuner's hyperparameters in which those that another depends on come first, and returns the
values of those that are active: a value that nothing would read is never made, nor kept.
"""

import collections
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np

Values = dict[str, Any]
# Standard deviation of a mutation, as a share of the range, on the hyperparameter's own scale.
SIGMA = 0.15
_TRIES = 20
# Values that a hyperparameter may have to be spread evenly.
_FEW = 12


def walked(space: Sequence[Any], choose: Callable[[Any], Any]) -> Values:
    """Return the values that `choose` gives to the active hyperparameters."""
    hps = keras_tuner.HyperParameters()
    for hp in space:
        hps.merge([hp])
        if hps.is_active(hp):
            hps.values[hp.name] = choose(hp)
    return hps.values


def defaults(space: Sequence[Any]) -> Values:
    """Return the values that the space itself proposes."""
    return walked(space, lambda hp: hp.default)


def at_random(space: Sequence[Any], rng: np.random.Generator, given: Mapping[str, Any] | None = None) -> Values:
    """Return values drawn from their ranges, each on its own scale; those that are `given` stay."""
    known = given or {}
    return walked(space, lambda hp: known[hp.name] if hp.name in known and fits(hp, known[hp.name]) else hp.prob_to_value(rng.random()))


def spread(
    space: Sequence[Any], rng: np.random.Generator, tried: Sequence[Mapping[str, Any]], given: Mapping[str, Any] | None = None
) -> Values:
    """Return values of which each was the rarest in the sets that were `tried`; those that are `given` stay.

    Hyperparameters without an order are spread so, and those with few values. Where several values are as rare, one is drawn of those that
    were the rarest in all hyperparameters: an initializer that another activation had is tried with another one. Numbers of many values are
    drawn at random.

    After n trials in which it was active, a hyperparameter of k values has had each at least `n // k` times.
    """
    known = given or {}
    everywhere = collections.Counter(value for values in tried for value in values.values() if isinstance(value, str))

    def choose(hp: Any) -> Any:
        if hp.name in known and fits(hp, known[hp.name]):
            return known[hp.name]
        values = few_values(hp)
        if not values:
            return hp.prob_to_value(rng.random())
        had = collections.Counter(_rounded(each[hp.name]) for each in tried if hp.name in each)
        times = {value: (had[_rounded(value)], everywhere[value]) for value in values}
        left = [value for value in values if times[value] == min(times.values())]
        return left[rng.integers(len(left))]

    return walked(space, choose)


def _rounded(value: Any) -> Any:
    """Return a value without the rounding of its step, which Optuna and KerasTuner compute in two ways."""
    return round(value, 9) if isinstance(value, float) else value


def few_values(hp: Any) -> list[Any]:
    """Return the values of a hyperparameter that has at most twelve, else an empty list.

    >>> few_values(keras_tuner.engine.hyperparameters.Float("rate", 0.0, 0.5, step=0.25))
    [0.0, 0.25, 0.5]
    """
    if is_range(hp) and hp.step is None:
        return []
    found = list(dict.fromkeys(hp.values))
    return found if len(found) <= _FEW else []


def crossed(space: Sequence[Any], parents: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> Values:
    """Return values of which each comes from one of `parents` at random (uniform crossover).

    What only one parent has comes from that one, if it is active in the child; what none has is drawn at random.
    """

    def choose(hp: Any) -> Any:
        known = [p[hp.name] for p in parents if hp.name in p and fits(hp, p[hp.name])]
        return known[rng.integers(len(known))] if known else hp.prob_to_value(rng.random())

    return walked(space, choose)


def mutated(space: Sequence[Any], values: Mapping[str, Any], names: Collection[str], rng: np.random.Generator) -> Values:
    """Return `values` with others for the hyperparameters in `names`.

    What becomes active by that is drawn at random.
    """

    def choose(hp: Any) -> Any:
        if hp.name not in values or not fits(hp, values[hp.name]):
            return hp.prob_to_value(rng.random())
        value = values[hp.name]
        return another(hp, value, rng) if hp.name in names else value

    return walked(space, choose)


def another(hp: Any, value: Any, rng: np.random.Generator) -> Any:
    """Return another value of a hyperparameter: a near one where they have an order, else any; the same where there is no other.

    Args:
        hp: one of KerasTuner's hyperparameters.
        value: that it has.
        rng: source of chance.
    """
    if not is_ordered(hp):
        others = [v for v in hp.values if v != value]
        return others[rng.integers(len(others))] if others else value
    place = float(np.clip(hp.value_to_prob(value), 0.0, 1.0))
    for i in range(_TRIES):
        # Wider with every try: of few values the next may be far.
        step = rng.normal(scale=SIGMA * (1 + i / 4))
        at = 1 - abs(1 - abs(place + step) % 2)  # reflected at both ends
        new = hp.prob_to_value(min(at, 1 - 1e-9))
        if new != value:
            return new
    return value


def is_range(hp: Any) -> bool:
    """Return whether a hyperparameter is a number from a range."""
    return isinstance(hp, (keras_tuner.engine.hyperparameters.Int, keras_tuner.engine.hyperparameters.Float))


def is_ordered(hp: Any) -> bool:
    """Return whether the values of a hyperparameter have an order."""
    return is_range(hp) or bool(getattr(hp, "ordered", False))


def can_change(hp: Any) -> bool:
    """Return whether a hyperparameter has more than one value."""
    return hp.prob_to_value(0.0) != hp.prob_to_value(1 - 1e-9)


def may_be_zero(hp: Any) -> bool:
    """Return whether a hyperparameter is a strength that may be 0, where what it belongs to is left out.

    >>> may_be_zero(keras_tuner.engine.hyperparameters.Float("dropout", 0.0, 0.5, step=0.1))
    True
    """
    return is_range(hp) and hp.min_value == 0 < hp.max_value


def fits(hp: Any, value: Any) -> bool:
    """Return whether `value` is one that this hyperparameter can have: others of the same name may stand under other conditions."""
    if is_range(hp):
        return not isinstance(value, (str, bool)) and hp.min_value <= value <= hp.max_value
    return value in hp.values
