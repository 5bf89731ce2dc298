"""The optimizers' steps on PyTorch, for all weights at once and in place.

PyTorch runs each line here as few kernels over the list, where one weight after the other costs a dozen small ones each. The formulas
are those of the optimizers, whose settings are read. Every list has one tensor a weight, `slots` are the lists that are in use, and `rate`
is a tensor of no axes. The functions return True: all is done.
"""

# torch.optim is made of these functions, and Keras's optimizers too; the type stubs call them private all the same.
# pyright: reportPrivateImportUsage=false

from typing import Any

import torch
from keras import ops

from keras_ext._backend import torch_waiting

Tensors = list[torch.Tensor]


@torch.no_grad()
def decay(weights: Tensors, *, rate: Any) -> None:
    """Take the share `rate` off the weights."""
    torch._foreach_mul_(weights, (1 - rate).to(weights[0].device))


@torch.no_grad()
def sgd(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.SGD` does."""
    step = -rate
    if not slots:
        _add_multiples(weights, gradients, step)
        return True
    velocities, momentum = slots[0], float(optimizer.current_momentum())
    torch._foreach_mul_(velocities, momentum)
    _add_multiples(velocities, gradients, step * (1.0 - optimizer.dampening))
    if optimizer.nesterov:
        torch._foreach_add_(weights, velocities, alpha=momentum)
        _add_multiples(weights, gradients, step)
    else:
        torch._foreach_add_(weights, velocities)
    return True


@torch.no_grad()
def adagrad(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.Adagrad` does."""
    torch._foreach_addcmul_(slots[0], gradients, gradients)
    _add_quotients(weights, gradients, _roots(slots[0], optimizer), -rate)
    return True


@torch.no_grad()
def rmsprop(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.RMSprop` does."""
    variances = slots[0]
    torch._foreach_lerp_(variances, torch._foreach_mul(gradients, gradients), 1 - optimizer.rho)
    if optimizer.centered:
        means = slots[1]
        torch._foreach_lerp_(means, gradients, 1 - optimizer.rho)
        variances = torch._foreach_addcmul(variances, means, means, value=-1)
        torch._foreach_clamp_min_(variances, 0.0)
    roots = _roots(variances, optimizer)
    if not optimizer.momentum:
        _add_quotients(weights, gradients, roots, -rate)
        return True
    velocities = slots[-1]
    torch._foreach_mul_(velocities, float(optimizer.current_momentum()))
    _add_quotients(velocities, gradients, roots, rate)
    torch._foreach_add_(weights, velocities, alpha=-1)
    return True


@torch.no_grad()
def adam(optimizer: Any, weights: Tensors, gradients: Tensors, slots: list[Tensors], rate: Any) -> bool:
    """Step as `keras_ext.optimizers.Adam` does."""
    means, squares, largest = slots[0], slots[1], slots[-1]
    beta_1, beta_2 = float(optimizer.current_momentum()), optimizer.beta_2
    torch._foreach_lerp_(means, gradients, 1 - beta_1)
    torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta_2)
    if optimizer.amsgrad:
        torch._foreach_maximum_(largest, squares)
    mean_share, square_share = 1.0, 1.0
    if optimizer.bias_correction:
        t = ops.cast(optimizer.iterations + 1, rate.dtype)
        mean_share, square_share = (1 - torch.pow(beta, t) for beta in (beta_1, beta_2))
    if optimizer.epsilon_root:
        roots = torch._foreach_add(largest, float(optimizer.epsilon_root * square_share))
        torch._foreach_sqrt_(roots)
    else:
        roots = torch._foreach_sqrt(largest)
    torch._foreach_add_(roots, optimizer.epsilon)
    _add_quotients(weights, means, roots, -rate * square_share**0.5 / mean_share)
    return True


def _roots(squares: Any, optimizer: Any) -> Any:
    """Return the roots with epsilon inside or outside, of new tensors."""
    if optimizer.epsilon_outside:
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, optimizer.epsilon)
    else:
        roots = torch._foreach_add(squares, optimizer.epsilon)
        torch._foreach_sqrt_(roots)
    return roots


def _add_multiples(sums: Tensors, numbers: Tensors, factor: Any) -> None:
    """Add `factor * numbers` to `sums`."""
    if torch_waiting.is_at_hand(factor):
        torch._foreach_add_(sums, numbers, alpha=float(factor))
    else:
        torch._foreach_add_(sums, torch._foreach_mul(numbers, factor))


def _add_quotients(sums: Tensors, numerators: Tensors, denominators: Any, factor: Any) -> None:
    """Add `factor * numerators / denominators` to `sums`; the denominators are used up."""
    if torch_waiting.is_at_hand(factor):
        torch._foreach_addcdiv_(sums, numerators, denominators, value=float(factor))
        return
    # A number would have to wait for the device.
    torch._foreach_div_(denominators, factor)
    torch._foreach_addcdiv_(sums, numerators, denominators)
