"""A search that compares structures at their best setting: the same settings are tried with each structure."""

import zlib
from collections.abc import Iterable
from typing import Any

import keras_tuner
import numpy as np

from keras_ext._checks import integer
from keras_ext.search.tuners import evolution
from keras_ext.search.tuners.oracle import oracle_arguments
from keras_ext.search.tuners.structure_names import StructureOracle

# Draws that may repeat an earlier structure, until the search ends: the space has no others.
_TRIES = 100


class NuisanceOracle(StructureOracle):
    """KerasTuner's side of a `NuisanceSearch`: trial `i * settings + j` has structure `i` and setting `j`.

    Each value depends on the seed, the name of its hyperparameter and `i` or `j` alone. So a search goes on where it stopped, and a
    hyperparameter that only some structures have takes no part in the draws of the others.

    Args:
        structures: as of `NuisanceSearch`.
        settings: the same.
        structure_hyperparameters: the same.
        **kwargs: of `keras_tuner.Oracle`.
    """

    def __init__(self, structures: int, settings: int, structure_hyperparameters: Iterable[str] | None, **kwargs: Any) -> None:
        self.structures, self.settings = integer("structures", structures), integer("settings", settings)
        super().__init__(structure_hyperparameters, max_trials=self.structures * self.settings, **kwargs)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial."""
        structure, setting = divmod(len(self.start_order), self.settings)
        names = self.structure_names()
        firsts = [self.trials[name].hyperparameters.values for name in self.start_order[:: self.settings]]
        if setting:
            return {"status": "RUNNING", "values": self._values(setting, firsts[structure])}
        tried = [{name: values[name] for name in names if name in values} for values in firsts]
        for attempt in range(_TRIES):
            drawn = {} if structure == 0 else {name: self._places(name, f"structure {structure}", _TRIES)[attempt] for name in names}
            values = self._values(0, drawn, are_places=True)
            if {name: values[name] for name in names if name in values} not in tried:
                return {"status": "RUNNING", "values": values}
        return {"status": "STOPPED", "values": None}

    def _values(self, setting: int, structure: dict[str, Any], *, are_places: bool = False) -> dict[str, Any]:
        """Return the values of a setting and a structure, which is given by its values, or by their places in [0, 1)."""
        names = self.structure_hyperparameters or ()

        def choose(hp: Any) -> Any:
            if hp.name in names:
                value = structure.get(hp.name)
                if value is not None and are_places:
                    return hp.prob_to_value(value)
                # A name that the space did not have then has its default in the models of this structure.
                return value if value is not None and evolution.fits(hp, value) else hp.default
            return hp.prob_to_value(self._places(hp.name, "setting", self.settings - 1)[setting - 1]) if setting else hp.default

        return evolution.walked(self.hyperparameters.space, choose)

    def _places(self, name: str, of: str, count: int) -> list[float]:
        """Return so many places in [0, 1), one in each `count`-th of it: a Latin hypercube over the names."""
        rng = np.random.default_rng([self.seed, zlib.crc32(f"{of} {name}".encode())])
        return ((rng.permutation(count) + rng.random(count)) / count).tolist()

    def get_state(self) -> dict[str, Any]:
        """Return what a reloaded oracle needs."""
        return {**super().get_state(), "settings": self.settings}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a saved state; more structures may be tried than before, with as many settings each."""
        super().set_state(state)
        self.settings = state["settings"]
        self.max_trials = self.structures * self.settings


class NuisanceSearch(keras_tuner.Tuner):
    """A KerasTuner tuner that compares structures at their best setting.

    The hyperparameters that change the structure of the model, such as its width, are scientific ones. All others, such as the learning
    rate, are nuisance ones: a structure is as good as its best setting of them. Each structure is tried with the same `settings`, which are
    spread evenly over each hyperparameter's own scale (a Latin hypercube). The first structure and the first setting have the defaults.
    Under `watch`, the trials of one structure share one program.

    Models that are built before the first trial show which hyperparameters change the structure: each changes alone, at two or three
    values. A number that is 0 has a program of its own, and is part of the structure only if other values change the structure, too. The
    search ends sooner if the space has fewer structures. `results(tuner).by_structure()` has the best trial of each.

    Args:
        hypermodel: a function of `hp` that returns a compiled model, or a `HyperModel`.
        objective: name of what is searched for, or a `keras_tuner.Objective`.
        structures: number of structures.
        settings: trials of each.
        structure_hyperparameters: names of the hyperparameters that change the structure. None: models are built to find them.
        seed: of all draws; 0 is a seed.
        **kwargs: those of `keras_tuner.Oracle` and `keras_tuner.Tuner`: `hyperparameters`, `directory`, `project_name`, `overwrite`, ...

    Raises:
        ValueError: a number is below 1; when the search begins, the structures of the models cannot be compared.
        TypeError: `structure_hyperparameters` is a text.

    Examples:
        >>> import tempfile
        >>> tuner = NuisanceSearch(lambda hp: None, "val_loss", structures=4, settings=10, directory=tempfile.mkdtemp())
        >>> tuner.oracle.max_trials
        40

    References:
        Godbole, Dahl, Gilmer, Shallue and Nado (2023), Deep learning tuning playbook. McKay, Beckman and Conover (1979), A comparison of
        three methods for selecting values of input variables.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        structures: int = 8,
        settings: int = 16,
        structure_hyperparameters: Iterable[str] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        given = oracle_arguments(kwargs)
        oracle = NuisanceOracle(structures, settings, structure_hyperparameters, seed=seed, objective=objective, **given)
        oracle.belongs_to(self)
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
