"""Optuna's samplers by name, each repeatable: what a sampler chooses depends on the seed and the trials before alone."""

import contextlib
import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_ext._checks import bad_argument, one_of

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random")
# Trials whose values are spread over the space in place of drawn at random, by sampler: as many as it would draw before it learns.
SPREAD: dict[Any, float] = {"random": math.inf, "tpe": 10, "gp": 10, "cmaes": 10}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna report neither what it creates nor that a part of it is experimental, while the block runs."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def checked(sampler: Any, argument: str = "sampler") -> Any:
    """Return the name of a sampler, or an Optuna sampler, if it can be used here."""
    if not isinstance(sampler, str):
        from optuna.samplers import BaseSampler

        if isinstance(sampler, BaseSampler):
            return sampler
        raise bad_argument(argument, f"one of {', '.join(map(repr, SAMPLERS))}, or an Optuna sampler", sampler, error=TypeError)
    one_of(argument, sampler, SAMPLERS)
    if sampler == "gp" and importlib.util.find_spec("torch") is None:
        fix = "Install it with: pip install keras-ext[torch], or take 'tpe'."
        raise bad_argument(argument, "another one where PyTorch is not installed", sampler, fix)
    return sampler


def made(sampler: Any, seed: int, trials: int) -> Any:
    """Return an Optuna sampler for the trial after so many; an Optuna sampler is returned as it is."""
    if not isinstance(sampler, str):
        return sampler
    with quiet():
        return _made(sampler, seed, trials)


def _made(sampler: str, seed: int, trials: int) -> Any:
    from optuna import samplers as kinds

    first, here = (int(np.random.SeedSequence(words).generate_state(1)[0]) for words in ((seed,), (seed, trials)))
    if sampler == "tpe":
        return kinds.TPESampler(multivariate=True, group=True, constant_liar=True, seed=here)
    if sampler == "gp":
        return kinds.GPSampler(seed=here, independent_sampler=kinds.RandomSampler(seed=here), warn_independent_sampling=False)
    if sampler == "cmaes":
        # Categories, and what not every trial has, are left to TPE.
        tpe = kinds.TPESampler(multivariate=True, group=True, constant_liar=True, seed=here)
        return kinds.CmaEsSampler(seed=here, independent_sampler=tpe, warn_independent_sampling=False, consider_pruned_trials=True)
    if sampler == "qmc":
        # One sequence for the whole search, whose place Optuna keeps in the study.
        others = kinds.RandomSampler(seed=here)
        return kinds.QMCSampler(scramble=True, seed=first, independent_sampler=others, warn_independent_sampling=False)
    return kinds.RandomSampler(seed=here)
