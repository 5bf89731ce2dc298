"""A genetic search: regularised evolution."""

from collections.abc import Sequence
from typing import Any

import keras_tuner
import numpy as np

from keras_ext._checks import bad_argument, in_range, integer
from keras_ext.search.tuners import evolution
from keras_ext.search.tuners.oracle import CheckedOracle, oracle_arguments

# Children of the same parents that may have been tried before, until one is drawn at random, and of these until the search ends.
_TRIES = 20


class GeneticOracle(CheckedOracle):
    """Choose each trial as a child of two good ones among the last `population_size`.

    The first trial has the defaults of the space, and those up to `population_size` are drawn at random. After that the best of
    `tournament_size` trials, drawn from the last `population_size` that ended well, is a parent: old trials go, however good they were
    (regularised evolution). With the probability `crossover` a second tournament finds another parent, and each hyperparameter comes from
    one of the two. Then hyperparameters change, `mutations` of them on average: numbers to near ones on their own scale, others to any.
    Values depend on the hyperparameters that they are conditional on, so that a child has none that nothing reads.

    The next trial depends on the seed and the trials that have ended alone, so that a search goes on where it stopped.

    Args:
        objective: name of what is searched for, or a `keras_tuner.Objective`.
        max_trials: number of trials.
        population_size: number of trials that parents come from, at least 2.
        tournament_size: number of trials of which the best becomes a parent; 1 picks it at random.
        crossover: probability of a second parent, in [0, 1].
        mutations: mean number of hyperparameters that change, at least 0; a child that was tried before changes in one more.
        seed: of all draws; 0 is a seed.
        **kwargs: those of `keras_tuner.Oracle`: `hyperparameters`, `max_retries_per_trial`, ...

    Raises:
        ValueError: a number is outside its range, or the tournament larger than the population.

    References:
        Real, Aggarwal, Huang and Le (2019), Regularized evolution for image classifier architecture search, arXiv:1802.01548, algorithm 1
        (population 100 and samples of 25 there, for 20,000 models). Syswerda (1989), Uniform crossover in genetic algorithms.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int = 10,
        population_size: int = 12,
        tournament_size: int = 4,
        crossover: float = 0.5,
        mutations: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(objective=objective, max_trials=max_trials, seed=seed, **kwargs)
        self.population_size = integer("population_size", population_size, 2)
        self.tournament_size = integer("tournament_size", tournament_size)
        if tournament_size > population_size:
            raise bad_argument("tournament_size", f"at most population_size, {population_size}", tournament_size)
        self.crossover = in_range("crossover", crossover, 0.0, 1.0)
        self.mutations = in_range("mutations", mutations, 0.0)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial."""
        rng = np.random.default_rng([self.seed, len(self.trials)])
        for propose in (self._next, evolution.at_random):
            for i in range(_TRIES):
                values = propose(self.hyperparameters.space, rng)
                if i and propose == self._next:
                    values = self._changed(values, i, rng)
                if not self.was_tried(values):
                    return {"status": "RUNNING", "values": values}
        return {"status": "STOPPED", "values": None}

    def _next(self, space: Sequence[Any], rng: np.random.Generator) -> evolution.Values:
        if not self.trials:
            return evolution.defaults(space)
        # Once each: KerasTuner runs the last trial again after a restart.
        ended = [self.trials[name] for name in dict.fromkeys(self.end_order)]
        population = [trial for trial in ended if trial.status == "COMPLETED"][-self.population_size :]
        if len(self.trials) < self.population_size or len(population) < 2:
            return evolution.at_random(space, rng)
        parents = [self._winner(population, rng)]
        if rng.random() < self.crossover:
            parents.append(self._winner(population, rng))
        child = evolution.crossed(space, [p.hyperparameters.values for p in parents], rng)
        return self._changed(child, int(rng.poisson(self.mutations)), rng)

    def _winner(self, population: Sequence[Any], rng: np.random.Generator) -> Any:
        drawn = rng.choice(len(population), size=min(self.tournament_size, len(population)), replace=False)
        sign = 1 if self.objective.direction == "max" else -1
        return max((population[i] for i in sorted(drawn)), key=lambda trial: sign * trial.score)

    def _changed(self, values: evolution.Values, count: int, rng: np.random.Generator) -> evolution.Values:
        """Return values with `count` of them changed."""
        space = self.hyperparameters.space
        active = {hp.name: hp for hp in space if hp.name in values and evolution.fits(hp, values[hp.name])}
        names = [name for name, hp in active.items() if evolution.can_change(hp)]
        return evolution.mutated(space, values, rng.permutation(names)[:count], rng)

    def get_state(self) -> dict[str, Any]:
        """Return what a reloaded oracle needs."""
        return {**super().get_state(), **{name: getattr(self, name) for name in _SETTINGS}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        super().set_state(state)
        for name in _SETTINGS:
            setattr(self, name, state[name])


_SETTINGS = ("population_size", "tournament_size", "crossover", "mutations")


class GeneticTuner(keras_tuner.Tuner):
    """The tuner of `GeneticOracle`.

    Args:
        hypermodel: a function of `hp` that returns a compiled model, or a `HyperModel`.
        objective: name of what is searched for, or a `keras_tuner.Objective`.
        max_trials: number of trials.
        population_size: number of trials that parents come from.
        tournament_size: number of trials of which the best becomes a parent.
        crossover: probability of a second parent.
        mutations: mean number of hyperparameters that change.
        seed: of all draws; 0 is a seed.
        **kwargs: those of `keras_tuner.Oracle` and `keras_tuner.Tuner`: `hyperparameters`, `directory`, `project_name`, `overwrite`, ...

    Examples:
        >>> import tempfile
        >>> tuner = GeneticTuner(lambda hp: None, "val_loss", max_trials=40, seed=1, directory=tempfile.mkdtemp())
        >>> tuner.oracle.population_size
        12
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        population_size: int = 12,
        tournament_size: int = 4,
        crossover: float = 0.5,
        mutations: float = 1.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        oracle = GeneticOracle(
            objective=objective,
            max_trials=max_trials,
            population_size=population_size,
            tournament_size=tournament_size,
            crossover=crossover,
            mutations=mutations,
            seed=seed,
            **oracle_arguments(kwargs),
        )
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
