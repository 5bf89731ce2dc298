"""The update of the rows of an embedding that the batch named."""

from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext.optimizers._master_weights import MasterWeights, current_master


class SparseRows(MasterWeights):
    """Moves rows by the sum of their gradients, and leaves the others where the rule, or `lazy`, lets them stay."""

    lazy: bool

    def _update_rows(self, i: int, variable: Any, target: Any, rows: tuple[Any, Any], slots: list[Any], rate: Any) -> None:
        ids, gradient = rows
        gradient = ops.cast(gradient, rate.dtype)
        before = [ops.cast(_backend.take_rows(s, ids), rate.dtype) for s in slots]
        step, after = self._rule(gradient, before, rate)
        weight = _backend.take_rows(variable, ids)
        master = weight if target is variable else current_master(_backend.take_rows(target, ids), weight)
        old = ops.cast(master, rate.dtype)
        new = ops.subtract(self._decayed(i, old, rate) if self.lazy else old, step)
        for slot, past, value in zip(slots, before, after, strict=True):
            idle = None if self.lazy else self._idle(ops.cast(slot, rate.dtype))
            if idle is None:
                _backend.put_rows(self, slot, ids, past, value)
            else:
                self.assign(slot, _backend.with_rows(idle, ids, value))
        if target is not variable:
            _backend.put_rows(self, target, ids, ops.cast(_backend.take_rows(target, ids), rate.dtype), new)
        dtype = keras.backend.standardize_dtype(variable.dtype)
        _backend.put_rows(self, variable, ids, weight, ops.cast(new, dtype))

    def _idle(self, _slot: Any) -> Any:
        """Return a slot after a step without a gradient; None if it stays as it is."""
        return None

    def _sees_rows(self, gradient: Any) -> bool:
        """Return whether rows of zeros in a dense gradient count as untouched: where the backend has no sparse ones."""
        comes_dense = not _backend.has_sparse_gradients() or self.gradient_accumulation_steps or self.loss_scale_factor
        return self.lazy and bool(comes_dense) and len(gradient.shape) > 1
