"""Copies of an optimizer that keep its state, by `copy.deepcopy` and by pickle."""

from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import BadInput


class KeepsState(keras.optimizers.Optimizer):
    """For optimizers: a copy goes on where the original is. Keras's are copied by their config, and begin again without a word.

    A deep copy moves the same weights. A pickled optimizer has left them behind: it takes the first weights that it is built on, which must
    have the shapes of the old ones, and its `variables` have the saved values until then.
    """

    # Held until `build`: the values of the variables, by group, and how many of each group have them already.
    _saved_state: tuple[tuple[Any, ...], ...] | None = None
    _restored: list[int] | None = None

    @property
    def variables(self) -> list[Any]:
        """The optimizer's variables."""
        if self._saved_state is not None:
            return [keras.Variable(value, trainable=False, dtype=value.dtype.name) for group in self._saved_state for value in group]
        return [v for group in self._groups() for v in group]

    def _groups(self) -> list[list[Any]]:
        """Return the variables by owner; each list may grow at its end when the optimizer is built."""
        return [super().variables]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy = type(self).from_config(self._arguments())
        memo[id(self)] = copy
        copy._saved_state = self._state()
        if self.built:
            # Weights that are copied along in one go stand in the memo.
            copy.build([memo.get(id(v), v) for v in self._trainable_variables])
        copy._restore_state()
        return copy

    def __reduce__(self) -> Any:
        return _unpickled, (type(self), self._arguments(), self._state())

    def _state(self) -> tuple[tuple[Any, ...], ...]:
        return self._saved_state or tuple(tuple(ops.convert_to_numpy(v) for v in group) for group in self._groups())

    def _arguments(self) -> dict[str, Any]:
        """Return what `from_config` makes a copy of; a function that gives the rate goes along as it is."""
        return {**self.get_config(), **keras_private.rate_function(self)}

    def _restore_state(self) -> None:
        """Give the variables the values that were saved: first those that there are without weights, in `build` the rest."""
        if self._saved_state is None:
            return
        groups = self._groups()
        for group, values in zip(groups, self._saved_state, strict=True):
            same = all(tuple(v.shape) == value.shape for v, value in zip(group, values, strict=False))
            if not same or (self.built and len(group) != len(values)):
                error = BadInput(
                    f"The optimizer {self.name!r} was copied with {_described(values)}, and has {_described(group)} on these weights. "
                    "Build it on the weights, in their order, that it had."
                )
                self._unbuild()
                raise error
        with _backend.outside_of_graphs():
            for group, values, done in zip(groups, self._saved_state, self._restored or [0] * len(groups), strict=True):
                # What was set since, such as the rate, stays.
                for variable, value in list(zip(group, values, strict=False))[done:]:
                    variable.assign(value)
        self._restored = [len(group) for group in groups]
        if all(len(group) == len(values) for group, values in zip(groups, self._saved_state, strict=True)):
            self._saved_state = None

    def _unbuild(self) -> None:
        """Become again what it was before `build`, so that it can be built on the right weights."""
        kept, restored = self._saved_state, self._restored or []
        early = [[ops.convert_to_numpy(v) for v in group[:n]] for group, n in zip(self._groups(), restored, strict=False)]
        self.__dict__.update(type(self).from_config(self._arguments()).__dict__)
        for group, values in zip(self._groups(), early, strict=False):
            for variable, value in zip(group, values, strict=False):
                variable.assign(value)
        self._saved_state, self._restored = kept, [len(values) for values in early]


def _described(variables: Any) -> str:
    shapes = ", ".join(str(tuple(v.shape)) for v in variables[:8])
    return f"{len(variables)} variables of the shapes {shapes}{', ...' if len(variables) > 8 else ''}"


def _unpickled(cls: Any, arguments: dict[str, Any], state: Any) -> Any:
    optimizer = cls.from_config(arguments)
    optimizer._saved_state = state
    optimizer._restore_state()
    return optimizer
