"""Which device the figures are taken on: chosen before a framework starts, for this process and those that it starts."""

import os

import click

CHOICES = ("cpu", "gpu")
# How a process learns what its parent was asked for.
_ASKED = "KERAS_EXT_BENCHMARKS_DEVICE"
_HIDDEN = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "KERAS_TORCH_DEVICE": "cpu"}


def choose(kind: str | None) -> None:
    """Hide the GPUs for `"cpu"`, demand one for `"gpu"`, and leave it to the framework for None; to be called before Keras is imported."""
    if kind is None:
        return
    os.environ[_ASKED] = kind
    if kind == "cpu":
        os.environ.update(_HIDDEN)
    else:
        # JAX else takes most of the memory at once, and the processes that measure apart find none.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def asked() -> str | None:
    """Return what `choose` was told, here or in the process that started this one."""
    return os.environ.get(_ASKED)


def name() -> str:
    """Return the name of the device that computations go to.

    Raises:
        click.ClickException: it is not of the kind that was asked for.
    """
    import keras

    from keras_ext._backend import device_name

    is_cpu = "cpu" in str(keras.ops.ones(1).device).lower()
    backend = keras.backend.backend()
    if asked() == "gpu" and is_cpu:
        raise click.ClickException(
            f"--device gpu: {backend} sees no GPU here, its computations go to the CPU. Install its build for GPUs, or leave --device out."
        )
    if asked() == "cpu" and not is_cpu:
        raise click.ClickException(f"--device cpu: {backend} had started on {device_name()} already. Hide it before Python starts.")
    return "CPU" if is_cpu else device_name()
