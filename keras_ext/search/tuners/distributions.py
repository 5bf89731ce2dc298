"""KerasTuner's hyperparameters as Optuna's distributions: the same values, by the same names.

Optuna knows no ordered choices: every `Choice` becomes a categorical distribution, and so does a number whose step multiplies. It knows no
`reverse_log`: such a number gets the same range on a linear scale.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from math import isclose
from typing import Any

from keras_tuner.engine import hyperparameters as kinds
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from keras_ext._checks import is_number
from keras_ext.search.tuners.evolution import walked


def distribution(hp: Any) -> Any:
    """Return the distribution of exactly those values that a KerasTuner hyperparameter allows.

    >>> distribution(kinds.Int("units", 16, 100, step=16))
    IntDistribution(high=96, log=False, low=16, step=16)
    """
    if isinstance(hp, kinds.Fixed):
        return CategoricalDistribution((hp.value,))
    if not isinstance(hp, kinds.Int | kinds.Float):
        return CategoricalDistribution(tuple(hp.values))
    is_int = isinstance(hp, kinds.Int)
    if hp.step is not None and hp.sampling != "linear":
        return CategoricalDistribution(tuple(dict.fromkeys(int(v) if is_int else v for v in hp.values)))
    log = hp.sampling == "log"
    if is_int:
        step = int(hp.step or 1)
        return IntDistribution(hp.min_value, hp.min_value + (hp.max_value - hp.min_value) // step * step, log=log, step=step)
    if hp.step is None:
        return FloatDistribution(hp.min_value, hp.max_value, log=log)
    # KerasTuner counts its steps in floats, and Optuna refuses an upper end that lies off the steps in decimals.
    steps = int((hp.max_value - hp.min_value) // hp.step)
    high = float(Decimal(str(hp.min_value)) + steps * Decimal(str(hp.step)))
    return FloatDistribution(hp.min_value, high, step=hp.step)


def suggested(trial: Any, name: str, hp: Any) -> Any:
    """Return the value that an Optuna trial under way gives to a hyperparameter."""
    wanted = distribution(hp)
    if isinstance(wanted, CategoricalDistribution):
        return trial.suggest_categorical(name, wanted.choices)
    suggest = trial.suggest_int if isinstance(wanted, IntDistribution) else trial.suggest_float
    return suggest(name, wanted.low, wanted.high, step=wanted.step, log=wanted.log)


def named(space: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yield each hyperparameter of a space with its name in Optuna.

    KerasTuner's hyperparameters may share a name under different conditions. Optuna allows a name one distribution, so that all but the
    first have their conditions in theirs.
    """
    taken = set()
    for hp in space:
        conditions = ", ".join(f"{c.name}={'|'.join(map(str, c.values))}" for c in hp.conditions)
        yield (f"{hp.name} ({conditions})" if hp.name in taken else hp.name), hp
        taken.add(hp.name)


def asked(trial: Any, space: Sequence[Any]) -> dict[str, Any]:
    """Return the values of the active hyperparameters that an Optuna trial chooses, each when those that it depends on are known."""
    names = {id(hp): name for name, hp in named(space)}
    return walked(space, lambda hp: suggested(trial, names[id(hp)], hp))


def as_optuna(space: Sequence[Any], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return the parameters and distributions of a trial that had these values, without those that the space does not allow."""
    names = {id(hp): name for name, hp in named(space)}
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}

    def keep(hp: Any) -> Any:
        wanted = distribution(hp)
        value = _within(wanted, values.get(hp.name))
        if value is not None:
            params[names[id(hp)]], distributions[names[id(hp)]] = value, wanted
        return values.get(hp.name, hp.default)

    walked(space, keep)
    return params, distributions


def _within(wanted: Any, value: Any) -> Any:
    """Return the value as the distribution holds it, which knows steps in decimals; None where it is not among its values."""
    if isinstance(wanted, CategoricalDistribution):
        return next((c for c in wanted.choices if c == value and isinstance(c, bool) == isinstance(value, bool)), None)
    if not is_number(value):
        return None
    if wanted.step is not None:
        near = wanted.low + round((value - wanted.low) / wanted.step) * wanted.step
        if abs(near - value) > 1e-8 * wanted.step:
            return None
        value = min(near, wanted.high) if near - wanted.high < 1e-8 * wanted.step else near
    # KerasTuner's own values may lie beyond an end by the rounding of a power.
    return next((near for near in (value, wanted.low, wanted.high) if wanted.low <= near <= wanted.high and isclose(near, value)), None)
