"""Float32 copies of weights in half precision, in which small steps add up."""

from typing import Any

import keras
from keras import ops

HALF = ("float16", "bfloat16")


class MasterWeights(keras.optimizers.Optimizer):
    """Keeps a master of each weight in half precision, and float32 slots for it. A weight without a master is its own target."""

    master_weights: bool

    def _has_master(self, variable: Any) -> bool:
        return self.master_weights and keras.backend.standardize_dtype(variable.dtype) in HALF

    def add_variable_from_reference(self, reference_variable: Any, name: Any = None, initializer: Any = "zeros") -> Any:
        """Create a slot like `reference_variable`; in float32 where that has a master weight."""
        self._slot_dtype = "float32" if self._has_master(reference_variable) else None
        try:
            return super().add_variable_from_reference(reference_variable, name=name, initializer=initializer)
        finally:
            self._slot_dtype = None

    def add_variable(self, shape: Any, initializer: Any = "zeros", dtype: Any = None, **kwargs: Any) -> Any:
        """Create a variable of the optimizer."""
        return super().add_variable(shape, initializer=initializer, dtype=getattr(self, "_slot_dtype", None) or dtype, **kwargs)

    def _weight(self, variable: Any, target: Any, dtype: Any) -> Any:
        return ops.cast(variable if target is variable else current_master(target, variable), dtype)

    def _assign_weight(self, variable: Any, target: Any, value: Any) -> None:
        if target is not variable:
            self.assign(target, value)
        self.assign(variable, ops.cast(value, keras.backend.standardize_dtype(variable.dtype)))


def current_master(master: Any, variable: Any) -> Any:
    """Return the master weights; where they do not round to the weights, those were set from outside, and count."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    master, variable = ops.convert_to_tensor(master), ops.convert_to_tensor(variable)
    return ops.where(ops.equal(ops.cast(master, dtype), variable), master, ops.cast(variable, master.dtype))
