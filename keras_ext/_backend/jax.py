"""What the package needs of JAX itself."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import sparse


def framework_version() -> str:
    """Return the framework's name and version."""
    return f"jax {jax.__version__}"


def prepare_devices() -> None:
    """Do nothing: how JAX takes a GPU's memory is set by XLA_PYTHON_CLIENT_PREALLOCATE before it starts."""


def device_name() -> str:
    """Return the name of the device that computations go to."""
    device = jax.devices()[0]
    return "CPU" if device.platform == "cpu" else f"{device.platform.upper()} {device.device_kind}"


def wait(tree: Any) -> None:
    """Return once every array in `tree` has been computed."""
    jax.block_until_ready(tree)


def sum_repeated_rows(gradient: Any) -> Any:
    """Gather the rows of a sparse gradient that carry the same id into one; the rows' number stays as it was."""
    return gradient.sum_duplicates(nse=gradient.nse) if isinstance(gradient, sparse.BCOO) else gradient


def sparse_values(gradient: Any) -> Any:
    """Return the numbers that a gradient stores, without those that are zero because it is sparse."""
    return gradient.data if isinstance(gradient, sparse.BCOO) else gradient


def with_sparse_values(gradient: Any, values: Any) -> Any:
    """Return `gradient` with other stored numbers."""
    if isinstance(gradient, sparse.BCOO):
        return sparse.BCOO((values, gradient.indices), shape=gradient.shape)
    return values


def replica_count() -> int:
    """Return 1: on JAX one program spans the devices, and its sums are over all of them."""
    return 1


def sum_over_replicas(tree: Any) -> Any:
    """Return `tree`: see `replica_count`."""
    return tree


def compile_probe(forward: Callable[..., tuple[Any, Any]], reduce: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `forward(trainable, other, data) -> loss, outputs` and `reduce(loss, gradients, trainable, outputs) -> vector`.

    Returns a function of the lists of variables and the data; it differentiates the loss by `trainable` and returns the vector as NumPy.
    """

    @jax.jit
    def run(trainable: list[Any], other: list[Any], data: Any) -> Any:
        (loss, outputs), gradients = jax.value_and_grad(forward, has_aux=True)(trainable, other, data)
        return reduce(loss, gradients, trainable, outputs)

    def probe(trainable: list[Any], other: list[Any], data: Any) -> Any:
        return np.asarray(run([v.value for v in trainable], [v.value for v in other], data))

    return probe
