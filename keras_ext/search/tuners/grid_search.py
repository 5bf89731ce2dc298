"""A grid search over values that its user fixes, or coarse ones, which goes on where it stopped."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras_tuner

from keras_ext._checks import BadInput, bad_argument
from keras_ext.search.tuners.grid import Grid, coarse
from keras_ext.search.tuners.oracle import CheckedOracle, oracle_arguments

# The largest grid that a search begins: who asks for every combination of more does not mean it.
MOST_POINTS = 1_000_000


class GridSearchOracle(CheckedOracle):
    """KerasTuner's side of a `GridSearch`: the next trial is the first point of the grid that no trial has had.

    What a trial is depends on the grid and on the trials before it alone, so that a search goes on where it stopped, and trials may begin
    before others end.

    Args:
        values: as of `GridSearch`.
        otherwise: function of a hyperparameter that returns the values of those that `values` does not name.
        **kwargs: of `CheckedOracle`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        values: Mapping[str, Iterable[Any]] | None = None,
        otherwise: Callable[[Any], list[Any]] = coarse,
        **kwargs: Any,
    ) -> None:
        super().__init__(objective=objective, max_trials=max_trials, **kwargs)
        if values is not None and not isinstance(values, Mapping):
            raise bad_argument("values", "a dict of names and values, or None", values, error=TypeError)
        self._given, self._otherwise = dict(values or {}), otherwise
        # That of the hyperparameters known when it was made.
        self._grid: tuple[int, Grid] | None = None

    @property
    def grid(self) -> Grid:
        """The grid of the hyperparameters that are known.

        Raises:
            BadInput: it has more than a million points.
        """
        space = self.hyperparameters.space
        if self._grid is None or self._grid[0] != len(space):
            grid = Grid(space, self._given, self._otherwise)
            if grid.size > MOST_POINTS:
                counts = {hp.name: len(grid.values_of(hp.name)) for hp in space}
                most = sorted(counts, key=lambda name: -counts[name])[:3]
                raise BadInput(
                    f"the grid has {grid.size:,} combinations, more than {MOST_POINTS:,}. Fix fewer values with `values`, most of all of "
                    f"{', '.join(most)}, or take the tuner random or tpe."
                )
            self._grid = (len(space), grid)
        return self._grid[1]

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial."""
        grid = self.grid
        tried = {_key(trial.hyperparameters.values) for trial in self.trials.values()}
        begun = len(self.trials)
        for number in range(begun, begun + grid.size):
            values = grid.point(number)
            if _key(values) not in tried:
                return {"status": "RUNNING", "values": values}
        return {"status": "STOPPED", "values": None}


def _key(values: dict[str, Any]) -> Any:
    return frozenset(values.items())


class GridSearch(keras_tuner.Tuner):
    """A KerasTuner tuner that tries every combination of values once, from the defaults on, in an order that varies all of them early.

    Args:
        hypermodel: a function of `hp` that returns a compiled model, or a `HyperModel`.
        objective: name of what is searched for, or a `keras_tuner.Objective`.
        max_trials: most trials; None: the whole grid.
        values: values of hyperparameters by their names. Others have all values of a choice, and of a number of more than five its default
            and those at a quarter and at three quarters of its range. A search space of this package says itself which: few values of
            what matters most, and of the rest the default.
        seed: of the tuner.
        **kwargs: those of `keras_tuner.Oracle` and `keras_tuner.Tuner`: `hyperparameters`, `directory`, `project_name`, `overwrite`, ...

    Raises:
        ValueError: `values` has a name that the space does not, or a value that its hyperparameter cannot have.
        BadInput: the grid has more than a million combinations.

    Examples:
        >>> import tempfile
        >>> def build(hp):
        ...     import keras
        ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 64)), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-3, 1.0, sampling="log")), "mse")
        ...     return model
        >>> tuner = GridSearch(build, "val_loss", values={"units": [8, 16]}, directory=tempfile.mkdtemp())
        >>> tuner.oracle.grid.size
        6
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int | None = None,
        values: Mapping[str, Iterable[Any]] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        oracle = GridSearchOracle(
            objective,
            max_trials,
            values,
            getattr(hypermodel, "coarse_values", coarse),
            seed=seed,
            **oracle_arguments(kwargs),
        )
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
        if hypermodel is not None:
            _ = oracle.grid  # refused now, if it is
