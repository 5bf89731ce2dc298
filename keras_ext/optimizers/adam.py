"""Adam (Kingma and Ba 2015) and AMSGrad (Reddi et al. 2018)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, in_range
from keras_ext.optimizers._base import ExactOptimizer


def moved(average: Any, new: Any, *, beta: float) -> Any:
    """Return the moving average after `new`: `beta * average + (1 - beta) * new`, rounded once less."""
    return ops.add(average, ops.multiply(ops.subtract(new, average), 1 - beta))


def adam(m: Any, v: Any, *, step_size: Any, epsilon: float) -> Any:
    """Return the step to take off the weights, from both moments."""
    return ops.divide(ops.multiply(m, step_size), ops.add(ops.sqrt(v), epsilon))


def bias_corrected(learning_rate: Any, t: Any, *, beta_1: Any, beta_2: Any) -> Any:
    """Return the step size of step `t` = 1, 2, ... that makes up for moments that began at zero."""
    return learning_rate * ops.sqrt(1 - ops.power(beta_2, t)) / (1 - ops.power(beta_1, t))


@keras.saving.register_keras_serializable(package="keras_ext")
class Adam(ExactOptimizer):
    """Step along a moving average of the gradient over the root of a moving average of its squares.

    `m <- beta_1 * m + (1 - beta_1) * g`, `v <- beta_2 * v + (1 - beta_2) * g^2`,
    `w <- w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)`. Drop-in for `keras.optimizers.Adam`: same
    arguments, defaults and slots.

    Args:
        learning_rate: positive float, schedule, or function without arguments.
        beta_1: share of `m` that each step keeps, in [0, 1).
        beta_2: share of `v` that each step keeps, in [0, 1).
        epsilon: added outside the root, at least 0: the "epsilon hat" before section 2.1 of the paper. Keras 1e-7, the paper 1e-8.
        amsgrad: divide by the largest `v` so far instead of the last.
        **kwargs: as in `SGD`.

    Raises:
        ValueError: `beta_1`, `beta_2` or `epsilon` is outside its range.

    Example:
        >>> w = keras.Variable([1.0])
        >>> Adam(learning_rate=0.1).apply([ops.convert_to_tensor([4.0])], [w])
        >>> round(float(w.numpy()[0]), 5)
        0.9

    References:
        Kingma and Ba (2015), arXiv:1412.6980, algorithm 1 and the formula before section 2.1. Reddi, Kale and Kumar (2018),
        arXiv:1904.09237, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = in_range("beta_1", beta_1, 0.0, 1.0, closed="left")
        self.beta_2 = in_range("beta_2", beta_2, 0.0, 1.0, closed="left")
        self.epsilon = in_range("epsilon", epsilon, 0.0)
        self.amsgrad = flag("amsgrad", amsgrad)
        self._momentums: list[Any] = []
        self._velocities: list[Any] = []
        self._velocity_hats: list[Any] = []

    def build(self, variables: Any) -> None:
        """Create both moments of every variable, and the largest second moment for AMSGrad."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])
        if self.amsgrad:
            self._velocity_hats = self.add_optimizer_variables(variables, "velocity_hat")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        g = self._gradient(gradient, variable)
        # In float32 at least: .999 is 1 in bfloat16, and the step would be 0.
        wide = keras.backend.result_type(variable.dtype, "float32")
        rate, t = ops.cast(learning_rate, wide), ops.cast(self.iterations + 1, wide)
        step_size = self._as(bias_corrected(rate, t, beta_1=self.beta_1, beta_2=self.beta_2), variable)
        m_slot, v_slot = self._slot(self._momentums, variable), self._slot(self._velocities, variable)
        m = moved(m_slot, g, beta=self.beta_1)
        v = moved(v_slot, ops.square(g), beta=self.beta_2)
        self.assign(m_slot, m)
        self.assign(v_slot, v)
        if self.amsgrad:
            largest = self._slot(self._velocity_hats, variable)
            v = ops.maximum(largest, v)
            self.assign(largest, v)
        self.assign_sub(variable, adam(m, v, step_size=step_size, epsilon=self.epsilon))

    def _update_list(self, updates: Any, variables: list[Any], weights: list[Any], gradients: list[Any], rate: Any) -> None:
        wide = ops.cast(rate, keras.backend.result_type(rate.dtype, "float32"))
        t = ops.cast(self.iterations + 1, wide.dtype)
        updates.adam(
            weights,
            gradients,
            self._values(self._momentums, variables),
            self._values(self._velocities, variables),
            self._values(self._velocity_hats, variables),
            step_size=bias_corrected(wide, t, beta_1=self.beta_1, beta_2=self.beta_2),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }
