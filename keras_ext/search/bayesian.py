"""A Bayesian search that goes on where it stopped."""

from typing import Any

import keras_tuner
import numpy as np

from keras_ext.search.evolution import defaults


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


class BayesianOptimization(keras_tuner.Tuner):
    """The tuner of `BayesianOptimizationOracle`."""

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        num_initial_points: int | None = None,
        alpha: float = 1e-4,
        beta: float = 2.6,
        seed: int | None = None,
        max_consecutive_failed_trials: int = 3,
        **kwargs: Any,
    ) -> None:
        oracle = BayesianOptimizationOracle(
            objective=objective,
            max_trials=max_trials,
            num_initial_points=num_initial_points,
            alpha=alpha,
            beta=beta,
            seed=seed,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
