"""RMSprop (Tieleman and Hinton 2012), also centered (Graves 2013)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, in_float32, in_range
from keras_ext.optimizers._base import MomentumOptimizer


@keras.saving.register_keras_serializable(package="keras_ext")
class RMSprop(MomentumOptimizer):
    """Step along the gradient over the root of a moving average of its squares.

    `v <- rho * v + (1 - rho) * g^2` and `w <- w - learning_rate * g / sqrt(v + epsilon)`; epsilon stands inside the root, as in Keras. With
    momentum the step is `m <- momentum * m + learning_rate * g / sqrt(v + epsilon)`. Centered, the average gradient's square is taken off
    `v`, and what rounding makes negative is 0 (in Keras the root of it is NaN). Drop-in for `keras.optimizers.RMSprop`: same arguments,
    defaults and slots.

    Args:
        learning_rate: float of at least 0, schedule, or function without arguments.
        rho: share of the old average that is kept, in [0, 1].
        momentum: share of the last step that is kept, in [0, 1].
        epsilon: added to `v`, at least 0.
        centered: divide by the standard deviation of the gradients instead of their root mean square.
        weight_decay: as in `SGD`; so are clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps and name.
        epsilon_outside: add epsilon to the root instead, `g / (sqrt(v) + epsilon)`, as PyTorch does.
        **kwargs: `lazy`, `master_weights`, `learning_rate_multipliers`, `exclude_from_weight_decay` and `exclude_norms_and_biases`, as in
            `SGD`.

    Raises:
        ValueError: a number is outside its range.

    Examples:
        >>> w = keras.Variable([1.0])
        >>> RMSprop(learning_rate=0.1, rho=0.75).apply([ops.convert_to_tensor([4.0])], [w])
        >>> round(float(w.numpy()[0]), 5)
        0.8

    References:
        Tieleman and Hinton (2012), Neural networks for machine learning, lecture 6e. Graves (2013), arXiv:1308.0850, equations 38 to 45,
        for the centered form with momentum.
    """

    _kernel = "rmsprop"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
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
        super().__init__(
            *(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency),
            *(loss_scale_factor, gradient_accumulation_steps, name),
            **kwargs,
        )
        self.rho = in_range("rho", rho, 0.0, 1.0)
        self.momentum = in_range("momentum", momentum, 0.0, 1.0)
        self.epsilon = in_float32("epsilon", in_range("epsilon", epsilon, 0.0))
        self.centered = flag("centered", centered)
        self.epsilon_outside = flag("epsilon_outside", epsilon_outside)
        self._velocities: list[Any] = []
        self._momentums: list[Any] = []
        self._average_gradients: list[Any] = []

    @property
    def _exact_by_rows(self) -> bool:
        return self.momentum == 0

    def _idle(self, slot: Any) -> Any:
        return ops.multiply(slot, self.rho)

    def _build_slots(self, variables: list[Any]) -> None:
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        if self.momentum > 0:
            self._momentums = self.add_optimizer_variables(variables, "momentum")
        if self.centered:
            self._average_gradients = self.add_optimizer_variables(variables, "average_gradient")

    def _slots(self) -> list[list[Any]]:
        return [slots for slots in (self._velocities, self._average_gradients, self._momentums) if slots]

    def _rule(self, g: Any, slots: list[Any], rate: Any) -> tuple[Any, list[Any]]:
        after = [self._averaged(slots[0], ops.square(g))]
        v = after[0]
        if self.centered:
            after.append(self._averaged(slots[1], g))
            v = ops.maximum(ops.subtract(v, ops.square(after[1])), 0)
        root = ops.add(ops.sqrt(v), self.epsilon) if self.epsilon_outside else ops.sqrt(ops.add(v, self.epsilon))
        step = ops.divide(ops.multiply(rate, g), root)
        if self.momentum > 0:
            step = ops.add(ops.multiply(self.current_momentum(), slots[-1]), step)
            after.append(step)
        return step, after

    def _averaged(self, old: Any, new: Any) -> Any:
        return ops.add(ops.multiply(self.rho, old), ops.multiply(1 - self.rho, new))
