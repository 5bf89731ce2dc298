"""Accumulation, averages and clipping, also under MirroredStrategy.

The methods are Keras's places without a public name; tests/test_keras_private.py watches each.
"""

from typing import Any

import keras
from keras import ops

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.optimizers import clipping_rules


class Replicas(keras.optimizers.Optimizer):
    """Accumulates, averages and clips the sum of the replicas' gradients, where Keras raises or takes each replica alone."""

    master_weights: bool
    _masters: list[Any]

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
            self._accumulate(grads, variables)
        else:
            self._step(grads, variables)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
            if self.ema_overwrite_frequency:
                due = ops.equal((self.iterations + 1) % self.ema_overwrite_frequency, 0)
                weights = self._trainable_variables
                _backend.cond(due, lambda: self._overwrite_model_variables_with_average_value(weights), lambda: None, [])

    def _accumulate(self, grads: Any, variables: list[Any]) -> None:
        accumulators = [self._accumulated_gradients[keras_private.variable_index(self, v)] for v in variables]
        # The replicas' sum, so that every replica keeps the same, and a checkpoint of the first has all.
        summed = [_backend.dense(g) for g in _backend.sum_over_replicas(list(grads))]
        share = self.gradient_accumulation_steps * _backend.replica_count()

        def step(summed: list[Any]) -> None:
            self._step([(g + a) / share for g, a in zip(summed, accumulators, strict=True)], variables)
            self._backend_increment_gradient_accumulators([-ops.convert_to_tensor(a) for a in accumulators], accumulators)

        def wait(summed: list[Any]) -> None:
            self._backend_increment_gradient_accumulators(summed, accumulators)

        _backend.cond(ops.equal((self._iterations + 1) % self.gradient_accumulation_steps, 0), step, wait, [], summed)

    def _step(self, grads: Any, variables: list[Any]) -> None:
        self._backend_update_step(self._clip_gradients(grads), variables, self.learning_rate)

    def _overwrite_model_variables_with_average_value(self, trainable_variables: Any) -> None:
        # Averages are float32 where there are master weights; Keras's way on TensorFlow does not stand that, nor a replica.
        for v, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            if average is not None:
                v.assign(ops.cast(average, v.dtype))

    def _clip_gradients(self, grads: Any) -> Any:
        # Keras lets `clipnorm=0` pass, takes norms in the gradients' own dtype, and clips what one replica has.
        for argument, rule in (("clipnorm", "norm"), ("global_clipnorm", "global_norm"), ("clipvalue", "value")):
            threshold = getattr(self, argument)
            if threshold is not None:
                summed = clipping_rules.over_replicas(grads)
                norm = _backend.joint_norm(summed) if rule == "global_norm" else None
                made = clipping_rules.RULES[rule](1.0)
                made.threshold = threshold  # a tensor where the trials of a search share the step
                return clipping_rules.share_of_replica(made.clip(summed, [], norm, {}).gradients)
        return grads
