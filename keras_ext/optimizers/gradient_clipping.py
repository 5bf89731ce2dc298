"""Gradient clipping around any Keras optimizer."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import integer, one_of
from keras_ext._config import config_of
from keras_ext.optimizers import _per_weight
from keras_ext.optimizers._clipping_arguments import check_inner, checked_rule, optimizer_of
from keras_ext.optimizers._clipping_counts import Counts
from keras_ext.optimizers._copies import KeepsState
from keras_ext.optimizers.clipping_rules import over_replicas, share_of_replica

_POLICIES = ("skip", "zero", "raise", "propagate")


def _count(name: str) -> property:
    def read(self: "GradientClipping") -> int:
        return self._read(name)

    return property(read, doc=f"Number of {name.replace('_', ' ')} so far; see the class.")


@keras.saving.register_keras_serializable(package="keras_ext")
class GradientClipping(KeepsState):
    """Bound the gradients by a rule, leave out steps that are not finite, then let another optimizer take the step.

    Works around every Keras optimizer, `MultiOptimizer` and those of this package. Learning rate, `iterations`, schedules, moving averages
    and gradient accumulation are the inner optimizer's; accumulated gradients are clipped together, and kept once more here. Under
    `tf.distribute.MirroredStrategy` the gradients are summed over the replicas before they are clipped, and the inner optimizer sums again;
    Keras clips each replica's part: two with `global_clipnorm=1` leave a norm of up to 2. Rows of one embedding id are summed before a
    norm is taken, in float32.

    Args:
        optimizer: the optimizer that takes the step; `inner_optimizer` afterwards.
        rule: `"global_norm"` scales all gradients by one factor, so that their direction stays, `"norm"` each weight's by its own, and
            `"value"` cuts off each number; `"adaptive"` bounds a unit's gradient by its weights' norm, `"percentile"` the joint norm by a
            percentile of those so far, `"zscore"` those that stand out from their moving mean. Or a `ClippingRule`, such as
            `clipping_rules.AdaptiveClipping(exclude=["logits"])`.
        threshold: what the rule bounds, above 0; None for its default. In units of the gradient for `"global_norm"`, `"norm"` and
            `"value"` (1), a ratio of gradient to weights for `"adaptive"` (.01), percent for `"percentile"` (10), standard deviations for
            `"zscore"` (2.5).
        nonfinite: what becomes of a step with NaN or infinity in its gradients. `"skip"`: weights, slots and `iterations` stay as they
            are, on every replica. `"zero"`: those numbers count as 0. `"raise"`: as skip, and FloatingPointError names the weights: at
            once where the step runs eagerly (in a TensorFlow graph as TensorFlow's own InvalidArgumentError); compiled by XLA (JAX,
            `jit_compile=True`) no further step is taken, and the error comes from `ClippingLog` at the epoch's end, or else at the end of
            `fit`. `"propagate"`: they reach the inner optimizer.
        max_skips: so many skipped steps in a row raise as `"raise"` does; None for no limit.
        name: name of the optimizer.

    Attributes:
        steps: steps so far, the skipped ones included. This and the following are readable at any time, and saved.
        clipped_steps: steps that the rule changed.
        skipped_steps: steps that were left out. A step that an outer `LossScaleOptimizer` leaves out is its own and counts nowhere here.
        nonfinite_steps: steps with NaN or infinity, skipped or not.
        measured_steps: steps that were taken with a finite norm.
        gradient_norm: joint norm of the last step's gradients before clipping; that of a skipped step does not count.
        gradient_norm_total: sum of the joint norms of the measured steps.

    Raises:
        ValueError: `rule` or `nonfinite` is unknown, `threshold` is not above 0, or `optimizer` clips or scales its loss itself.
        TypeError: `optimizer` is no Keras optimizer, or `rule` no rule.

    Examples:
        >>> from keras import ops
        >>> w = keras.Variable([0.0, 0.0])
        >>> clipped = GradientClipping(keras.optimizers.SGD(1.0), rule="global_norm", threshold=1.0)
        >>> clipped.apply([ops.convert_to_tensor([30.0, 40.0])], [w])
        >>> [round(float(v), 6) for v in w.numpy()], clipped.gradient_norm
        ([-0.6, -0.8], 50.0)
        >>> clipped.apply([ops.convert_to_tensor([float("nan"), 1.0])], [w])
        >>> [round(float(v), 6) for v in w.numpy()], clipped.skipped_steps
        ([-0.6, -0.8], 1)

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, algorithm 1; for the other rules see
        `keras_ext.optimizers.clipping_rules`.
    """

    def __init__(
        self,
        optimizer: Any,
        rule: Any = "global_norm",
        threshold: float | None = None,
        nonfinite: str = "skip",
        max_skips: int | None = 100,
        name: str | None = None,
    ) -> None:
        inner = optimizer_of(optimizer)
        check_inner(inner, GradientClipping)
        made = checked_rule(rule, threshold)
        one_of("nonfinite", nonfinite, _POLICIES)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner
        self.rule = rule
        self.threshold = made.threshold
        self.nonfinite = nonfinite
        self.max_skips = max_skips if max_skips is None else integer("max_skips", max_skips)
        self._rule = made
        self._counts: Any = None
        self._rule_state: list[Any] = []
        self._accumulated: list[Any] = []
        self._flags: Any = None

    def build(self, variables: Any) -> None:
        """Build the inner optimizer on `variables`, and the counters."""
        if self.built:
            return
        variables = list(variables)
        self.inner_optimizer.build(variables)
        # A MultiOptimizer may learn of its parts only now.
        check_inner(self.inner_optimizer, GradientClipping)
        super().build(variables)
        self._counts = Counts(self._number)
        # The weights that the last skipped step was not finite in.
        self._flags = self._number("nonfinite_weights", (len(variables),), "int")
        self._rule_state = []
        for name, first in self._rule.first_state().items():
            variable = self._number(f"rule_{name}", first.shape, first.dtype.name)
            variable.assign(first)
            self._rule_state.append(variable)
        if self.inner_optimizer.gradient_accumulation_steps:
            self._accumulated = [self.add_variable_from_reference(v, "gradient_accumulator") for v in variables]
            self._rule_state.append(self._number("accumulated_batches", (), "int"))
        self._restore_state()

    def _number(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        return self.add_variable(shape, dtype=dtype, aggregation="only_first_replica", name=name)

    def _own(self) -> list[Any]:
        return list(self._own_by_name().values())

    def _own_by_name(self) -> dict[str, Any]:
        if not self.built:
            return {}
        named = {v.name: v for v in (*self._counts.variables, self._flags, *self._rule_state)}
        # The names of accumulators have their weights' paths in them, which a file may shorten.
        return {**named, **{f"gradient_accumulator_{i}": a for i, a in enumerate(self._accumulated)}}

    def _groups(self) -> list[list[Any]]:
        return [self.inner_optimizer.variables, self._own()]

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Clip `grads` and update the variables by one step along them."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        grads = list(grads)
        pairs = enumerate(zip(grads, variables, strict=True))
        chosen = [i for i, (g, v) in pairs if g is not None and not keras_private.overwrites_with_gradient(v)]
        if not chosen:
            self.inner_optimizer.apply(grads, trainable_variables)
            return
        rest = [None if i in chosen else g for i, g in enumerate(grads)]
        summed = over_replicas([grads[i] for i in chosen])
        if self.nonfinite == "zero":
            broken = ops.logical_not(ops.all(ops.stack([ops.all(ops.isfinite(_backend.sparse_values(g))) for g in summed])))
            summed = [_zeroed(g) for g in summed]
            norm = _backend.joint_norm(summed)
        else:
            norm = _backend.joint_norm(summed)
            broken = ops.logical_not(ops.isfinite(norm))
        weights = [variables[i] for i in chosen]
        places = [keras_private.variable_index(self, v) for v in weights]

        def step(summed: list[Any], rest: list[Any], norm: Any) -> None:
            def hand_over(gradients: list[Any]) -> None:
                given = list(rest)
                for i, g, original in zip(chosen, share_of_replica(gradients), summed, strict=True):
                    # Keras's sum over replicas takes no tensor from outside of a condition's branch beside those from inside.
                    given[i] = _backend.with_sparse_values(g, ops.stop_gradient(_backend.sparse_values(g))) if g is original else g
                self.inner_optimizer.apply(given, trainable_variables)

            self._step(summed, norm, weights, places, hand_over)

        if self.nonfinite in ("zero", "propagate"):
            self._counts.add(nonfinite_steps=broken)
            step(summed, rest, norm)
            return

        def skip(summed: list[Any], _rest: Any, _norm: Any) -> None:
            self._skip(places, summed)

        good = ops.logical_not(ops.logical_or(broken, self._counts.of("halted") > 0))
        if _backend.cond(good, step, skip, [*self._trainable_variables, *self.variables], summed, rest, norm) is False:
            self.check()

    def _step(self, summed: list[Any], norm: Any, weights: list[Any], places: list[int], hand_over: Callable[[list[Any]], None]) -> None:
        """Take a step, or with accumulation a part of one; `hand_over` gives gradients to the inner optimizer."""
        batches = self.inner_optimizer.gradient_accumulation_steps
        if not batches:
            hand_over(self._clip(summed, norm, weights))
            return
        count, sums = self._rule_state[-1], [self._accumulated[i] for i in places]

        def last(summed: list[Any]) -> None:
            means = [(_backend.dense(g) + a) / batches for g, a in zip(summed, sums, strict=True)]
            clipped = self._clip(means, _backend.joint_norm(means), weights)
            # The inner optimizer divides by the number of batches too.
            hand_over([g * batches for g in clipped])
            for a in sums:
                a.assign(ops.zeros(a.shape, a.dtype))
            count.assign(ops.zeros((), count.dtype))

        def another(summed: list[Any]) -> None:
            dense = [_backend.dense(g) for g in summed]
            for a, g in zip(sums, dense, strict=True):
                a.assign(ops.add(a, g))
            count.assign(ops.add(count, 1))
            # Zeros count as a batch for the inner optimizer, whose schedule and turn go by batches.
            hand_over([ops.zeros_like(g) for g in dense])

        _backend.cond(ops.equal(count, batches - 1), last, another, [*self._trainable_variables, *self.variables], summed)

    def _clip(self, gradients: list[Any], norm: Any, weights: list[Any]) -> list[Any]:
        """Return what the rule makes of the gradients, and count."""
        state = dict(zip(self._rule.first_state(), self._rule_state, strict=False))
        before = {name: ops.convert_to_tensor(v) for name, v in state.items()}
        clipped, changed, after = self._rule.clip(gradients, weights, norm, before)
        finite = ops.isfinite(norm)
        for name, variable in state.items():
            variable.assign(ops.where(finite, after[name], before[name]))
        self._counts.add(steps=1, clipped_steps=changed, measured_steps=finite, skips_in_a_row=-self._counts.of("skips_in_a_row"))
        self._counts.measure(ops.cast(norm, "float32"))
        return clipped

    def _skip(self, places: list[int], gradients: list[Any]) -> None:
        """Count a step that is left out; once halted nothing counts any more."""
        most = 1 if self.nonfinite == "raise" else self.max_skips
        stop = None if most is None else self._counts.of("skips_in_a_row") + 1 >= most
        going = ops.equal(self._counts.of("halted"), 0)
        halted = 0 if stop is None else ops.logical_and(going, stop)
        self._counts.add(steps=going, skipped_steps=going, nonfinite_steps=going, skips_in_a_row=going, halted=halted)
        marks: list[Any] = [ops.zeros((), "bool")] * len(self._trainable_variables)
        for i, size in zip(places, _backend.norms(gradients), strict=True):
            marks[i] = ops.logical_not(ops.isfinite(size))
        old = ops.convert_to_tensor(self._flags)
        self._flags.assign(ops.where(going, ops.cast(ops.stack(marks), old.dtype), old))
        if stop is not None:
            _backend.fail_in_graph(stop, self._reason("{}"), [_per_weight.path_of(v) for v in self._trainable_variables], marks)

    def _reason(self, names: str) -> str:
        limit = "" if self.nonfinite == "raise" else f"{self.max_skips} steps in a row were skipped (max_skips={self.max_skips}): "
        return (
            f"GradientClipping: {limit}NaN or infinity in the gradients of {names}. The weights are those before it. "
            "Check the batch for NaN, lower the learning rate, or let SaturationMonitor name the layer where it begins."
        )

    def check(self) -> None:
        """Raise FloatingPointError if a step has asked for it that was compiled and could not itself."""
        if not self.built or not self._read("halted"):
            return
        flags = ops.convert_to_numpy(self._flags)
        names = ", ".join(_per_weight.path_of(v) for v, flag in zip(self._trainable_variables, flags, strict=True) if flag)
        # Whoever catches it can go on.
        self._counts.add(halted=-self._counts.of("halted"), skips_in_a_row=-self._counts.of("skips_in_a_row"))
        raise FloatingPointError(self._reason(names))

    def _read(self, name: str) -> Any:
        return 0 if self._counts is None else self._counts.read(name)

    steps = _count("steps")
    clipped_steps = _count("clipped_steps")
    skipped_steps = _count("skipped_steps")
    nonfinite_steps = _count("nonfinite_steps")
    measured_steps = _count("measured_steps")

    @property
    def gradient_norm(self) -> float:
        """Joint norm of the last step's gradients before clipping."""
        return float(self._read("gradient_norm"))

    @property
    def gradient_norm_total(self) -> float:
        """Sum of the joint norms of the measured steps."""
        return float(self._read("norm_total")) - float(self._read("norm_rest"))

    @property
    def iterations(self) -> Any:
        """Steps that the inner optimizer has taken."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate; assigning to it sets it."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss: Any) -> Any:
        """Return `loss` as the inner optimizer scales it."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Give the weights their final values, such as their moving averages."""
        self.check()
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude variables from the inner optimizer's weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def save_own_variables(self, store: Any) -> None:
        """Save the counters and the rule's state: the inner optimizer, saved as a part of this one, holds the rest."""
        for name, variable in self._own_by_name().items():
            store[name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables` saved; what is missing stays as it is."""
        for name, variable in self._own_by_name().items():
            if name in store:
                variable.assign(np.asarray(store[name]))

    def set_weights(self, weights: Any) -> None:
        """Set all variables, in the order of `variables`; HDF5 files of whole models are loaded by it."""
        inner = len(self.inner_optimizer.variables)
        self.inner_optimizer.set_weights(weights[:inner])
        # From an HDF5 file Keras builds the optimizer on no weights, and gives it those of all.
        if len(weights) == inner + len(self._own()):
            for variable, weight in zip(self._own(), weights[inner:], strict=True):
                variable.assign(weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        threshold = self.threshold if isinstance(self.rule, str) else None
        return config_of(self, optimizer=self.inner_optimizer, threshold=threshold)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "GradientClipping":
        """Build it from what `get_config` returned."""
        config = dict(config)
        for key in ("optimizer", "rule"):
            if isinstance(config[key], dict):
                config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
        return cls(**config)


def _zeroed(gradient: Any) -> Any:
    values = _backend.sparse_values(gradient)
    return _backend.with_sparse_values(gradient, ops.where(ops.isfinite(values), values, ops.zeros((), values.dtype)))
