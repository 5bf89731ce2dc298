"""What the optimizers of the package share."""

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

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables by one step along `grads`."""
        super().apply([_backend.sum_repeated_rows(g) for g in grads], trainable_variables)

    def _slot(self, slots: list[Any], variable: Any) -> Any:
        return slots[keras_private.variable_index(self, variable)]

    def _gradient(self, gradient: Any, variable: Any) -> Any:
        # The sum over replicas puts their rows side by side, so that ids may repeat again.
        return self._as(_backend.sum_repeated_rows(gradient) if _backend.replica_count() > 1 else gradient, variable)

    def _as(self, value: Any, variable: Any) -> Any:
        return ops.cast(value, variable.dtype)
