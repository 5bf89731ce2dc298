"""KerasTuner's grid search, which goes on where it stopped."""

import functools
import inspect
from typing import Any

import keras_tuner


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


class GridSearch(keras_tuner.Tuner):
    """The tuner of `GridSearchOracle`: tries all combinations, at most `max_trials`; arguments as those of `keras_tuner.GridSearch`."""

    def __init__(self, hypermodel: Any = None, objective: Any = None, **kwargs: Any) -> None:
        names = inspect.signature(GridSearchOracle).parameters
        settings = {name: kwargs.pop(name) for name in names if name in kwargs}
        super().__init__(oracle=GridSearchOracle(objective=objective, **settings), hypermodel=hypermodel, **kwargs)
