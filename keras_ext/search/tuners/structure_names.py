"""The hyperparameters that change the structure of a model, found by building models."""

from collections.abc import Iterable
from typing import Any

import keras
import keras_tuner

from keras_ext._checks import bad_argument
from keras_ext.search.together.structure import NotComparable, Structure, structure_of
from keras_ext.search.tuners import evolution
from keras_ext.search.tuners.oracle import CheckedOracle


class StructureOracle(CheckedOracle):
    """KerasTuner's oracle that knows which hyperparameters change the structure of its tuner's models.

    Args:
        structure_hyperparameters: their names. None: those that the hypermodel's
            `changes_structure(name)` says, or that models show, which are built to find them.
        **kwargs: of `CheckedOracle`.
    """

    def __init__(self, structure_hyperparameters: Iterable[str] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = structure_hyperparameters
        is_list = isinstance(names, list | tuple | set | frozenset | type(None))
        if not is_list or not all(isinstance(name, str) for name in names or ()):
            raise bad_argument("structure_hyperparameters", "a list of names, or None", names, error=TypeError)
        # None until the first of them is needed.
        self.structure_hyperparameters: tuple[str, ...] | None = None if names is None else tuple(names)
        self._tuner: Any = None

    def belongs_to(self, tuner: Any) -> None:
        """Let the oracle know which tuner builds the models."""
        self._tuner = tuner

    def structure_names(self) -> tuple[str, ...]:
        """Return the names of the hyperparameters that change the structure.

        Raises:
            ValueError: the structures of the models cannot be compared.
        """
        if self.structure_hyperparameters is None:
            hypermodel = self._tuner.hypermodel
            changes = getattr(hypermodel, "changes_structure", None)
            known = dict.fromkeys(hp.name for hp in self.get_space().space)
            found = _Structures(self, hypermodel.build).names() if changes is None else filter(changes, known)
            self.structure_hyperparameters = tuple(sorted(found))
        return self.structure_hyperparameters

    def get_state(self) -> dict[str, Any]:
        """Return what a reloaded oracle needs."""
        return {**super().get_state(), "structure_hyperparameters": self.structure_hyperparameters}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
        super().set_state(state)
        names = state["structure_hyperparameters"]
        self.structure_hyperparameters = self.structure_hyperparameters if names is None else tuple(names)


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
