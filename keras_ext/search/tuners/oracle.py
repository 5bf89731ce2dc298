"""The base of the package's oracles: KerasTuner's, with checked arguments."""

import inspect
from typing import Any

import keras_tuner

from keras_ext._checks import bad_argument, flag, integer


class CheckedOracle(keras_tuner.Oracle):
    """KerasTuner's oracle, whose arguments are checked, and for which 0 is a seed."""

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        hyperparameters: Any = None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        seed: int | None = None,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int = 3,
    ) -> None:
        if hyperparameters is not None and not isinstance(hyperparameters, keras_tuner.HyperParameters):
            raise bad_argument("hyperparameters", "a keras_tuner.HyperParameters, or None", hyperparameters, error=TypeError)
        seed = None if seed is None else integer("seed", seed, 0)
        super().__init__(
            objective=objective,
            max_trials=None if max_trials is None else integer("max_trials", max_trials),
            hyperparameters=hyperparameters,
            allow_new_entries=flag("allow_new_entries", allow_new_entries),
            tune_new_entries=flag("tune_new_entries", tune_new_entries),
            seed=seed,
            max_retries_per_trial=integer("max_retries_per_trial", max_retries_per_trial, 0),
            max_consecutive_failed_trials=integer("max_consecutive_failed_trials", max_consecutive_failed_trials),
        )
        if seed is not None:
            self.seed = seed

    def was_tried(self, values: dict[str, Any]) -> bool:
        """Return whether a trial had just these values."""
        return any(trial.hyperparameters.values == values for trial in self.trials.values())


# The number of trials has a place of its own in every tuner's signature, or follows from others.
_NAMES = [name for name in inspect.signature(keras_tuner.Oracle).parameters if name != "max_trials"]


def oracle_arguments(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Take those arguments that KerasTuner's oracle has out of a tuner's keyword arguments, and return them.

    >>> oracle_arguments(kwargs := {"tune_new_entries": False, "directory": "searches"}), kwargs
    ({'tune_new_entries': False}, {'directory': 'searches'})
    """
    return {name: kwargs.pop(name) for name in _NAMES if name in kwargs}
