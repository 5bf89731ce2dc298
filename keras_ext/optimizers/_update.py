"""The update of weights by an optimizer's rule: one by one, by rows, or in groups."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.optimizers._master_weights import HALF, current_master
from keras_ext.optimizers._sparse_rows import SparseRows


@dataclass(frozen=True)
class _Plan:
    """Which of the weights that `key` stands for move one by one, and which in groups."""

    key: tuple[int, ...]
    singly: list[int]
    groups: dict[Any, tuple[list[int], list[int]]]


class Update(SparseRows):
    """Moves weights by the rule of a subclass, which gives `_slots`, `_rule` and `_update_list`."""

    # Returns the lists of slots that are in use, each with one slot a weight.
    _slots: Callable[[], list[list[Any]]]
    # From a gradient, the values of its slots and the rate: what is taken off the weight, and the slots' next values. Pure, and by number.
    _rule: Callable[[Any, list[Any], Any], tuple[Any, list[Any]]]
    # Lets `updates`, the backend's own kernels, do that for weights, gradients, slots and a rate; returns whether they did.
    _update_list: Callable[[Any, list[Any], list[Any], list[list[Any]], Any], bool]
    # Whether a row whose gradient is 0 stays where it is by the rule itself.
    _exact_by_rows: Any = False
    _masters: list[Any]
    _multipliers: list[float]
    _decays: list[bool]
    _plan: _Plan | None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        i = keras_private.variable_index(self, variable)
        target = variable if self._masters[i] is None else self._masters[i]
        wide = keras.backend.result_type(keras.backend.standardize_dtype(target.dtype), "float32")
        rate = ops.cast(learning_rate, wide)
        if self._multipliers[i] != 1:
            rate = rate * self._multipliers[i]
        slots = [slots[i] for slots in self._slots()]
        rows = _backend.row_sums(gradient)
        if rows is not None and (self.lazy or self._exact_by_rows):
            if self._decays[i] and not self.lazy:
                self._assign_weight(variable, target, self._decayed(i, self._weight(variable, target, wide), rate))
            self._update_rows(i, variable, target, rows, slots, rate)
            return
        gradient = ops.cast(_backend.dense(gradient), wide)
        updates = _backend.updates_of_lists()
        by_kernel = target is variable and keras.backend.standardize_dtype(variable.dtype) == wide
        if updates is not None and by_kernel and not self._sees_rows(gradient):
            weights = [_native(variable)]
            if self._decays[i]:
                updates.decay(weights, rate=rate * self.weight_decay)
            if self._update_list(updates, weights, [gradient], [[s.value] for s in slots], rate):
                return
            old = ops.convert_to_tensor(weights[0])
        else:
            old = self._decayed(i, self._weight(variable, target, wide), rate)
        self._update_by_rule(i, variable, target, gradient, slots, rate, old)

    def _update_by_rule(self, i: int, variable: Any, target: Any, gradient: Any, slots: list[Any], rate: Any, old: Any) -> None:
        before = [ops.cast(s, gradient.dtype) for s in slots]
        step, after = self._rule(gradient, before, rate)
        if self._sees_rows(gradient):
            touched = ops.any(ops.not_equal(gradient, 0), axis=tuple(range(1, len(gradient.shape))), keepdims=True)
            after = [ops.where(touched, a, b) for a, b in zip(after, before, strict=True)]
            new = ops.where(touched, ops.subtract(old, step), self._weight(variable, target, gradient.dtype))
        else:
            new = ops.subtract(old, step)
        for slot, value in zip(slots, after, strict=True):
            self.assign(slot, value)
        self._assign_weight(variable, target, new)

    def _decayed(self, i: int, w: Any, rate: Any) -> Any:
        return ops.multiply(w, 1 - rate * self.weight_decay) if self._decays[i] else w

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        # The update of all weights; Keras's own optimizers too use it on PyTorch to move them at once.
        if not _backend.updates_every_weight_at_once() or self.lazy:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        singly, groups = self._grouped(list(trainable_variables), list(grads))
        for k in singly:
            self.update_step(grads[k], trainable_variables[k], learning_rate)
        for (dtype, _, has_master, factor, decays), (members, places) in groups.items():
            variables, gradients = [trainable_variables[k] for k in members], [grads[k] for k in members]
            rate = ops.cast(learning_rate, dtype)
            self._update_group(variables, gradients, places, rate if factor == 1 else rate * factor, has_master, decays)

    def _grouped(self, variables: list[Any], grads: list[Any]) -> tuple[list[int], dict[Any, tuple[list[int], list[int]]]]:
        """Return which weights are updated one by one, and groups of the others, each with their places here and in the slots."""
        key = tuple(map(id, variables))
        if self._plan is None or self._plan.key != key:
            singly: list[int] = []
            groups: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
            for k, (v, g) in enumerate(zip(variables, grads, strict=True)):
                i = keras_private.variable_index(self, v)
                target = v if self._masters[i] is None else self._masters[i]
                dtype = keras.backend.standardize_dtype(target.dtype)
                if dtype in HALF or (self._exact_by_rows and _backend.row_ids(g) is not None):
                    singly.append(k)
                else:
                    members, places = groups[dtype, _native(v).device, target is not v, self._multipliers[i], self._decays[i]]
                    members.append(k)
                    places.append(i)
            # Run eagerly, this costs more than the update of small weights. A sparse gradient stays one.
            self._plan = _Plan(key, singly, dict(groups))
        return self._plan.singly, self._plan.groups

    def _update_group(self, variables: list[Any], grads: list[Any], places: list[int], rate: Any, has_master: bool, decays: bool) -> None:
        updates = _backend.updates_of_lists()
        targets = [self._masters[i] for i in places] if has_master else variables
        if has_master:
            for v, m in zip(variables, targets, strict=True):
                m.assign(current_master(m, v))
        weights = [_native(t) for t in targets]
        gradients = [g if g.dtype == w.dtype else ops.cast(g, rate.dtype) for g, w in zip(map(_backend.dense, grads), weights, strict=True)]
        if decays:
            updates.decay(weights, rate=rate * self.weight_decay)
        slots = [[slots[i] for i in places] for slots in self._slots()]
        if self._update_list(updates, weights, gradients, [[s.value for s in each] for each in slots], rate):
            if has_master:
                for v, m in zip(variables, targets, strict=True):
                    v.assign(ops.cast(m, v.dtype))
            return
        for k, (i, v, t) in enumerate(zip(places, variables, targets, strict=True)):
            self._update_by_rule(i, v, t, gradients[k], [each[k] for each in slots], rate, ops.convert_to_tensor(t))


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable
