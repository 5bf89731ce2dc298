"""The command `python -m benchmarks`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import click

from benchmarks import BACKENDS, GROUPS

RESULTS = Path(__file__).parent / "results"


def _groups(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    wanted = [word.strip() for word in value.split(",") if word.strip()]
    unknown = [word for word in wanted if word not in GROUPS]
    if unknown or not wanted:
        raise click.BadParameter(f"must be some of {', '.join(GROUPS)}, with commas, got {value!r}.")
    return [group for group in GROUPS if group in wanted]


@click.command()
@click.option("--backend", type=click.Choice([*BACKENDS, "all"]), help="Backend of Keras; by default that of the environment.")
@click.option("--only", "groups", default=",".join(GROUPS), show_default=True, callback=_groups, help="What to measure.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=RESULTS, help="Folder of the results, which it replaces."
)
@click.option("--quick", is_flag=True, help="Try the command on tiny cases; the figures say nothing.")
def main(backend: str | None, groups: list[str], output: Path, quick: bool) -> None:
    """Measure the package's parts against Keras's own.

    Writes results-<backend>.json and results.md into the output folder (default: benchmarks/results).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend == "all":
        _each_backend(groups, output, quick)
        return
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    from benchmarks.suite import run  # keras reads KERAS_BACKEND when it is first imported

    run(groups, output, quick)


def _each_backend(groups: list[str], output: Path, quick: bool) -> None:
    """Run one process for each backend that is installed; the others are named."""
    failed = []
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is None:
            click.echo(f"{backend}: not installed, left out.")
            continue
        words = ["--backend", backend, "--only", ",".join(groups), "--output", str(output), *(["--quick"] if quick else [])]
        child = subprocess.run([sys.executable, "-m", "benchmarks", *words], env={**os.environ, "KERAS_BACKEND": backend}, check=False)
        if child.returncode:
            failed.append(backend)
    if failed:
        raise click.ClickException(f"No figures for {', '.join(failed)}: see above.")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
