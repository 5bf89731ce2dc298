"""Adagrad (Duchi et al. 2011)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import in_range
from keras_ext.optimizers._base import ExactOptimizer


def adagrad(g: Any, a: Any, *, learning_rate: Any, epsilon: float) -> Any:
    """Return the step to take off the weights; `a` is the sum of the squared gradients, this one included."""
    return ops.divide(ops.multiply(learning_rate, g), ops.sqrt(ops.add(a, epsilon)))


@keras.saving.register_keras_serializable(package="keras_ext")
class Adagrad(ExactOptimizer):
    """Step along the gradient over the root of the sum of its squares so far.

    `a <- a + g^2` and `w <- w - learning_rate * g / sqrt(a + epsilon)`: epsilon stands inside the root, as in Keras. Drop-in for
    `keras.optimizers.Adagrad`: same arguments, defaults and slots.

    Args:
        learning_rate: positive float, schedule, or function without arguments. The paper's examples use about 1.
        initial_accumulator_value: first `a`, at least 0.
        epsilon: added inside the root, at least 0.
        **kwargs: as in `SGD`.

    Raises:
        ValueError: `initial_accumulator_value` or `epsilon` is negative.

    Example:
        >>> w = keras.Variable([1.0])
        >>> Adagrad(learning_rate=0.5, initial_accumulator_value=0.0).apply([ops.convert_to_tensor([4.0])], [w])
        >>> round(float(w.numpy()[0]), 6)
        0.5

    References:
        Duchi, Hazan and Singer (2011), Adaptive subgradient methods, JMLR 12, figure 1 (diagonal matrices).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.initial_accumulator_value = in_range("initial_accumulator_value", initial_accumulator_value, 0.0)
        self.epsilon = in_range("epsilon", epsilon, 0.0)
        self._accumulators: list[Any] = []

    def build(self, variables: Any) -> None:
        """Create one accumulator a variable."""
        if self.built:
            return
        super().build(variables)
        first = keras.initializers.Constant(self.initial_accumulator_value)
        self._accumulators = self.add_optimizer_variables(variables, "accumulator", initializer=first)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        rate, g = self._as(learning_rate, variable), self._gradient(gradient, variable)
        a = self._slot(self._accumulators, variable)
        self.assign_add(a, ops.square(g))
        self.assign_sub(variable, adagrad(g, a, learning_rate=rate, epsilon=self.epsilon))

    def _update_list(self, updates: Any, variables: list[Any], weights: list[Any], gradients: list[Any], rate: Any) -> None:
        updates.adagrad(weights, gradients, self._values(self._accumulators, variables), rate=rate, epsilon=self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
