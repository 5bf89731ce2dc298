"""The optimizers' steps on TensorFlow without XLA, in place and in one kernel a weight where TensorFlow has one of that formula.

Keras runs a dozen operations a weight, each of which goes through memory once. A function reads its optimizer's settings. Every list has
one variable or gradient a weight, of one dtype; `slots` are the lists that are in use, `rate` is a tensor of no axes. It returns False, and
has done nothing, where no kernel computes what is asked.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

raw = tf.raw_ops
# Above so many values the memory that is gone through counts, below it the number of operations.
_LARGE = 2**16
# The kernels move an average by its difference to the new value: below this share of the old that loses digits.
_LEAST = 0.1
# TensorFlow's own name for a resource without a name (ResourceHandle::ANONYMOUS_NAME).
_ANONYMOUS = "cd2c89b7-88b7-44c8-ad83-06c2a9158347"

Tensors = list[Any]


def decay(weights: Tensors, *, rate: Any) -> None:
    """Take the share `rate` off the weights."""
    for w in weights:
        w.assign_sub(w * rate, read_value=False)


def sgd(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.SGD` does."""
    if not slots:
        for w, g in zip(weights, gradients, strict=True):
            raw.ResourceApplyGradientDescent(var=w.handle, alpha=rate, delta=g)
        return True
    if optimizer.dampening:
        rate = rate * (1.0 - optimizer.dampening)
    numbers = {"lr": rate, "momentum": tf.cast(optimizer.current_momentum(), rate.dtype), "use_nesterov": optimizer.nesterov}
    for w, g, m in zip(weights, gradients, slots[0], strict=True):
        raw.ResourceApplyKerasMomentum(var=w.handle, accum=m.handle, grad=g, **numbers)
    return True


def adagrad(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.Adagrad` does."""
    epsilon = optimizer.epsilon
    zero, one, double = tf.zeros_like(rate), tf.ones_like(rate), 2.0 * rate
    for w, g, a in zip(weights, gradients, slots[0], strict=True):
        if optimizer.epsilon_outside:
            raw.ResourceApplyAdagradV2(var=w.handle, accum=a.handle, lr=rate, epsilon=tf.cast(epsilon, g.dtype), grad=g)
        elif g.shape.num_elements() < _LARGE:
            # Adds the square, and 0 to the weight. Then `g / (2 * root)`, by twice the rate: each in one operation.
            raw.ResourceApplyAdagradV2(var=w.handle, accum=a.handle, lr=zero, epsilon=one, grad=g)
            step = raw.SqrtGrad(y=tf.sqrt(a + epsilon), dy=g)
            raw.ResourceApplyGradientDescent(var=w.handle, alpha=double, delta=step)
        else:
            a.assign_add(tf.square(g), read_value=False)
            # This kernel knows no epsilon: it gets the sum with epsilon, and leaves it alone.
            arguments = {"var": w.handle, "lr": rate, "grad": g, "update_slots": False}
            _on_scratch(a + epsilon, "accum", raw.ResourceApplyAdagrad, arguments)
    return True


def rmsprop(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.RMSprop` does."""
    # The centered kernel takes the root of a variance that rounding may have made negative.
    if optimizer.centered or optimizer.epsilon_outside or not _is_exact(optimizer.rho, weights[0].dtype):
        return False
    numbers = {"rho": optimizer.rho, "momentum": optimizer.current_momentum(), "epsilon": optimizer.epsilon}
    for i, (w, g, v) in enumerate(zip(weights, gradients, slots[0], strict=True)):
        arguments = {"var": w.handle, "ms": v.handle, "lr": rate, "grad": g}
        arguments |= {name: tf.cast(value, g.dtype) for name, value in numbers.items()}
        if optimizer.momentum:
            raw.ResourceApplyRMSProp(mom=slots[1][i].handle, **arguments)
        else:
            _on_scratch(tf.zeros_like(g), "mom", raw.ResourceApplyRMSProp, arguments)
    return True


def adam(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.Adam` does."""
    betas = optimizer.current_momentum(), optimizer.beta_2
    is_constant = isinstance(betas[0], (int, float))
    if optimizer.epsilon_root or not optimizer.bias_correction or not is_constant or any(beta < _LEAST for beta in betas):
        return False
    t = tf.cast(optimizer.iterations + 1, rate.dtype)
    powers = [tf.pow(tf.cast(beta, rate.dtype), t) for beta in betas]
    rate = rate * tf.sqrt(_startup(powers[1], betas[1], t)) / _startup(powers[0], betas[0], t)
    numbers = {"beta1": betas[0], "beta2": betas[1], "epsilon": optimizer.epsilon}
    for i, (w, g, m, v) in enumerate(zip(weights, gradients, *slots[:2], strict=True)):
        arguments = {"var": w.handle, "m": m.handle, "v": v.handle, "lr": rate, "grad": g}
        arguments |= {"beta1_power": powers[0], "beta2_power": powers[1]}
        arguments |= {name: tf.cast(value, g.dtype) for name, value in numbers.items()}
        if optimizer.amsgrad:
            raw.ResourceApplyAdamWithAmsgrad(vhat=slots[2][i].handle, **arguments)
        else:
            raw.ResourceApplyAdam(**arguments)
    return True


def _is_exact(rho: float, dtype: Any) -> bool:
    """Return whether a kernel's moving average is that of `rho`: it rounds rho before it takes it from 1, for .999 off by 1.3e-5."""
    # Nothing says so of a number that is an input of the step.
    return type(rho) is float and _LEAST <= rho < 1 and abs(float(1 - np.asarray(rho, dtype.as_numpy_dtype)) / (1 - rho) - 1) < 1e-6


def _startup(power: Any, beta: float, t: Any) -> Any:
    """Return by how much a kernel's average from zero is too large after `t` steps; `power` is beta^t.

    Its weights add up to 1 less the power of the rounded beta. Those of Keras add up to what they should, and it divides by the other.
    """
    return (1.0 - power) / -tf.math.expm1(t * tf.math.log1p(-tf.cast(1 - beta, t.dtype))) if beta else tf.ones_like(power)


def _on_scratch(value: Any, name: str, kernel: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Run `kernel` with the argument `name` on a variable that lasts this step alone: it wants one where the optimizer has none."""
    handle = raw.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=_ANONYMOUS)
    raw.AssignVariableOp(resource=handle, value=value)
    done = kernel(**arguments, **{name: handle})
    # Run eagerly an operation is done when it returns, and is None.
    with tf.control_dependencies([] if done is None else [done]):
        raw.DestroyResourceOp(resource=handle)
