"""The optimizers' steps on TensorFlow without XLA, in place and in one kernel a weight where TensorFlow has one of that formula.

Keras runs a dozen operations a weight, each of which goes through memory once. Every list has one variable or gradient a weight, of one
dtype; `rate` is a tensor of no axes. A function returns False, and has done nothing, where no kernel computes what is asked.
"""

import math
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


def sgd(weights: Tensors, gradients: Tensors, velocities: Tensors, *, rate: Any, momentum: Any, dampening: float, nesterov: bool) -> bool:
    """Step as `keras_ext.optimizers.SGD` does; without momentum `velocities` is empty."""
    if not velocities:
        for w, g in zip(weights, gradients, strict=True):
            raw.ResourceApplyGradientDescent(var=w.handle, alpha=rate, delta=g)
        return True
    if dampening:
        rate = rate * (1.0 - dampening)
    for w, g, m in zip(weights, gradients, velocities, strict=True):
        kept = tf.cast(momentum, g.dtype)
        raw.ResourceApplyKerasMomentum(var=w.handle, accum=m.handle, lr=rate, grad=g, momentum=kept, use_nesterov=nesterov)
    return True


def adagrad(weights: Tensors, gradients: Tensors, accumulators: Tensors, *, rate: Any, epsilon: float, epsilon_outside: bool) -> bool:
    """Step as `keras_ext.optimizers.Adagrad` does."""
    zero, one, double = tf.zeros_like(rate), tf.ones_like(rate), 2.0 * rate
    for w, g, a in zip(weights, gradients, accumulators, strict=True):
        if epsilon_outside:
            raw.ResourceApplyAdagradV2(var=w.handle, accum=a.handle, lr=rate, epsilon=tf.cast(epsilon, g.dtype), grad=g)
            continue
        if g.shape.num_elements() < _LARGE:
            # Adds the square, and 0 to the weight. Then `g / (2 * root)`, by twice the rate: each in one operation.
            raw.ResourceApplyAdagradV2(var=w.handle, accum=a.handle, lr=zero, epsilon=one, grad=g)
            step = raw.SqrtGrad(y=tf.sqrt(a + epsilon), dy=g)
            raw.ResourceApplyGradientDescent(var=w.handle, alpha=double, delta=step)
        else:
            a.assign_add(tf.square(g), read_value=False)
            # This kernel knows no epsilon: it gets the sum with epsilon, and leaves it alone.
            _on_scratch(a + epsilon, _adagrad_kernel(w, g, rate))
    return True


def _adagrad_kernel(w: Any, g: Any, rate: Any) -> Callable[[Any], Any]:
    return lambda sums: raw.ResourceApplyAdagrad(var=w.handle, accum=sums, lr=rate, grad=g, update_slots=False)


def rmsprop(
    weights: Tensors,
    gradients: Tensors,
    squares: Tensors,
    means: Tensors,
    velocities: Tensors,
    *,
    rate: Any,
    rho: float,
    momentum: Any,
    epsilon: float,
    epsilon_outside: bool,
) -> bool:
    """Step as `keras_ext.optimizers.RMSprop` does; `means` is empty unless centered, `velocities` without momentum."""
    # The centered kernel takes the root of a variance that rounding may have made negative.
    if means or epsilon_outside or not _is_exact(rho, weights[0].dtype):
        return False
    for i, (w, g, v) in enumerate(zip(weights, gradients, squares, strict=True)):
        kernel = _rmsprop_kernel(w, g, v, rate, rho, momentum, epsilon)
        if velocities:
            kernel(velocities[i].handle)
        else:
            _on_scratch(tf.zeros_like(g), kernel)
    return True


def _rmsprop_kernel(w: Any, g: Any, v: Any, rate: Any, rho: float, momentum: Any, epsilon: float) -> Callable[[Any], Any]:
    numbers = {name: tf.cast(value, g.dtype) for name, value in (("rho", rho), ("momentum", momentum), ("epsilon", epsilon))}
    return lambda velocity: raw.ResourceApplyRMSProp(var=w.handle, ms=v.handle, mom=velocity, lr=rate, grad=g, **numbers)


def adam(
    weights: Tensors,
    gradients: Tensors,
    means: Tensors,
    squares: Tensors,
    largest: Tensors,
    *,
    rate: Any,
    t: Any,
    beta_1: Any,
    beta_2: float,
    epsilon: float,
    epsilon_root: float,
) -> bool:
    """Step as `keras_ext.optimizers.Adam` does; `largest` is empty but for AMSGrad, `t` counts the steps, or is None."""
    if epsilon_root or t is None or not isinstance(beta_1, (int, float)) or min(beta_1, beta_2) < _LEAST:
        return False
    powers = [tf.pow(tf.cast(beta, rate.dtype), t) for beta in (beta_1, beta_2)]
    rate = rate * tf.sqrt(_startup(powers[1], beta_2, t)) / _startup(powers[0], beta_1, t)
    for i, (w, g, m, v) in enumerate(zip(weights, gradients, means, squares, strict=True)):
        numbers = {name: tf.cast(value, g.dtype) for name, value in (("beta1", beta_1), ("beta2", beta_2), ("epsilon", epsilon))}
        arguments = {"var": w.handle, "m": m.handle, "v": v.handle, "lr": rate, "grad": g, **numbers}
        arguments |= {"beta1_power": powers[0], "beta2_power": powers[1]}
        if largest:
            raw.ResourceApplyAdamWithAmsgrad(vhat=largest[i].handle, **arguments)
        else:
            raw.ResourceApplyAdam(**arguments)
    return True


def _is_exact(rho: float, dtype: Any) -> bool:
    """Return whether a kernel's moving average is that of `rho`: it rounds rho before it takes it from 1, for .999 off by 1.3e-5."""
    return _LEAST <= rho < 1 and abs(float(1 - np.asarray(rho, dtype.as_numpy_dtype)) / (1 - rho) - 1) < 1e-6


def _startup(power: Any, beta: float, t: Any) -> Any:
    """Return by how much a kernel's average from zero is too large after `t` steps; `power` is beta^t.

    Its weights add up to 1 less the power of the rounded beta. Those of Keras add up to what they should, and it divides by the other.
    """
    return (1.0 - power) / -tf.math.expm1(t * math.log(beta)) if beta else tf.ones_like(power)


def _on_scratch(value: Any, kernel: Callable[[Any], Any]) -> None:
    """Run `kernel` on the handle of a variable that lasts this step alone: it wants one where the optimizer has none."""
    handle = raw.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=_ANONYMOUS)
    raw.AssignVariableOp(resource=handle, value=value)
    done = kernel(handle)
    # Run eagerly an operation is done when it returns, and is None.
    with tf.control_dependencies([] if done is None else [done]):
        raw.DestroyResourceOp(resource=handle)
