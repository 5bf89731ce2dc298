"""Gradient descent, with momentum (Polyak 1964) and Nesterov's form of it (Sutskever et al. 2013)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, is_number
from keras_ext.optimizers._base import ExactOptimizer


def descent(g: Any, *, learning_rate: Any) -> Any:
    """Return what plain descent adds to the weights: `-learning_rate * g`."""
    return ops.multiply(g, ops.negative(learning_rate))


def velocity(g: Any, m: Any, *, learning_rate: Any, momentum: Any) -> Any:
    """Return the next velocity: `momentum * m - learning_rate * g`."""
    return ops.subtract(ops.multiply(m, momentum), ops.multiply(g, learning_rate))


@keras.saving.register_keras_serializable(package="keras_ext")
class SGD(ExactOptimizer):
    """Step against the gradient, with a velocity that keeps a share of the last step.

    Without momentum `w <- w - learning_rate * g`. With momentum `m <- momentum * m - learning_rate * g` and `w <- w + m`, or with
    `nesterov=True` `w <- w + momentum * m - learning_rate * g`. Drop-in for `keras.optimizers.SGD`: same arguments, defaults and slots.

    Args:
        learning_rate: positive float, schedule, or function without arguments.
        momentum: share of the last velocity that is kept, in [0, 1].
        nesterov: use the gradient at the place where the velocity leads.
        **kwargs: `weight_decay`, `clipnorm`, `clipvalue`, `global_clipnorm`, `use_ema`, `ema_momentum`, `ema_overwrite_frequency`,
            `loss_scale_factor`, `gradient_accumulation_steps` and `name`, as in `keras.optimizers.Optimizer`.

    Raises:
        ValueError: `momentum` is outside [0, 1].

    Example:
        >>> w = keras.Variable([1.0, 2.0])
        >>> SGD(learning_rate=0.5).apply([ops.convert_to_tensor([1.0, 1.0])], [w])
        >>> [float(v) for v in w.numpy()]
        [0.5, 1.5]

    References:
        Polyak (1964), Some methods of speeding up the convergence of iteration methods, equation 9. Sutskever, Martens, Dahl and Hinton
        (2013), On the importance of initialization and momentum in deep learning, equations 1 to 4.
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        if not is_number(momentum) or not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be a float between [0, 1]. Received: momentum={momentum!r}.")
        self.momentum = momentum
        self.nesterov = flag("nesterov", nesterov)
        self.momentums: list[Any] = []

    def build(self, variables: Any) -> None:
        """Create one velocity a variable, if there is momentum."""
        if self.built:
            return
        super().build(variables)
        if self.momentum != 0:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` by one step."""
        rate, g = self._as(learning_rate, variable), self._gradient(gradient, variable)
        if self.momentum == 0:
            self.assign_add(variable, descent(g, learning_rate=rate))
            return
        slot, momentum = self._slot(self.momentums, variable), self._as(self.momentum, variable)
        m = velocity(g, slot, learning_rate=rate, momentum=momentum)
        self.assign(slot, m)
        self.assign_add(variable, velocity(g, m, learning_rate=rate, momentum=momentum) if self.nesterov else m)

    def _update_list(self, updates: Any, variables: list[Any], weights: list[Any], gradients: list[Any], rate: Any) -> None:
        velocities = self._values(self.momentums, variables)
        updates.sgd(weights, gradients, velocities, rate=rate, momentum=self.momentum, nesterov=self.nesterov)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}
