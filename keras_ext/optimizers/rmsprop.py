"""RMSprop (Tieleman and Hinton 2012), also centered (Graves 2013)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, in_range
from keras_ext.optimizers._base import ExactOptimizer


def decayed(old: Any, new: Any, *, rho: float) -> Any:
    """Return the moving average after `new`: `rho * old + (1 - rho) * new`."""
    return ops.add(ops.multiply(rho, old), ops.multiply(1 - rho, new))


def rmsprop(g: Any, v: Any, *, learning_rate: Any, epsilon: float) -> Any:
    """Return the step to take off the weights; `v` is the mean square of the gradients, or their variance."""
    return ops.divide(ops.multiply(learning_rate, g), ops.sqrt(ops.add(v, epsilon)))


@keras.saving.register_keras_serializable(package="keras_ext")
class RMSprop(ExactOptimizer):
    """Step along the gradient over the root of a moving average of its squares.

    `v <- rho * v + (1 - rho) * g^2` and `w <- w - learning_rate * g / sqrt(v + epsilon)`; epsilon stands inside the root, as in Keras. With
    momentum the step is `m <- momentum * m + learning_rate * g / sqrt(v + epsilon)`. Centered, the average gradient's square is taken off
    `v`. Drop-in for `keras.optimizers.RMSprop`: same arguments, defaults and slots.

    Args:
        learning_rate: positive float, schedule, or function without arguments.
        rho: share of the old average that is kept, in [0, 1].
        momentum: share of the last step that is kept, in [0, 1].
        epsilon: added inside the root, at least 0.
        centered: divide by the standard deviation of the gradients instead of their root mean square.
        **kwargs: as in `SGD`.

    Raises:
        ValueError: `rho`, `momentum` or `epsilon` is outside its range.

    Example:
        >>> w = keras.Variable([1.0])
        >>> RMSprop(learning_rate=0.1, rho=0.75).apply([ops.convert_to_tensor([4.0])], [w])
        >>> round(float(w.numpy()[0]), 5)
        0.8

    References:
        Tieleman and Hinton (2012), Neural networks for machine learning, lecture 6e. Graves (2013), arXiv:1308.0850, equations 38 to 45,
        for the centered form with momentum.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.rho = in_range("rho", rho, 0.0, 1.0)
        self.momentum = in_range("momentum", momentum, 0.0, 1.0)
        self.epsilon = in_range("epsilon", epsilon, 0.0)
        self.centered = flag("centered", centered)
        self._velocities: list[Any] = []
        self._momentums: list[Any] = []
        self._average_gradients: list[Any] = []

    def build(self, variables: Any) -> None:
        """Create the averages, and what momentum and centering need."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        if self.momentum > 0:
            self._momentums = self.add_optimizer_variables(variables, "momentum")
        if self.centered:
            self._average_gradients = self.add_optimizer_variables(variables, "average_gradient")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        rate, g = self._as(learning_rate, variable), self._gradient(gradient, variable)
        slot = self._slot(self._velocities, variable)
        v = decayed(slot, ops.square(g), rho=self.rho)
        self.assign(slot, v)
        if self.centered:
            average = self._slot(self._average_gradients, variable)
            mean = decayed(average, g, rho=self.rho)
            self.assign(average, mean)
            v = ops.subtract(v, ops.square(mean))
        step = rmsprop(g, v, learning_rate=rate, epsilon=self.epsilon)
        if self.momentum > 0:
            m = self._slot(self._momentums, variable)
            step = ops.add(ops.multiply(self.momentum, m), step)
            self.assign(m, step)
        self.assign_sub(variable, step)

    def _update_list(self, updates: Any, variables: list[Any], weights: list[Any], gradients: list[Any], rate: Any) -> None:
        updates.rmsprop(
            weights,
            gradients,
            self._values(self._velocities, variables),
            self._values(self._average_gradients, variables),
            self._values(self._momentums, variables),
            rate=rate,
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }
