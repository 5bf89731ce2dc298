"""The optimizers' steps on PyTorch, for all weights at once and in place.

PyTorch runs each line here as few kernels over the whole list, where one weight after the other costs a dozen small ones each. The formulas
are those of the optimizers; every list has one tensor a weight, `rate` is a tensor of no axes.
"""

# torch.optim is made of these functions, and Keras's optimizers too; the type stubs call them private all the same.
# pyright: reportPrivateImportUsage=false

from typing import Any

import torch

Tensors = list[torch.Tensor]


@torch.no_grad()
def sgd(weights: Tensors, gradients: Tensors, velocities: Tensors, *, rate: Any, momentum: float, nesterov: bool) -> None:
    """Step as `keras_ext.optimizers.SGD` does; without momentum `velocities` is empty."""
    step = -float(rate)
    if not velocities:
        torch._foreach_add_(weights, gradients, alpha=step)
        return
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients, alpha=step)
    if nesterov:
        torch._foreach_add_(weights, velocities, alpha=momentum)
        torch._foreach_add_(weights, gradients, alpha=step)
    else:
        torch._foreach_add_(weights, velocities)


@torch.no_grad()
def adagrad(weights: Tensors, gradients: Tensors, accumulators: Tensors, *, rate: Any, epsilon: float) -> None:
    """Step as `keras_ext.optimizers.Adagrad` does."""
    torch._foreach_addcmul_(accumulators, gradients, gradients)
    roots = torch._foreach_add(accumulators, epsilon)
    torch._foreach_sqrt_(roots)
    _add_quotients(weights, gradients, roots, -rate)


@torch.no_grad()
def rmsprop(
    weights: Tensors,
    gradients: Tensors,
    squares: Tensors,
    means: Tensors,
    velocities: Tensors,
    *,
    rate: Any,
    rho: float,
    momentum: float,
    epsilon: float,
) -> None:
    """Step as `keras_ext.optimizers.RMSprop` does; `means` is empty unless centered, `velocities` without momentum."""
    torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - rho)
    roots = torch._foreach_add(squares, epsilon)
    if means:
        torch._foreach_lerp_(means, gradients, 1 - rho)
        torch._foreach_addcmul_(roots, means, means, value=-1)
    torch._foreach_sqrt_(roots)
    if not velocities:
        _add_quotients(weights, gradients, roots, -rate)
        return
    torch._foreach_mul_(velocities, momentum)
    _add_quotients(velocities, gradients, roots, rate)
    torch._foreach_add_(weights, velocities, alpha=-1)


@torch.no_grad()
def adam(
    weights: Tensors,
    gradients: Tensors,
    means: Tensors,
    squares: Tensors,
    largest: Tensors,
    *,
    step_size: Any,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """Step as `keras_ext.optimizers.Adam` does; `largest` is empty but for AMSGrad."""
    torch._foreach_lerp_(means, gradients, 1 - beta_1)
    torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta_2)
    if largest:
        torch._foreach_maximum_(largest, squares)
    roots = torch._foreach_sqrt(largest or squares)
    torch._foreach_add_(roots, epsilon)
    _add_quotients(weights, means, roots, -step_size)


def _add_quotients(sums: Tensors, numerators: Tensors, denominators: Any, factor: Any) -> None:
    """Add `factor * numerators / denominators` to `sums`; the denominators are used up."""
    if factor.device.type == "cpu":
        torch._foreach_addcdiv_(sums, numerators, denominators, value=float(factor))
        return
    # A number would have to wait for the device.
    torch._foreach_div_(denominators, factor)
    torch._foreach_addcdiv_(sums, numerators, denominators)
