"""KerasTuner's random, grid and Bayesian search, which begin with the defaults of the space and go on where they stopped."""

import functools
import inspect
from typing import Any

import keras_tuner
import numpy as np

from keras_ext.search.evolution import defaults


class RandomSearchOracle(keras_tuner.oracles.RandomSearchOracle):
    """KerasTuner's oracle, whose first trial has the defaults of the space: a rule of thumb is worth one trial."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial."""
        if not self.trials:
            return {"status": "RUNNING", "values": defaults(self.hyperparameters.space)}
        return super().populate_space(trial_id)


class GridSearchOracle(keras_tuner.oracles.GridSearchOracle):
    """KerasTuner's grid, whose place in the grid survives a restart, and which gives out the next trial before the last has ended.

    KerasTuner keeps the place in two private lists and does not save them, so that a reloaded grid ends at once. Both follow from the
    trials: one is their order in the grid, the other those whose next neighbour may not have been tried. It asks for the neighbour of a
    trial when that ends, so that of several workers one works; the neighbour is known when the trial begins.
    """

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Any:
        """Return the next trial."""
        trial = super().create_trial(tuner_id)
        if trial.status == "RUNNING":
            self._populate_next.append(trial.trial_id)
        return trial

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a saved state, and find the place in the grid again."""
        super().set_state(state)

        def compare(a: Any, b: Any) -> int:
            return self._compare(a.hyperparameters.values, b.hyperparameters.values)

        self._ordered_ids = type(self._ordered_ids)()
        for trial in sorted(self.trials.values(), key=functools.cmp_to_key(compare)):
            self._ordered_ids.insert(trial.trial_id)
        self._populate_next = list(self.start_order)


class BayesianOptimizationOracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's oracle, whose next trial depends on its seed and the trials before it alone.

    KerasTuner draws the points from which it searches for the next trial from a private generator that it does not save, and reloads the
    trials in the order in which the file system names them, which changes the rounding of the model that it fits.
    """

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial; the first has the defaults of the space."""
        if not self.trials:
            return {"status": "RUNNING", "values": defaults(self.hyperparameters.space)}
        self._random_state = np.random.RandomState([self.seed, len(self.trials)])
        return super().populate_space(trial_id)

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a saved state, with the trials in their order."""
        super().set_state(state)
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}


class _OracleTuner(keras_tuner.Tuner):
    """A tuner that takes the arguments of its oracle beside its own, as KerasTuner's tuners do."""

    oracle_class: type[keras_tuner.Oracle]

    def __init__(self, hypermodel: Any = None, objective: Any = None, **kwargs: Any) -> None:
        names = inspect.signature(self.oracle_class).parameters
        settings = {name: kwargs.pop(name) for name in names if name in kwargs}
        super().__init__(oracle=self.oracle_class(objective=objective, **settings), hypermodel=hypermodel, **kwargs)


class RandomSearch(_OracleTuner):
    """The tuner of `RandomSearchOracle`; arguments as those of `keras_tuner.RandomSearch`."""

    oracle_class = RandomSearchOracle


class GridSearch(_OracleTuner):
    """The tuner of `GridSearchOracle`: tries all combinations, at most `max_trials`; arguments as those of `keras_tuner.GridSearch`."""

    oracle_class = GridSearchOracle


class BayesianOptimization(_OracleTuner):
    """The tuner of `BayesianOptimizationOracle`; arguments as those of `keras_tuner.BayesianOptimization`."""

    oracle_class = BayesianOptimizationOracle
