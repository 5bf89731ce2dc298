"""What the optimizers of the package share."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private


class ExactOptimizer(keras.optimizers.Optimizer):
    """A Keras optimizer that sums the rows of a repeated id before anything squares or clips them.

    The gradient of an embedding names a row once for each time the batch used it. Keras's optimizers square those parts one by one, which
    is another number than the square of their sum.
    """

    # What `update_step` does for each weight, for all at once by a function of `updates_of_lists`: each subclass has its own.
    _update_list: Callable[[Any, list[Any], list[Any], list[Any], Any], None]

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables by one step along `grads`."""
        super().apply([_backend.sum_repeated_rows(g) for g in grads], trainable_variables)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        # Keras's place, without a public name, for the update of all weights at once; its own optimizers use it on PyTorch.
        updates = _backend.updates_of_lists()
        if updates is None:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        variables = list(trainable_variables)
        weights = [v.value for v in variables]
        gradients = [g if g.dtype == w.dtype else self._as(g, w) for g, w in zip(grads, weights, strict=True)]
        self._update_list(updates, variables, weights, gradients, ops.convert_to_tensor(learning_rate))

    def _values(self, slots: list[Any], variables: list[Any]) -> list[Any]:
        """Return the tensors of the slots of `variables`; an empty list if there are no such slots."""
        return [self._slot(slots, v).value for v in variables] if slots else []

    def _slot(self, slots: list[Any], variable: Any) -> Any:
        return slots[keras_private.variable_index(self, variable)]

    def _gradient(self, gradient: Any, variable: Any) -> Any:
        # The sum over replicas puts their rows side by side, so that ids may repeat again.
        return self._as(_backend.sum_repeated_rows(gradient) if _backend.replica_count() > 1 else gradient, variable)

    def _as(self, value: Any, variable: Any) -> Any:
        return ops.cast(value, variable.dtype)
