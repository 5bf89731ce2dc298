"""A search that compares structures at their best setting: the same settings are tried with each structure."""

import inspect
import zlib
from collections.abc import Iterable
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_ext._checks import bad_argument, integer
from keras_ext.search import evolution
from keras_ext.search.oracle import CheckedOracle
from keras_ext.search.structure import NotComparable, Structure, structure_of

# Draws that may repeat an earlier structure, until the search ends: the space has no others.
_TRIES = 100


class NuisanceOracle(CheckedOracle):
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
        super().__init__(max_trials=self.structures * self.settings, **kwargs)
        is_named = isinstance(structure_hyperparameters, list | tuple | set | frozenset | type(None))
        if not is_named or not all(isinstance(name, str) for name in structure_hyperparameters or ()):
            raise bad_argument("structure_hyperparameters", "a list of names, or None", structure_hyperparameters, error=TypeError)
        # None until the first trial is drawn.
        self.structure_hyperparameters = None if structure_hyperparameters is None else tuple(structure_hyperparameters)
        self._tuner: Any = None

    def belongs_to(self, tuner: Any) -> None:
        """Let the oracle know which tuner builds the models."""
        self._tuner = tuner

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Choose the values of the next trial."""
        structure, setting = divmod(len(self.start_order), self.settings)
        if self.structure_hyperparameters is None:
            self.structure_hyperparameters = tuple(sorted(_Structures(self, self._tuner.hypermodel.build).names()))
        names = self.structure_hyperparameters
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
        return {**super().get_state(), "settings": self.settings, "structure_hyperparameters": self.structure_hyperparameters}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a saved state; more structures may be tried than before, with as many settings each."""
        super().set_state(state)
        names = state["structure_hyperparameters"]
        self.settings, self.structure_hyperparameters = state["settings"], None if names is None else tuple(names)
        self.max_trials = self.structures * self.settings


class _Structures:
    """Finds the hyperparameters that change the structure, by building models: each changes alone, from values with which it is active."""

    def __init__(self, oracle: Any, build: Any) -> None:
        self._oracle, self._build = oracle, build
        self._known: dict[Any, Structure | None] = {}
        # The values of the build that asked for a hyperparameter first.
        self._seen_with: dict[str, dict[str, Any]] = {}

    def names(self) -> set[str]:
        """Return the names; the space of the oracle gets the hyperparameters that only some of the models ask for."""
        first = self._structure({}, must_build=True)
        self._known.clear()
        again = self._structure({}, must_build=True)
        if first is None or again is None or first.key != again.key:
            raise _not_found("two models of the same values differ, as `build` makes a function or class of its own")
        names: set[str] = set()
        largest: dict[str, Any] = {}
        done = -1
        while done < len(names) + len(self._oracle.hyperparameters.space):
            done = len(names) + len(self._oracle.hyperparameters.space)
            for hp in self._oracle.get_space().space:
                base = self._seen_with.get(hp.name, {}) | {c.name: c.values[0] for c in hp.conditions}
                values = _values_to_try(hp)
                # A width of the third layer changes nothing where there is one layer: also with the other names' last values.
                if hp.name not in names and any(self._changes({**start, **base}, hp.name, values) for start in ({}, largest)):
                    names |= {hp.name, *(c.name for c in hp.conditions)}
                    largest[hp.name] = values[-1]
        return names

    def _changes(self, base: dict[str, Any], name: str, values: list[Any]) -> bool:
        return len({found.key for value in values if (found := self._structure({**base, name: value})) is not None}) > 1

    def _structure(self, values: dict[str, Any], *, must_build: bool = False) -> Structure | None:
        """Return the structure of a model of these values; None if it cannot be built: a trial that has them fails alone."""
        hps = self._oracle.get_space()
        hps.values = evolution.walked(hps.space, lambda hp: values.get(hp.name, hp.default))
        given = tuple(sorted(hps.values.items()))
        if given not in self._known:
            known = {hp.name for hp in hps.space}
            keras.backend.clear_session(free_memory=False)  # names of layers are in a structure
            try:
                model = self._build(hps)
            except Exception:
                if must_build:
                    raise
                self._known[given] = None
                return None
            self._oracle.update_space(hps)
            self._seen_with |= {hp.name: {**values, **hps.values} for hp in hps.space if hp.name not in known}
            self._known[given] = _structure_of(model)
        return self._known[given]


def _not_found(reason: Any) -> ValueError:
    return ValueError(f"The hyperparameters that change the structure cannot be found: {reason}. Name them in `structure_hyperparameters`.")


def _structure_of(model: Any) -> Structure:
    try:
        if not isinstance(model, keras.Model) or not model.compiled:
            raise NotComparable("build returns no compiled model")
        if model.built and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        return structure_of(model)
    except NotComparable as error:
        raise _not_found(error) from None


def _values_to_try(hp: Any) -> list[Any]:
    """Return values of a hyperparameter of which two differ in structure if it changes that.

    At 0 a number takes another path, and a search over numbers is none over structures: others are tried if there are two.
    """
    if isinstance(hp, keras_tuner.engine.hyperparameters.Int):
        values = [hp.prob_to_value(place) for place in (0, 0.5, 1 - 1e-9)]
    elif isinstance(hp, keras_tuner.engine.hyperparameters.Float):
        values = [hp.prob_to_value(place) for place in (0.25, 0.5, 0.75)]
    else:
        values = list(hp.values)
    values = list(dict.fromkeys(values))
    others = [value for value in values if isinstance(value, bool | str) or value != 0]
    return others if len(others) > 1 else values


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
        names = inspect.signature(keras_tuner.Oracle).parameters
        given = {name: kwargs.pop(name) for name in list(kwargs) if name in names and name != "max_trials"}
        oracle = NuisanceOracle(structures, settings, structure_hyperparameters, seed=seed, objective=objective, **given)
        oracle.belongs_to(self)
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)
