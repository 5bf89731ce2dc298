"""What the package needs of PyTorch itself."""

from collections.abc import Callable
from typing import Any

import torch


def framework_version() -> str:
    """Return the framework's name and version."""
    return f"torch {torch.__version__}"


def prepare_devices() -> None:
    """Do nothing: PyTorch takes a GPU's memory as it needs it."""


def device_name() -> str:
    """Return the name of the device that computations go to."""
    if torch.cuda.is_available():
        return "GPU " + torch.cuda.get_device_name(0)
    return "GPU Apple" if torch.backends.mps.is_available() else "CPU"


def wait(tree: Any) -> None:
    """Return once every tensor in `tree` has been computed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def sum_repeated_rows(gradient: Any) -> Any:
    """Return `gradient`: Keras's embedding gradients are dense on PyTorch."""
    return gradient


def sparse_values(gradient: Any) -> Any:
    """Return `gradient`: see `sum_repeated_rows`."""
    return gradient


def with_sparse_values(gradient: Any, values: Any) -> Any:
    """Return `values`: see `sum_repeated_rows`."""
    return values


def replica_count() -> int:
    """Return 1: PyTorch's data parallelism sums the gradients before the optimizer sees them."""
    return 1


def sum_over_replicas(tree: Any) -> Any:
    """Return `tree`: see `replica_count`."""
    return tree


def compile_probe(forward: Callable[..., tuple[Any, Any]], reduce: Callable[..., Any]) -> Callable[..., Any]:
    """Join `forward(trainable, other, data) -> loss, outputs` and `reduce(loss, gradients, trainable, outputs) -> vector`.

    Returns a function of the lists of variables and the data; it differentiates the loss by `trainable` and returns the vector as NumPy.
    It runs eagerly, as Keras does on PyTorch by default.
    """

    def probe(trainable: list[Any], other: list[Any], data: Any) -> Any:
        # What draws from PyTorch's own generator (recurrent dropout of Keras, a user's layer) must not move it.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            return look(trainable, other, data)

    def look(trainable: list[Any], other: list[Any], data: Any) -> Any:
        leaves = [v.value.detach().requires_grad_(v.value.is_floating_point()) for v in trainable]
        with torch.enable_grad():
            loss, outputs = forward(leaves, [v.value.detach() for v in other], data)
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
        with torch.no_grad():
            gradients = [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, leaves, strict=True)]
            return reduce(loss, gradients, leaves, outputs).detach().cpu().numpy()

    return probe
