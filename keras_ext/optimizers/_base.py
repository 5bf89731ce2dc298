"""What the optimizers of the package share: everything but the rule by which one weight moves."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import flag
from keras_ext.optimizers import _per_weight, clipping_rules
from keras_ext.optimizers._arguments import checked
from keras_ext.optimizers._copies import KeepsState

HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class _Plan:
    """Which of the weights that `key` stands for move one by one, and which in groups."""

    key: tuple[int, ...]
    singly: list[int]
    groups: dict[Any, tuple[list[int], list[int]]]


class ExactOptimizer(KeepsState):
    """A Keras optimizer that is exact on repeated rows, and whose clipping, decay and copies do what they say.

    The gradient of an embedding names a row once for each time the batch used it. Keras's optimizers square those parts one by one, which
    is another number than the square of their sum. A subclass gives `_build_slots`, `_slots`, `_rule` and `_update_list`.
    """

    # Creates the slots of the variables, with Keras's names and in Keras's order.
    _build_slots: Callable[[list[Any]], None]
    # Returns the lists of slots that are in use, each with one slot a weight.
    _slots: Callable[[], list[list[Any]]]
    # From a gradient, the values of its slots and the rate: what is taken off the weight, and the slots' next values. Pure, and by number.
    _rule: Callable[[Any, list[Any], Any], tuple[Any, list[Any]]]
    # Lets `updates`, the backend's own kernels, do that for weights, gradients, slots and a rate; returns whether they did.
    _update_list: Callable[[Any, list[Any], list[Any], list[list[Any]], Any], bool]
    # Whether a row whose gradient is 0 stays where it is by the rule itself.
    _exact_by_rows: Any = False

    def __init__(
        self,
        learning_rate: Any,
        *,
        lazy: bool = False,
        master_weights: bool = False,
        learning_rate_multipliers: Any = None,
        exclude_from_weight_decay: Any = None,
        exclude_norms_and_biases: bool = False,
        **kwargs: Any,
    ) -> None:
        learning_rate, kwargs = checked(learning_rate, kwargs)
        multipliers = _per_weight.checked_multipliers("learning_rate_multipliers", learning_rate_multipliers)
        excluded = _per_weight.checked_entries("exclude_from_weight_decay", exclude_from_weight_decay)
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.lazy = flag("lazy", lazy)
        self.master_weights = flag("master_weights", master_weights)
        self.exclude_norms_and_biases = flag("exclude_norms_and_biases", exclude_norms_and_biases)
        self.learning_rate_multipliers = multipliers
        self._excluded = excluded
        # Weights that `exclude_from_weight_decay` was given.
        self._excluded_ids: set[Any] = set()
        self._excluded_paths: list[str] = []
        self._masters: list[Any] = []
        self._multipliers: list[float] = []
        self._decays: list[bool] = []
        self._plan: _Plan | None = None

    def build(self, variables: Any) -> None:
        """Create the slots of `variables`."""
        if self.built:
            return
        variables = list(variables)
        super().build(variables)
        self._build_slots(variables)
        # Zeros: an update takes a master that does not round to its weight from the weight.
        self._masters = [self.add_variable_from_reference(v, "master") if self._has_master(v) else None for v in variables]
        self._multipliers = [_per_weight.multiplier(_per_weight.path_of(v), self.learning_rate_multipliers) for v in variables]
        self._decays = [self._decays_weight(v) for v in variables]
        _per_weight.warn_of_idle("learning_rate_multipliers", self.learning_rate_multipliers, variables)
        if self.weight_decay is not None:
            _per_weight.warn_of_idle("exclude_from_weight_decay", self._excluded, variables)
        self._restore_state()

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

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude weights from weight decay, instead of those excluded so far. A step that is compiled already stays as it is.

        Args:
            var_list: variables.
            var_names: regular expressions; weights whose name has one in it are excluded.
        """
        self._excluded = [f"@{entry}" for entry in _per_weight.checked_entries("var_names", var_names)]
        self._excluded_ids = {self._var_key(v) for v in var_list or []}
        self._excluded_paths = [_per_weight.path_of(v) for v in var_list or []]
        if self.built:
            self._decays = [self._decays_weight(v) for v in self._trainable_variables]
            self._plan = None

    def _decays_weight(self, variable: Any) -> bool:
        if self.weight_decay is None or (self.exclude_norms_and_biases and _per_weight.is_norm_or_bias(variable)):
            return False
        return self._var_key(variable) not in self._excluded_ids and not _per_weight.matches(_per_weight.path_of(variable), self._excluded)

    def without_weight_decay(self) -> list[Any]:
        """Return the weights that are excluded from weight decay; there is nothing to tell before the optimizer is built."""
        return [v for v, decays in zip(self._trainable_variables, self._decays, strict=True) if not decays]

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Update the variables by one step along `grads`."""
        if self.loss_scale_factor is not None:
            # Keras divides by it what it cannot divide.
            grads = [None if g is None else _backend.dense(g) for g in grads]
        return super().apply(grads, trainable_variables)

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

    def _update_rows(self, i: int, variable: Any, target: Any, rows: tuple[Any, Any], slots: list[Any], rate: Any) -> None:
        ids, gradient = rows
        gradient = ops.cast(gradient, rate.dtype)
        before = [ops.cast(_backend.take_rows(s, ids), rate.dtype) for s in slots]
        step, after = self._rule(gradient, before, rate)
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
        dtype = keras.backend.standardize_dtype(variable.dtype)
        _backend.put_rows(self, variable, ids, weight, ops.cast(new, dtype))

    def _idle(self, _slot: Any) -> Any:
        """Return a slot after a step without a gradient; None if it stays as it is."""
        return None

    def _sees_rows(self, gradient: Any) -> bool:
        """Return whether rows of zeros in a dense gradient count as untouched: where the backend has no sparse ones."""
        comes_dense = not _backend.has_sparse_gradients() or self.gradient_accumulation_steps or self.loss_scale_factor
        return self.lazy and bool(comes_dense) and len(gradient.shape) > 1

    def _weight(self, variable: Any, target: Any, dtype: Any) -> Any:
        return ops.cast(variable if target is variable else _current_master(target, variable), dtype)

    def _assign_weight(self, variable: Any, target: Any, value: Any) -> None:
        if target is not variable:
            self.assign(target, value)
        self.assign(variable, ops.cast(value, keras.backend.standardize_dtype(variable.dtype)))

    def _decayed(self, i: int, w: Any, rate: Any) -> Any:
        return ops.multiply(w, 1 - rate * self.weight_decay) if self._decays[i] else w

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "lazy": self.lazy,
            "master_weights": self.master_weights,
            "learning_rate_multipliers": self._saved_multipliers(),
            "exclude_from_weight_decay": self._saved_exclusions(),
            "exclude_norms_and_biases": self.exclude_norms_and_biases,
        }

    # Once the weights are known they stand in the config too, as a file or a clone may change the paths that an expression is found in.

    def _saved_multipliers(self) -> dict[str, float]:
        known = zip(self._trainable_variables, self._multipliers, strict=True) if self.built else ()
        return {**self.learning_rate_multipliers, **{f"={_per_weight.path_of(v)}": factor for v, factor in known if factor != 1}}

    def _saved_exclusions(self) -> list[str]:
        entries = [*self._excluded, *(f"={path}" for path in self._excluded_paths)]
        if self.built and entries:
            paths = [_per_weight.path_of(v) for v in self._trainable_variables]
            entries += [f"={path}" for path in paths if _per_weight.matches(path, self._excluded)]
        return list(dict.fromkeys(entries))

    # From here on Keras's places without a public name; each is watched by tests/test_keras_private.py.

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        # The update of all weights; Keras's own optimizers too use it on PyTorch to move them at once.
        if not _backend.updates_every_weight_at_once() or self.lazy:
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        singly, groups = self._grouped(list(trainable_variables), list(grads))
        for k in singly:
            self.update_step(grads[k], trainable_variables[k], learning_rate)
        for (dtype, _, has_no_master, factor, decays), (members, places) in groups.items():
            variables, gradients = [trainable_variables[k] for k in members], [grads[k] for k in members]
            rate = ops.cast(learning_rate, dtype)
            self._update_group(variables, gradients, places, rate if factor == 1 else rate * factor, has_no_master, decays)

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
                    members, places = groups[dtype, _native(v).device, target is v, self._multipliers[i], self._decays[i]]
                    members.append(k)
                    places.append(i)
            # Run eagerly, this costs more than the update of small weights. A sparse gradient stays one.
            self._plan = _Plan(key, singly, dict(groups))
        return self._plan.singly, self._plan.groups

    def _update_group(
        self, variables: list[Any], grads: list[Any], places: list[int], rate: Any, has_no_master: bool, decays: bool
    ) -> None:
        updates = _backend.updates_of_lists()
        targets = variables if has_no_master else [self._masters[i] for i in places]
        if not has_no_master:
            for v, m in zip(variables, targets, strict=True):
                m.assign(_current_master(m, v))
        weights = [_native(t) for t in targets]
        gradients = [g if g.dtype == w.dtype else ops.cast(g, rate.dtype) for g, w in zip(map(_backend.dense, grads), weights, strict=True)]
        if decays:
            updates.decay(weights, rate=rate * self.weight_decay)
        slots = [[slots[i] for i in places] for slots in self._slots()]
        if self._update_list(updates, weights, gradients, [[s.value for s in each] for each in slots], rate):
            if not has_no_master:
                for v, m in zip(variables, targets, strict=True):
                    v.assign(ops.cast(m, v.dtype))
            return
        for k, (i, v, t) in enumerate(zip(places, variables, targets, strict=True)):
            self._update_by_rule(i, v, t, gradients[k], [each[k] for each in slots], rate, ops.convert_to_tensor(t))

    def _backend_apply_gradients(self, grads: Any, trainable_variables: Any) -> None:
        # Keras puts a condition around sums over replicas, which TensorFlow refuses inside a replica: accumulation and
        # `ema_overwrite_frequency` raise under MirroredStrategy.
        if self.gradient_accumulation_steps and self.master_weights:
            # Their accumulators are float32.
            masters = [self._masters[keras_private.variable_index(self, v)] for v in trainable_variables]
            grads = [g if m is None else ops.cast(_backend.dense(g), m.dtype) for g, m in zip(grads, masters, strict=True)]
        if not _backend.in_replica() or not (self.gradient_accumulation_steps or (self.use_ema and self.ema_overwrite_frequency)):
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        variables = list(trainable_variables)
        if self.gradient_accumulation_steps:
            # The replicas' sum, so that every replica keeps the same, and a checkpoint of the first has all.
            whole = [_backend.dense(g) for g in _backend.sum_over_replicas(list(grads))]
            last = ops.equal((self._iterations + 1) % self.gradient_accumulation_steps, 0)
            _backend.choose(last, lambda g: self._step_with_accumulated(g, variables), lambda g: self._accumulate(g, variables), [], whole)
        else:
            self._step(grads, variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
            if self.ema_overwrite_frequency:
                due = ops.equal((self.iterations + 1) % self.ema_overwrite_frequency, 0)
                _backend.choose(due, self._overwrite_with_average, _nothing, [])

    def _accumulators_of(self, variables: list[Any]) -> list[Any]:
        return [self._accumulated_gradients[keras_private.variable_index(self, v)] for v in variables]

    def _accumulate(self, whole: list[Any], variables: list[Any]) -> None:
        self._backend_increment_gradient_accumulators(whole, self._accumulators_of(variables))

    def _step_with_accumulated(self, whole: list[Any], variables: list[Any]) -> None:
        share = self.gradient_accumulation_steps * _backend.replica_count()
        accumulated = self._accumulators_of(variables)
        self._step([(g + a) / share for g, a in zip(whole, accumulated, strict=True)], variables)
        self._backend_increment_gradient_accumulators([-ops.convert_to_tensor(a) for a in accumulated], accumulated)

    def _step(self, grads: Any, variables: list[Any]) -> None:
        self._backend_update_step(self._clip_gradients(grads), variables, self.learning_rate)

    def _overwrite_with_average(self) -> None:
        self._overwrite_model_variables_with_average_value(self._trainable_variables)

    def _overwrite_model_variables_with_average_value(self, trainable_variables: Any) -> None:
        # Averages are float32 where there are master weights; Keras's way on TensorFlow does not stand that, nor a replica.
        for v, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                v.assign(ops.cast(average, v.dtype))

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: the update decays a weight by its own rate, and with `lazy` those rows alone that it touches."""

    def _clip_gradients(self, grads: Any) -> Any:
        # Keras lets `clipnorm=0` pass, takes norms in the gradients' own dtype, and clips what one replica has.
        for argument, rule in (("clipnorm", "norm"), ("global_clipnorm", "global_norm"), ("clipvalue", "value")):
            threshold = getattr(self, argument)
            if threshold is not None:
                whole = clipping_rules.over_replicas(grads)
                norm = clipping_rules.joint(whole) if rule == "global_norm" else None
                return clipping_rules.share_of_replica(clipping_rules.RULES[rule](threshold).clip(whole, [], norm, {}).gradients)
        return grads


def _native(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _nothing() -> None:
    pass


def _current_master(master: Any, variable: Any) -> Any:
    """Return the master weights; where they do not round to the weights, those were set from outside, and count."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    master, variable = ops.convert_to_tensor(master), ops.convert_to_tensor(variable)
    return ops.where(ops.equal(ops.cast(master, dtype), variable), master, ops.cast(variable, master.dtype))
