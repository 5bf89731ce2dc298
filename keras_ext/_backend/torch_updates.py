"""The optimizers' steps on PyTorch, for all weights at once and in place.

PyTorch runs each line here as few kernels over the whole list, where one weight after the other costs a dozen small ones each. The formulas
are those of the optimizers; every list has one tensor a weight, `rate` is a tensor of no axes. The functions return True: all is done.
"""

# torch.optim is made of these functions, and Keras's optimizers too; the type stubs call them private all the same.
# pyright: reportPrivateImportUsage=false

from typing import Any

import torch

Tensors = list[torch.Tensor]


@torch.no_grad()
def decay(weights: Tensors, *, rate: Any) -> None:
    """Take the share `rate` off the weights."""
    torch._foreach_mul_(weights, (1 - rate).to(weights[0].device))


@torch.no_grad()
def sgd(weights: Tensors, gradients: Tensors, velocities: Tensors, *, rate: Any, momentum: Any, dampening: float, nesterov: bool) -> bool:
    """Step as `keras_ext.optimizers.SGD` does; without momentum `velocities` is empty."""
    step = -float(rate)
    if not velocities:
        torch._foreach_add_(weights, gradients, alpha=step)
        return True
    momentum = float(momentum)
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients, alpha=step * (1.0 - dampening))
    if nesterov:
        torch._foreach_add_(weights, velocities, alpha=momentum)
        torch._foreach_add_(weights, gradients, alpha=step)
    else:
        torch._foreach_add_(weights, velocities)
    return True


@torch.no_grad()
def adagrad(weights: Tensors, gradients: Tensors, accumulators: Tensors, *, rate: Any, epsilon: float, epsilon_outside: bool) -> bool:
    """Step as `keras_ext.optimizers.Adagrad` does."""
    torch._foreach_addcmul_(accumulators, gradients, gradients)
    _add_quotients(weights, gradients, _roots(accumulators, epsilon, epsilon_outside), -rate)
    return True


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
    momentum: Any,
    epsilon: float,
    epsilon_outside: bool,
) -> bool:
    """Step as `keras_ext.optimizers.RMSprop` does; `means` is empty unless centered, `velocities` without momentum."""
    torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - rho)
    if means:
        torch._foreach_lerp_(means, gradients, 1 - rho)
        variances = torch._foreach_addcmul(squares, means, means, value=-1)
        torch._foreach_clamp_min_(variances, 0.0)
        roots = _roots(variances, epsilon, epsilon_outside)
    else:
        roots = _roots(squares, epsilon, epsilon_outside)
    if not velocities:
        _add_quotients(weights, gradients, roots, -rate)
        return True
    torch._foreach_mul_(velocities, float(momentum))
    _add_quotients(velocities, gradients, roots, rate)
    torch._foreach_add_(weights, velocities, alpha=-1)
    return True


@torch.no_grad()
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
    beta_1 = float(beta_1)
    torch._foreach_lerp_(means, gradients, 1 - beta_1)
    torch._foreach_lerp_(squares, torch._foreach_mul(gradients, gradients), 1 - beta_2)
    if largest:
        torch._foreach_maximum_(largest, squares)
    mean_share, square_share = (1.0, 1.0) if t is None else (1 - torch.pow(beta, t) for beta in (beta_1, beta_2))
    if epsilon_root:
        roots = torch._foreach_add(largest or squares, float(epsilon_root * square_share))
        torch._foreach_sqrt_(roots)
    else:
        roots = torch._foreach_sqrt(largest or squares)
    torch._foreach_add_(roots, epsilon)
    _add_quotients(weights, means, roots, -rate * square_share**0.5 / mean_share)
    return True


def _roots(squares: Any, epsilon: float, epsilon_outside: bool) -> Any:
    """Return the roots with epsilon inside or outside, of new tensors."""
    if epsilon_outside:
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, epsilon)
    else:
        roots = torch._foreach_add(squares, epsilon)
        torch._foreach_sqrt_(roots)
    return roots


def _add_quotients(sums: Tensors, numerators: Tensors, denominators: Any, factor: Any) -> None:
    """Add `factor * numerators / denominators` to `sums`; the denominators are used up."""
    if factor.device.type == "cpu":
        torch._foreach_addcdiv_(sums, numerators, denominators, value=float(factor))
        return
    # A number would have to wait for the device.
    torch._foreach_div_(denominators, factor)
    torch._foreach_addcdiv_(sums, numerators, denominators)
