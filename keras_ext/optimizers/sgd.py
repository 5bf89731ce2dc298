"""Gradient descent, with momentum (Polyak 1964) and Nesterov's form of it (Sutskever et al. 2013)."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import bad_argument, flag, in_range, is_number, plain
from keras_ext.optimizers._base import MomentumOptimizer


@keras.saving.register_keras_serializable(package="keras_ext")
class SGD(MomentumOptimizer):
    """Step against the gradient, with a velocity that keeps a share of the last step.

    Without momentum `w <- w - learning_rate * g`. With momentum `m <- momentum * m - learning_rate * (1 - dampening) * g` and
    `w <- w + m`, or with `nesterov=True` `w <- w + momentum * m - learning_rate * g`. Drop-in for `keras.optimizers.SGD`: same arguments,
    defaults and slots.

    Args:
        learning_rate: float of at least 0, schedule, or function without arguments.
        momentum: share of the last velocity that is kept, in [0, 1].
        nesterov: use the gradient at the place where the velocity leads.
        weight_decay: share of a weight that a step at rate 1 takes off it, before the step (decoupled; Loshchilov and Hutter 2019).
        clipnorm: largest L2 norm of a weight's gradient, above 0. Taken in float32 and after the sum over replicas, for all three.
        clipvalue: largest absolute value in a gradient, above 0.
        global_clipnorm: largest L2 norm of all gradients as one vector, above 0.
        use_ema: keep a moving average of the weights.
        ema_momentum: share of the average that each step keeps, in [0, 1].
        ema_overwrite_frequency: set the weights to their average after every so many steps.
        loss_scale_factor: factor of the loss, taken off the gradients again.
        gradient_accumulation_steps: take one step for the mean gradient of so many batches, at least 2.
        name: name of the optimizer.
        dampening: share of the gradient that the velocity does not take up, in [0, 1]. `dampening=momentum` makes the velocity the
            exponentially weighted mean of the steps, `v <- b v + (1 - b) g` and `w <- w - learning_rate * v`.
        lazy: leave slots and weights alone in rows without a gradient, and read and write the other rows only; weight decay too. This is
            another rule than the dense one, where momentum goes on without a gradient. TensorFlow: the rows that a sparse gradient (of an
            embedding) does not name. JAX and PyTorch, where those gradients are dense: rows of zeros in the gradient of any weight of two
            axes or more; no faster. The same on TensorFlow with `gradient_accumulation_steps` or `loss_scale_factor`.
        master_weights: keep a float32 copy of weights in bfloat16 or float16, and float32 slots for them: a step that is smaller than
            the weight's last bit adds up there.
        learning_rate_multipliers: factors of the learning rate by regular expressions, searched for in the weight's path, such as
            `{"encoder/": 0.1}`; the first that is found counts. Weight decay follows, as it does the rate.
        exclude_from_weight_decay: regular expressions, searched for in the weight's path; the method of that name excludes by the
            weight's own name, or weights themselves.
        exclude_norms_and_biases: exclude from weight decay what has fewer than two axes, or a name that ends in bias, gamma or beta.

    Raises:
        ValueError: a number is outside its range, or `nesterov` goes with `dampening`.

    Examples:
        >>> w = keras.Variable([1.0, 2.0])
        >>> SGD(learning_rate=0.5).apply([ops.convert_to_tensor([1.0, 1.0])], [w])
        >>> [float(v) for v in w.numpy()]
        [0.5, 1.5]

    References:
        Polyak (1964), Some methods of speeding up the convergence of iteration methods, equation 9. Sutskever, Martens, Dahl and Hinton
        (2013), On the importance of initialization and momentum in deep learning, equations 1 to 4.
    """

    _kernel = "sgd"

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
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
        dampening: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if not is_number(momentum) or not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be a float between [0, 1]. Received: momentum={momentum!r}.")
        dampening, nesterov = in_range("dampening", dampening, 0.0, 1.0), flag("nesterov", nesterov)
        if nesterov and dampening:
            raise bad_argument("dampening", "0 with nesterov=True", dampening, "There is no published rule for both.")
        if dampening and not momentum:
            raise bad_argument("dampening", "0 without momentum", dampening, "There is no velocity that it could dampen.")
        super().__init__(
            *(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency),
            *(loss_scale_factor, gradient_accumulation_steps, name),
            **kwargs,
        )
        self.momentum = plain(momentum)
        self.nesterov = nesterov
        self.dampening = dampening
        self.momentums: list[Any] = []

    @property
    def _exact_by_rows(self) -> bool:
        return self.momentum == 0

    def _build_slots(self, variables: list[Any]) -> None:
        if self.momentum != 0:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def _slots(self) -> list[list[Any]]:
        return [self.momentums] if self.momentums else []

    def _rule(self, g: Any, slots: list[Any], rate: Any) -> tuple[Any, list[Any]]:
        if not slots:
            return ops.multiply(g, rate), []
        momentum = self.current_momentum()
        m = ops.subtract(ops.multiply(slots[0], momentum), ops.multiply(g, rate * (1 - self.dampening)))
        ahead = ops.subtract(ops.multiply(m, momentum), ops.multiply(g, rate)) if self.nesterov else m
        return ops.negative(ahead), [m]
