"""The update of weights by an optimizer's rule: one by one, by rows, or in groups."""

from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private

_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class _Plan:
    """Which of the weights that `key` stands for move one by one, and which in groups."""

    key: tuple[int, ...]
    singly: list[int]
    groups: dict[Any, tuple[list[int], list[int]]]


class Update(keras.optimizers.Optimizer, ABC):
    """Moves weights by the rule of a subclass.

    With `master_weights` each weight in half precision has a master, a float32 copy in which small steps add up, and float32 slots. A
    weight without a master is its own target. Rows of an embedding that the batch named move by the sum of their gradients; the others stay
    where the rule, or `lazy`, lets them.
    """

    lazy: bool
    master_weights: bool
    _masters: list[Any]
    _multipliers: list[float]
    _decays: list[bool]
    _plan: _Plan | None
    # The function for it among the backend's updates of lists.
    _kernel: str
    # Whether a row whose gradient is 0 stays where it is by the rule itself.
    _exact_by_rows: Any = False

    @abstractmethod
    def _build_slots(self, variables: list[Any]) -> None:
        """Create the slots of the variables, with Keras's names and in Keras's order."""

    @abstractmethod
    def _slots(self) -> list[list[Any]]:
        """Return the lists of slots that are in use, each with one slot a weight."""

    @abstractmethod
    def _rule(self, g: Any, slots: list[Any], rate: Any) -> tuple[Any, list[Any]]:
        """Return what is taken off a weight, and the next values of its slots; a pure function, number by number."""

    def _idle(self, slot: Any) -> Any:
        """Return a slot after a step without a gradient; None if it stays as it is."""

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

    def _has_master(self, variable: Any) -> bool:
        return self.master_weights and _dtype(variable) in _HALF

    def _target(self, i: int, variable: Any) -> Any:
        return variable if self._masters[i] is None else self._masters[i]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        i = keras_private.variable_index(self, variable)
        target = self._target(i, variable)
        wide = keras.backend.result_type(_dtype(target), "float32")
        rate = ops.cast(learning_rate, wide)
        if self._multipliers[i] != 1:
            rate = rate * self._multipliers[i]
        slots = [slots[i] for slots in self._slots()]
        rows = _backend.row_sums(gradient)
        if rows is not None and (self.lazy or self._exact_by_rows):
            if self._decays[i] and not self.lazy:
                self._assign_weight(variable, target, self._decayed(i, _weight(variable, target, wide), rate))
            self._update_rows(i, variable, target, rows, slots, rate)
            return
        gradient = ops.cast(_backend.dense(gradient), wide)
        updates = _backend.updates_of_lists()
        if updates is not None and target is variable and _dtype(variable) == wide and not self._sees_rows(gradient):
            weights = [_native(variable)]
            if self._decays[i]:
                updates.decay(weights, rate=rate * self.weight_decay)
            if getattr(updates, self._kernel)(self, weights, [gradient], [[s.value] for s in slots], rate):
                return
            old = ops.convert_to_tensor(weights[0])
        else:
            old = self._decayed(i, _weight(variable, target, wide), rate)
        self._update_by_rule(variable, target, gradient, slots, rate, old)

    def _update_by_rule(self, variable: Any, target: Any, gradient: Any, slots: list[Any], rate: Any, old: Any) -> None:
        before = [ops.cast(s, gradient.dtype) for s in slots]
        step, after = self._rule(gradient, before, rate)
        new = ops.subtract(old, step)
        if self._sees_rows(gradient):
            touched = ops.any(ops.not_equal(gradient, 0), axis=tuple(range(1, len(gradient.shape))), keepdims=True)
            after = [ops.where(touched, a, b) for a, b in zip(after, before, strict=True)]
            new = ops.where(touched, new, _weight(variable, target, gradient.dtype))
        for slot, value in zip(slots, after, strict=True):
            self.assign(slot, value)
        self._assign_weight(variable, target, new)

    def _update_rows(self, i: int, variable: Any, target: Any, rows: tuple[Any, Any], slots: list[Any], rate: Any) -> None:
        ids, gradient = rows
        before = [ops.cast(_backend.take_rows(s, ids), rate.dtype) for s in slots]
        step, after = self._rule(ops.cast(gradient, rate.dtype), before, rate)
        weight = _backend.take_rows(variable, ids)
        master = weight if target is variable else _current_master(_backend.take_rows(target, ids), weight)
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
        _backend.put_rows(self, variable, ids, weight, ops.cast(new, _dtype(variable)))

    def _sees_rows(self, gradient: Any) -> bool:
        """Return whether rows of zeros in a dense gradient count as untouched: where the backend has no sparse ones."""
        comes_dense = keras.backend.backend() != "tensorflow" or self.gradient_accumulation_steps or self.loss_scale_factor
        return self.lazy and bool(comes_dense) and len(gradient.shape) > 1

    def _decayed(self, i: int, w: Any, rate: Any) -> Any:
        return ops.multiply(w, 1 - rate * self.weight_decay) if self._decays[i] else w

    def _assign_weight(self, variable: Any, target: Any, value: Any) -> None:
        if target is not variable:
            self.assign(target, value)
        self.assign(variable, ops.cast(value, _dtype(variable)))

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        # The update of all weights; Keras's own optimizers too use it on PyTorch to move them at once.
        # A subclass of the user's own may change the update of each weight.
        is_ours = getattr(type(self).update_step, "__module__", None) == __name__
        if self.lazy or not is_ours or _backend.updates_of_lists(together=True) is None:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        plan = self._grouped(list(trainable_variables), list(grads))
        for k in plan.singly:
            self.update_step(grads[k], trainable_variables[k], learning_rate)
        for (dtype, _, has_master, factor, decays), (members, places) in plan.groups.items():
            variables, gradients = [trainable_variables[k] for k in members], [grads[k] for k in members]
            rate = ops.cast(learning_rate, dtype)
            self._update_group(variables, gradients, places, rate if factor == 1 else rate * factor, has_master, decays)

    def _grouped(self, variables: list[Any], grads: list[Any]) -> _Plan:
        """Return the plan for these weights: each with its place among them, those in groups with their places in the slots too."""
        key = tuple(map(id, variables))
        # Run eagerly, making one costs more than the update of small weights.
        if self._plan is not None and self._plan.key == key:
            return self._plan
        singly: list[int] = []
        groups: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for k, (v, g) in enumerate(zip(variables, grads, strict=True)):
            i = keras_private.variable_index(self, v)
            target = self._target(i, v)
            # A sparse gradient stays one.
            if _dtype(target) in _HALF or (self._exact_by_rows and _backend.row_ids(g) is not None):
                singly.append(k)
            else:
                members, places = groups[_dtype(target), _native(v).device, target is not v, self._multipliers[i], self._decays[i]]
                members.append(k)
                places.append(i)
        self._plan = _Plan(key, singly, dict(groups))
        return self._plan

    def _update_group(self, variables: list[Any], grads: list[Any], places: list[int], rate: Any, has_master: bool, decays: bool) -> None:
        updates = _backend.updates_of_lists()
        targets = [self._target(i, v) for i, v in zip(places, variables, strict=True)]
        if has_master:
            for v, m in zip(variables, targets, strict=True):
                m.assign(_current_master(m, v))
        weights = [_native(t) for t in targets]
        gradients = [g if g.dtype == w.dtype else ops.cast(g, rate.dtype) for g, w in zip(map(_backend.dense, grads), weights, strict=True)]
        if decays:
            updates.decay(weights, rate=rate * self.weight_decay)
        slots = [[slots[i] for i in places] for slots in self._slots()]
        if getattr(updates, self._kernel)(self, weights, gradients, [[s.value for s in each] for each in slots], rate):
            if has_master:
                for v, m in zip(variables, targets, strict=True):
                    v.assign(ops.cast(m, v.dtype))
            return
        for k, (v, t) in enumerate(zip(variables, targets, strict=True)):
            self._update_by_rule(v, t, gradients[k], [each[k] for each in slots], rate, ops.convert_to_tensor(t))


def _dtype(variable: Any) -> str:
    return keras.backend.standardize_dtype(variable.dtype)


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _weight(variable: Any, target: Any, dtype: Any) -> Any:
    return ops.cast(variable if target is variable else _current_master(target, variable), dtype)


def _current_master(master: Any, variable: Any) -> Any:
    """Return the master weights; where they do not round to the weights, those were set from outside, and count."""
    dtype = _dtype(variable)
    master, variable = ops.convert_to_tensor(master), ops.convert_to_tensor(variable)
    return ops.where(ops.equal(ops.cast(master, dtype), variable), master, ops.cast(variable, master.dtype))
