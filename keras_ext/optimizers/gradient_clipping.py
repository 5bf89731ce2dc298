"""Gradient clipping around any Keras optimizer."""

from typing import Any

import keras

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument, in_range, one_of
from keras_ext.optimizers.clipping_rules import RULES


@keras.saving.register_keras_serializable(package="keras_ext")
class GradientClipping(keras.optimizers.Optimizer):
    """Bound the gradients by a rule, then let another optimizer take the step.

    Works around every Keras optimizer, Keras's own and those of this package. Its state is the inner optimizer's; `learning_rate`,
    `iterations`, schedules and moving averages of the weights are the inner optimizer's too. Under `tf.distribute.MirroredStrategy` the
    gradients are summed over the replicas before they are clipped (Keras clips each replica's part, so that two replicas with
    `global_clipnorm=1` leave a norm of up to 2). Rows of one embedding id are summed before a norm is taken. NaN stays where
    it is; so does infinity, as NaN, under the rules that scale, and `"value"` cuts it to the threshold.

    Args:
        optimizer: the optimizer that takes the step.
        rule: `"global_norm"` scales all gradients by one factor, so that their direction stays, `"norm"` each variable's by its own, and
            `"value"` cuts off each number.
        threshold: the largest norm or number that passes unchanged, above 0. It is in units of the gradient: for `"global_norm"`
            1 is common for recurrent networks, for `"value"` the inner optimizer sees at most this in each weight.
        name: name of the optimizer.

    Raises:
        ValueError: `rule` is unknown, `threshold` is not above 0, or `optimizer` clips, scales its loss or accumulates gradients itself.
        TypeError: `optimizer` is no Keras optimizer.

    Example:
        >>> from keras import ops
        >>> w = keras.Variable([0.0, 0.0])
        >>> clipped = GradientClipping(keras.optimizers.SGD(1.0), rule="global_norm", threshold=1.0)
        >>> clipped.apply([ops.convert_to_tensor([30.0, 40.0])], [w])
        >>> [round(float(v), 6) for v in w.numpy()]
        [-0.6, -0.8]

    References:
        Pascanu, Mikolov and Bengio (2013), On the difficulty of training recurrent neural networks, algorithm 1.
    """

    def __init__(self, optimizer: Any, rule: str = "global_norm", threshold: float = 1.0, name: str | None = None) -> None:
        inner = keras.optimizers.get(optimizer) if isinstance(optimizer, str) else optimizer
        if not isinstance(inner, keras.optimizers.Optimizer):
            raise bad_argument("optimizer", "a Keras optimizer", optimizer, "Give for instance keras_ext.optimizers.Adam().", TypeError)
        if isinstance(inner, keras.optimizers.LossScaleOptimizer):
            raise bad_argument(
                "optimizer", "an optimizer that does not scale its loss", inner.name,
                "Write LossScaleOptimizer(GradientClipping(inner)): gradients are clipped after they are unscaled.",
            )  # fmt: skip
        if inner.gradient_accumulation_steps:
            raise bad_argument(
                "optimizer", "an optimizer with gradient_accumulation_steps=None", inner.gradient_accumulation_steps,
                "The parts that it accumulates would be clipped one by one, which does not bound their mean. Use a larger batch.",
            )  # fmt: skip
        if inner.loss_scale_factor is not None:
            raise bad_argument(
                "optimizer", "an optimizer with loss_scale_factor=None", inner.loss_scale_factor,
                "Scaled gradients would be clipped. Write LossScaleOptimizer(GradientClipping(inner)).",
            )  # fmt: skip
        for argument in ("clipnorm", "clipvalue", "global_clipnorm"):
            if getattr(inner, argument) is not None:
                raise bad_argument(
                    "optimizer", f"an optimizer with {argument}=None", getattr(inner, argument),
                    "Gradients would be clipped twice. Leave it to GradientClipping.",
                )  # fmt: skip
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner
        self.rule = one_of("rule", rule, RULES)
        self.threshold = in_range("threshold", threshold, 0.0, closed="neither")

    def build(self, variables: Any) -> None:
        """Build the inner optimizer on `variables`."""
        if self.built:
            return
        super().build(variables)
        self.inner_optimizer.build(variables)

    @property
    def variables(self) -> list[Any]:
        """The inner optimizer's variables."""
        return self.inner_optimizer.variables

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Clip `grads` and update the variables by one step along them."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        clipped = list(grads)
        chosen = [
            i
            for i, (g, v) in enumerate(zip(clipped, variables, strict=True))
            if g is not None and not keras_private.overwrites_with_gradient(v)
        ]
        if chosen:
            replicas = _backend.replica_count()
            # Rows of one id are summed last: the replicas' sum puts the parts of each side by side.
            whole = [_backend.sum_repeated_rows(g) for g in _backend.sum_over_replicas([clipped[i] for i in chosen])]
            for i, g in zip(chosen, RULES[self.rule](whole, self.threshold), strict=True):
                # The inner optimizer sums over the replicas again.
                clipped[i] = g if replicas == 1 else _backend.with_sparse_values(g, _backend.sparse_values(g) / replicas)
        self.inner_optimizer.apply(clipped, trainable_variables)

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
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """Exclude variables from the inner optimizer's weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def save_own_variables(self, store: Any) -> None:
        """Save nothing: the inner optimizer, saved as a part of this one, holds all variables."""

    def load_own_variables(self, store: Any) -> None:
        """Load nothing: see `save_own_variables`."""

    def set_weights(self, weights: Any) -> None:
        """Set the inner optimizer's variables, in the order of `variables`; HDF5 files of whole models are loaded by it."""
        self.inner_optimizer.set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "rule": self.rule,
            "threshold": self.threshold,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "GradientClipping":
        """Build it from what `get_config` returned."""
        config = dict(config)
        optimizer = keras.saving.deserialize_keras_object(config.pop("optimizer"), custom_objects=custom_objects)
        return cls(optimizer, **config)
