"""A KerasTuner search whose trials Optuna chooses."""

from collections.abc import Iterable
from typing import Any

import keras_tuner
import numpy as np

from keras_ext._checks import bad_argument, integer
from keras_ext.search.tuners import evolution, pruning, samplers
from keras_ext.search.tuners.oracle import oracle_arguments
from keras_ext.search.tuners.structure_names import StructureOracle
from keras_ext.search.watch import is_watched

# Sets of values that may have been tried before, until the search ends: the space has no others.
_TRIES = 100


class OptunaOracle(StructureOracle):
    """KerasTuner's side of a search that an Optuna sampler steers; the study follows KerasTuner's own record of the trials.

    Args:
        sampler: as of `OptunaTuner`.
        pruner: the same.
        storage: the same.
        trials_per_structure: the same.
        structure_hyperparameters: the same.
        **kwargs: of `keras_tuner.Oracle`.
    """

    def __init__(
        self,
        sampler: Any,
        pruner: Any,
        storage: Any,
        trials_per_structure: int,
        structure_hyperparameters: Iterable[str] | None,
        **kwargs: Any,
    ) -> None:
        self.trials_per_structure = integer("trials_per_structure", trials_per_structure)
        super().__init__(structure_hyperparameters, **kwargs)
        self.pruner = pruner
        self._sampler, self._storage = sampler, storage
        self._study: Any = None

    @property
    def trial_study(self) -> Any:
        """Return the study, opened when it is first asked for: a trial's own process makes the tuner, too, and has no study."""
        if self._study is None:
            from keras_ext.search.tuners.study import TunerStudy

            self._study = TunerStudy(self._tuner, self._storage, tell_pruned=self._sampler != "gp")
        return self._study

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial: first the defaults of the space, and never what was tried before."""
        study = self.trial_study
        study.tell()
        if not self.trials:
            return {"status": "RUNNING", "values": study.ask(trial_id, evolution.defaults(self.hyperparameters.space))}
        found = self._chosen(trial_id, self._structure())
        return {"status": "STOPPED" if found is None else "RUNNING", "values": found}

    def _structure(self) -> dict[str, Any]:
        """Return the values of the structure that the next trial is to have; none where the sampler chooses it."""
        place = len(self.start_order) % self.trials_per_structure
        if place == 0:
            return {}
        names, first = self.structure_names(), self.trials[self.start_order[-place]].hyperparameters.values
        # A part of strength 0 is left out.
        zeros = {hp.name for hp in self.hyperparameters.space if evolution.may_be_zero(hp) and first.get(hp.name) == 0}
        return {name: first[name] for name in (*names, *sorted(zeros)) if name in first}

    def _above_zero(self, values: dict[str, Any], structure: dict[str, Any]) -> dict[str, Any]:
        """Return the structure, with numbers above 0 for those that are 0 in these values and not in its other trials, if it has any."""
        if not structure:
            return {}
        rng = np.random.default_rng([self.seed, len(self.trials), 2])
        zeros = [hp for hp in self.hyperparameters.space if evolution.may_be_zero(hp) and values.get(hp.name) == 0]
        least = {hp.name: hp.prob_to_value(rng.random()) or hp.prob_to_value(1 - 1e-9) for hp in zeros if hp.name not in structure}
        return structure | least

    def _chosen(self, trial_id: str, structure: dict[str, Any]) -> dict[str, Any] | None:
        """Return values that were not tried before, of the given structure if it has any; None if there are none."""
        study, is_named = self.trial_study, isinstance(self._sampler, str)
        # A named sampler would choose the same again.
        for _ in range(0 if study.is_exhausted else 1 if is_named else _TRIES):
            sampler = samplers.made(self._sampler, self.seed, len(self.trials))
            values = study.ask(trial_id, self._given(structure), sampler)
            full = self._above_zero(values, structure)
            if full != structure:
                study.drop(trial_id)
                values = study.ask(trial_id, values | full, sampler)
            if not self.was_tried(values):
                return values
            study.drop(trial_id)
        rng = np.random.default_rng([self.seed, len(self.trials)])
        for _ in range(_TRIES if is_named else 0):
            values = evolution.at_random(self.hyperparameters.space, rng, structure)
            values |= self._above_zero(values, structure)
            if not self.was_tried(values):
                return study.ask(trial_id, values)
        return self._chosen(trial_id, {}) if structure else None

    def _given(self, structure: dict[str, Any]) -> dict[str, Any]:
        """Return the values that the sampler does not choose: those of the structure, and all where they are spread over the space."""
        if self._sampler not in samplers.SPREAD or len(self.trials) >= samplers.SPREAD[self._sampler]:
            return structure
        tried = [self.trials[name].hyperparameters.values for name in self.start_order]
        return evolution.spread(self.hyperparameters.space, np.random.default_rng([self.seed, len(self.trials), 1]), tried, structure)

    @keras_tuner.synchronized
    def end_trial(self, trial: Any) -> None:
        """Record a trial that has ended, and tell Optuna."""
        super().end_trial(trial)
        self.trial_study.tell()


class OptunaTuner(keras_tuner.Tuner):
    """A KerasTuner tuner whose trials an Optuna sampler chooses.

    The first trial has the defaults of the space. Optuna's study lies in the project's folder and follows KerasTuner's record of the
    trials, so that a search that was killed goes on. A named sampler chooses the same values for the same seed and trials, also after a
    restart. Values that were tried before are replaced by random ones, or an Optuna sampler of yours is asked again.

    A trial that fails is a failed one in the study. A trial without a finite score has the worst score of the search. A pruned trial is
    pruned in the study, with its scores; for `"gp"`, which reads no pruned trials, it is complete with its best score.

    Args:
        hypermodel: a function of `hp` that returns a compiled model, or a `HyperModel`.
        objective: name of what is searched for, or a `keras_tuner.Objective`.
        sampler: `"tpe"` (Parzen estimators, jointly over the hyperparameters), `"gp"` (a Gaussian process; needs PyTorch), `"cmaes"`
            (evolves the numbers; categories by TPE), `"qmc"` (a Sobol sequence), `"random"`, or an Optuna sampler with its own seed.
            The trials of `"random"` and the first ten of `"tpe"`, `"gp"` and `"cmaes"` are spread: of the values to choose from, a trial
            gets those that the fewest trials before it had.
        pruner: ends trials early, as that of `watch`, which such a tuner needs.
        storage: URL of a database, such as `"sqlite:///search.db"`, in which `optuna-dashboard` shows the search, or an Optuna storage.
            None: a file in the project's folder.
        trials_per_structure: trials of each structure that the sampler chooses, with other values of the hyperparameters that leave it
            as it is, such as the learning rate. Under `watch` they share a program, which makes them several times as fast.
        structure_hyperparameters: names of the hyperparameters that change the structure. None: models are built to find them.
        max_trials: number of trials.
        seed: of all draws; 0 is a seed.
        **kwargs: those of `keras_tuner.Oracle` and `keras_tuner.Tuner`: `hyperparameters`, `directory`, `project_name`, `overwrite`, ...

    Raises:
        ValueError: no sampler or pruner has this name; its library is missing; when the search begins, the storage cannot be opened.
        TypeError: `sampler` or `pruner` is neither a name nor of Optuna.

    Examples:
        >>> import tempfile
        >>> tuner = OptunaTuner(lambda hp: None, "val_loss", sampler="tpe", max_trials=40, seed=1, directory=tempfile.mkdtemp())
        >>> tuner.oracle.max_trials
        40

    References:
        Bergstra, Bardenet, Bengio and Kegl (2011), Algorithms for hyper-parameter optimization. Akiba, Sano, Yanase, Ohta and Koyama
        (2019), Optuna: a next-generation hyperparameter optimization framework, arXiv:1907.10902.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        sampler: Any = "tpe",
        pruner: Any = None,
        storage: Any = None,
        trials_per_structure: int = 1,
        structure_hyperparameters: Iterable[str] | None = None,
        max_trials: int = 10,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        oracle = OptunaOracle(
            samplers.checked(sampler),
            pruning.checked(pruner),
            _checked_storage(storage),
            trials_per_structure,
            structure_hyperparameters,
            objective=objective,
            max_trials=max_trials,
            seed=seed,
            **oracle_arguments(kwargs),
        )
        oracle.belongs_to(self)
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Search as every KerasTuner tuner does.

        Raises:
            ValueError: there is a pruner, and nothing reports the epochs to it.
        """
        if self.oracle.pruner is not None and not is_watched(self):
            raise ValueError("`pruner` needs a search that is watched. Call watch(tuner, monitor) first.")
        super().search(*fit_args, **fit_kwargs)


def _checked_storage(storage: Any) -> Any:
    if isinstance(storage, str) and "://" not in storage:
        raise bad_argument("storage", 'a URL such as "sqlite:///search.db", an Optuna storage, or None', storage)
    if storage is not None and not isinstance(storage, str):
        from optuna.storages import BaseStorage

        if not isinstance(storage, BaseStorage):
            raise bad_argument("storage", 'a URL such as "sqlite:///search.db", an Optuna storage, or None', storage, error=TypeError)
    return storage
