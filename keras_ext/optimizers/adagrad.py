"""Adagrad (Duchi et al. 2011)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, in_float32, in_range
from keras_ext.optimizers._base import ExactOptimizer


@keras.saving.register_keras_serializable(package="keras_ext")
class Adagrad(ExactOptimizer):
    """Step along the gradient over the root of the sum of its squares so far.

    `a <- a + g^2` and `w <- w - learning_rate * g / sqrt(a + epsilon)`: epsilon stands inside the root, as in Keras. Drop-in for
    `keras.optimizers.Adagrad`: same arguments, defaults and slots. Rows of an embedding without a gradient stay where they are by the rule
    itself; on TensorFlow they are neither read nor written.

    Args:
        learning_rate: float of at least 0, schedule, or function without arguments. The paper's examples use about 1.
        initial_accumulator_value: first `a`, at least 0.
        epsilon: added to `a`, at least 0.
        weight_decay: as in `SGD`; so are clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps and name.
        epsilon_outside: add epsilon to the root instead, `w <- w - learning_rate * g / (sqrt(a) + epsilon)`, as PyTorch and the equation
            before figure 1 of the paper do (its delta).
        **kwargs: `master_weights`, `learning_rate_multipliers`, `exclude_from_weight_decay` and `exclude_norms_and_biases`, as in `SGD`.

    Raises:
        ValueError: a number is outside its range.

    Examples:
        >>> w = keras.Variable([1.0])
        >>> Adagrad(learning_rate=0.5, initial_accumulator_value=0.0).apply([ops.convert_to_tensor([4.0])], [w])
        >>> round(float(w.numpy()[0]), 6)
        0.5

    References:
        Duchi, Hazan and Singer (2011), Adaptive subgradient methods, JMLR 12, figure 1 (diagonal matrices).
    """

    _kernel = "adagrad"
    _exact_by_rows = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        *,
        epsilon_outside: bool = False,
        **kwargs: Any,
    ) -> None:
        if "lazy" in kwargs:
            raise TypeError("Adagrad takes no `lazy`: by its rule a row without a gradient stays as it is.")
        super().__init__(
            *(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency),
            *(loss_scale_factor, gradient_accumulation_steps, name),
            **kwargs,
        )
        first = in_range("initial_accumulator_value", initial_accumulator_value, 0.0)
        self.initial_accumulator_value = in_float32("initial_accumulator_value", first)
        self.epsilon = in_float32("epsilon", in_range("epsilon", epsilon, 0.0))
        self.epsilon_outside = flag("epsilon_outside", epsilon_outside)
        self._accumulators: list[Any] = []

    def _build_slots(self, variables: list[Any]) -> None:
        first = keras.initializers.Constant(self.initial_accumulator_value)
        self._accumulators = self.add_optimizer_variables(variables, "accumulator", initializer=first)

    def _slots(self) -> list[list[Any]]:
        return [self._accumulators]

    def _rule(self, g: Any, slots: list[Any], rate: Any) -> tuple[Any, list[Any]]:
        a = ops.add(slots[0], ops.square(g))
        root = ops.add(ops.sqrt(a), self.epsilon) if self.epsilon_outside else ops.sqrt(ops.add(a, self.epsilon))
        return ops.divide(ops.multiply(rate, g), root), [a]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["lazy"]
        return config
