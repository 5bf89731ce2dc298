"""The command `python -m benchmarks`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import click

from benchmarks import BACKENDS, GROUPS
from benchmarks.measuring import device
from benchmarks.studies import registry

RESULTS = Path(__file__).parent / "results"
# What stands for several of the studies.
SEVERAL = {
    "search": [study.name for study in registry.STUDIES if study.group == "search"],
    "all": [*GROUPS, *(study.name for study in registry.STUDIES if study.group != "gpu")],
}
NAMES = (*GROUPS, *SEVERAL, *registry.BY_NAME)
# Of a group on one backend, on two cores.
MINUTES = {"layers": 5, "memory": 8, "initializers": 4, "optimizers": 4, "clipping": 3, "monitor": 15, "growth": 3}


def _wanted(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Return the groups and studies in the order in which they run."""
    if value is None:
        return None
    words = [word.strip() for word in value.split(",") if word.strip()]
    unknown = [word for word in words if word not in NAMES]
    if unknown or not words:
        raise click.BadParameter(f"must be some of {', '.join(NAMES)}, with commas, got {value!r}.")
    named = {name for word in words for name in SEVERAL.get(word, [word])}
    return [name for name in (*GROUPS, *registry.BY_NAME) if name in named]


def _epilog() -> str:
    groups = ", ".join(f"{name} ({minutes} min)" for name, minutes in MINUTES.items())
    longer = "\n".join(f"{study.name} ({study.minutes} min, {study.group}): {study.about}" for study in registry.STUDIES)
    return (
        f"On two cores a backend takes about so long: {groups}. These are measured by default; a study is named to be run:\n\n"
        f"\b\n{longer}\n\nsearch stands for all studies of searches, all for everything but on_gpu."
    )


@click.command(epilog=_epilog())
@click.option("--backend", type=click.Choice([*BACKENDS, "all"]), help="Backend of Keras; by default that of the environment.")
@click.option("--device", "kind", type=click.Choice(device.CHOICES), help="cpu hides the GPUs, gpu demands one; by default as it comes.")
@click.option("--only", "names", metavar="NAMES", callback=_wanted, help="Groups and studies, with commas; by default all groups.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the results, which it replaces.")
@click.option("--quick", is_flag=True, help="Try the command on tiny cases; the figures say nothing. Needs --output.")
@click.option(
    "--check", is_flag=True, help="Compare what lies in the folder with the goals; exit 1 if one is missed. Measures only with --only."
)
@click.option("--report", "anew", is_flag=True, help="Write page and pictures anew of what lies in the folder; measure nothing.")
def main(backend: str | None, kind: str | None, names: list[str] | None, output: Path | None, quick: bool, check: bool, anew: bool) -> None:
    """Measure the package's parts against Keras's own.

    Writes results-<backend>-<group>.json and results-<group>.png, a file for each study, and results.md of all of them into the output
    folder (default: benchmarks/results).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if quick and output is None:
        raise click.UsageError("--quick needs --output: its figures say nothing, and are not to replace those that do.")
    folder = output or RESULTS
    device.choose(kind)
    if not anew and (names is not None or not check):
        wanted: list[str] = list(GROUPS) if names is None else names
        if backend == "all":
            _each_backend(wanted, folder, kind, quick)
        else:
            _one_backend(backend, wanted, folder, quick)
    elif anew:
        from benchmarks.page import report

        for path in report.write(folder, [*GROUPS, "search"]):
            click.echo(str(path))
    if check:
        _check(folder, BACKENDS if backend in (None, "all") else (backend,))


def _one_backend(backend: str | None, names: list[str], folder: Path, quick: bool) -> None:
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    groups, longer = [name for name in names if name in GROUPS], [registry.BY_NAME[name] for name in names if name in registry.BY_NAME]
    if groups:
        from benchmarks.suite import run  # keras reads KERAS_BACKEND when it is first imported

        run(groups, folder, quick)
    if longer:
        import keras

        from benchmarks.page import report

        for study in longer:
            registry.run(study, keras.backend.backend(), folder, quick)
        report.write(folder, ["search"])


def _each_backend(names: list[str], folder: Path, kind: str | None, quick: bool) -> None:
    """Run one process for each backend that is installed; the others are named."""
    failed = []
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is None:
            click.echo(f"{backend}: not installed, left out.")
            continue
        here = [name for name in names if name not in registry.BY_NAME or registry.BY_NAME[name].once_on in (None, backend)]
        words = ["--backend", backend, "--only", ",".join(here), "--output", str(folder), *(["--quick"] if quick else [])]
        words += ["--device", kind] if kind else []
        if here and subprocess.run([sys.executable, "-m", "benchmarks", *words], env={**os.environ, "KERAS_BACKEND": backend}).returncode:
            failed.append(backend)
    if failed:
        raise click.ClickException(f"No figures for {', '.join(failed)}: see above.")


def _check(folder: Path, backends: tuple[str, ...]) -> None:
    from rich.console import Console

    from benchmarks.goals import check

    found = check.verdicts(folder, backends)
    check.show(found, Console())
    if any(verdict.says == check.MISSED for verdict in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
