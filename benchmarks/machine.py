"""Where and with what a figure was measured: no host name, no path."""

import datetime
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import click

# How a process learns which device its parent was asked for.
ASKED = "KERAS_EXT_BENCHMARKS_DEVICE"
HIDDEN = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "KERAS_TORCH_DEVICE": "cpu"}


def choose_device(kind: str | None) -> None:
    """Hide the GPUs for `"cpu"` and demand one for `"gpu"`; None leaves it to the framework. Keras is imported after this."""
    # Without the last JAX takes most of the memory at once, and a process that measures apart finds none.
    os.environ.update({None: {}, "cpu": HIDDEN, "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}}[kind])
    os.environ.update({} if kind is None else {ASKED: kind})


def device() -> str:
    """Return the name of the device that computations go to, or raise ClickException where it is not of the kind that was asked for."""
    import keras

    from keras_ext._backend import device_name

    is_cpu = "cpu" in str(keras.ops.ones(1).device).lower()
    backend, asked = keras.backend.backend(), os.environ.get(ASKED)
    if asked == "gpu" and is_cpu:
        raise click.ClickException(
            f"--device gpu: {backend} sees no GPU here, its computations go to the CPU. Install its build for GPUs, or leave --device out."
        )
    if asked == "cpu" and not is_cpu:
        raise click.ClickException(f"--device cpu: {backend} had started on {device_name()} already. Hide it before Python starts.")
    return "CPU" if is_cpu else device_name()


def header(command: str) -> dict[str, str]:
    """Return the machine, the versions, the date and the `command`; taken before the figures, for the load of the machine."""
    import keras

    import keras_ext
    from keras_ext._backend import framework_version

    info, asked = Path("/proc/cpuinfo"), os.environ.get(ASKED)
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "command": f"{command} --device {asked}" if asked else command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": model[1] if model else platform.processor() or "unknown",
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "device": device(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": f"keras_ext {keras_ext.__version__}, keras {keras.__version__}, {framework_version()}, numpy {version('numpy')}",
    }
