"""Adam (Kingma and Ba 2015) and AMSGrad (Reddi et al. 2018)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import flag, in_float32, in_range
from keras_ext.optimizers._base import MomentumOptimizer


@keras.saving.register_keras_serializable(package="keras_ext")
class Adam(MomentumOptimizer):
    """Step along a moving average of the gradient over the root of a moving average of its squares.

    `m <- beta_1 * m + (1 - beta_1) * g`, `v <- beta_2 * v + (1 - beta_2) * g^2`,
    `w <- w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)`. Drop-in for `keras.optimizers.Adam`: same
    arguments, defaults and slots.

    Args:
        learning_rate: float of at least 0, schedule, or function without arguments.
        beta_1: share of `m` that each step keeps, in [0, 1).
        beta_2: share of `v` that each step keeps, in [0, 1).
        epsilon: added outside the root, at least 0: the "epsilon hat" before section 2.1 of the paper. Keras 1e-7, the paper 1e-8.
        amsgrad: divide by the largest `v` so far instead of the last.
        weight_decay: as in `SGD`; so are clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency,
            loss_scale_factor, gradient_accumulation_steps and name.
        epsilon_root: added inside the root, to `v / (1 - beta_2^t)`, at least 0. With `epsilon=0` the step is
            `learning_rate * m' / sqrt(v' + epsilon_root)` for the corrected moments m' and v'; it has a slope where v' is 0.
        bias_correction: make up for moments that began at zero; False takes m and v as they are, `learning_rate * m / (sqrt(v) + epsilon)`.
        **kwargs: `lazy`, `master_weights`, `learning_rate_multipliers`, `exclude_from_weight_decay` and `exclude_norms_and_biases`, as in
            `SGD`.

    Raises:
        ValueError: a number is outside its range.

    Examples:
        >>> w = keras.Variable([1.0])
        >>> Adam(learning_rate=0.1).apply([ops.convert_to_tensor([4.0])], [w])
        >>> round(float(w.numpy()[0]), 5)
        0.9

    References:
        Kingma and Ba (2015), arXiv:1412.6980, algorithm 1 and the formula before section 2.1. Reddi, Kale and Kumar (2018),
        arXiv:1904.09237, algorithm 2.
    """

    _kernel = "adam"
    momentum_argument = "beta_1"

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        epsilon_root: float = 0.0,
        bias_correction: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency),
            *(loss_scale_factor, gradient_accumulation_steps, name),
            **kwargs,
        )
        self.beta_1 = in_range("beta_1", beta_1, 0.0, 1.0, closed="left")
        self.beta_2 = in_range("beta_2", beta_2, 0.0, 1.0, closed="left")
        self.epsilon = in_float32("epsilon", in_range("epsilon", epsilon, 0.0))
        self.amsgrad = flag("amsgrad", amsgrad)
        self.epsilon_root = in_float32("epsilon_root", in_range("epsilon_root", epsilon_root, 0.0))
        self.bias_correction = flag("bias_correction", bias_correction)
        self._momentums: list[Any] = []
        self._velocities: list[Any] = []
        self._velocity_hats: list[Any] = []

    def _build_slots(self, variables: list[Any]) -> None:
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])
        if self.amsgrad:
            self._velocity_hats = self.add_optimizer_variables(variables, "velocity_hat")

    def _slots(self) -> list[list[Any]]:
        return [self._momentums, self._velocities, *([self._velocity_hats] if self.amsgrad else [])]

    def _rule(self, g: Any, slots: list[Any], rate: Any) -> tuple[Any, list[Any]]:
        beta_1 = self.current_momentum()
        # beta * average + (1 - beta) * new, rounded once less.
        m, v = (
            ops.add(average, ops.multiply(ops.subtract(new, average), 1 - beta))
            for average, new, beta in ((slots[0], g, beta_1), (slots[1], ops.square(g), self.beta_2))
        )
        after = [m, v, *(ops.maximum(high, v) for high in slots[2:])]
        dtype = keras.backend.standardize_dtype(g.dtype)
        powers = [ops.zeros((), dtype)] * 2
        if self.bias_correction:
            t = ops.cast(self.iterations + 1, dtype)
            powers = [ops.power(ops.cast(beta, dtype), t) for beta in (beta_1, self.beta_2)]
        size = rate * ops.sqrt(1 - powers[1]) / (1 - powers[0])
        inside = ops.add(after[-1], self.epsilon_root * (1 - powers[1])) if self.epsilon_root else after[-1]
        return ops.divide(ops.multiply(m, size), ops.add(ops.sqrt(inside), self.epsilon)), after
