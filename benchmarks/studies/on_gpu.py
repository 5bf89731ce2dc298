"""What the parts, the monitor and a search do on a GPU, in under eight minutes and with nothing to download.

`python -m benchmarks.studies.on_gpu --backend jax --output figures` demands a GPU; with `--small` it tries the command on what there is.
"""

import math
import os
from pathlib import Path
from typing import Any

import click

from benchmarks import BACKENDS
from benchmarks.measuring import device
from benchmarks.studies import frame


def section(kept: dict[str, Any]) -> str:
    """Return the figures as tables in Markdown."""
    from benchmarks.gpu import suite as gpu_suite

    return gpu_suite.section(kept)


@click.command()
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend of Keras; by default that of the environment.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for on_gpu-<backend>.json.")
@click.option("--small", is_flag=True, help="Try the command on tiny cases, with a GPU or without; the figures say nothing.")
def main(backend: str | None, output: Path, small: bool) -> None:
    """Measure on a GPU.

    The share of a copy's bandwidth that batch normalization, dropout, Adam and clipping reach, the step of a ResNet50 with Keras's parts
    and with ours, what the monitor adds, and a search on the digits.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    device.choose(None if small else "gpu")
    from benchmarks.gpu import suite as gpu_suite  # keras reads KERAS_BACKEND when it is first imported

    # On a CPU the compilers alone may take longer.
    kept = gpu_suite.figures(small, math.inf if small else gpu_suite.LAST_START)
    frame.finish(kept, section(kept), output / f"on_gpu-{kept['backend']}.json")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.on_gpu")
