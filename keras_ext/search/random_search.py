"""A random search that begins with what the space itself proposes."""

from typing import Any

import keras_tuner

from keras_ext.search.evolution import defaults


class RandomSearchOracle(keras_tuner.oracles.RandomSearchOracle):
    """KerasTuner's oracle, whose first trial has the defaults of the space: what a rule of thumb says is worth one trial."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial."""
        if not self.trials:
            return {"status": "RUNNING", "values": defaults(self.hyperparameters.space)}
        return super().populate_space(trial_id)


class RandomSearch(keras_tuner.Tuner):
    """The tuner of `RandomSearchOracle`."""

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        seed: int | None = None,
        max_consecutive_failed_trials: int = 3,
        **kwargs: Any,
    ) -> None:
        oracle = RandomSearchOracle(
            objective=objective, max_trials=max_trials, seed=seed, max_consecutive_failed_trials=max_consecutive_failed_trials
        )
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
