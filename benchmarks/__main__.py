"""The command `python -m benchmarks`."""

import importlib.util
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks import BACKENDS, machine
from benchmarks.registry import BENCHMARKS, GROUPS, Benchmark

RESULTS = Path(__file__).parent / "results"
_SEVERAL = {"search": [name for name in BENCHMARKS if name not in GROUPS], "all": list(BENCHMARKS)}
_EPILOG = "\n".join(f"{b.name} ({b.minutes} min): {b.about}" for b in BENCHMARKS.values())


def _wanted(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Return the names in the order in which they run."""
    if value is None:
        return None
    words, known = [word.strip() for word in value.split(",") if word.strip()], [*BENCHMARKS, *_SEVERAL]
    if not words or not set(words) <= set(known):
        raise click.BadParameter(f"must be some of {', '.join(known)}, with commas, got {value!r}.")
    named = {name for word in words for name in _SEVERAL.get(word, [word])}
    return [name for name in BENCHMARKS if name in named]


@click.command(epilog=f"On two cores each takes about so long on a backend:\n\n\b\n{_EPILOG}\n\nsearch is all studies of searches.")
@click.option("--backend", type=click.Choice([*BACKENDS, "all"]), help="Backend of Keras; by default that of the environment.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), help="cpu hides the GPUs, gpu demands one; by default as it comes.")
@click.option("--only", "names", metavar="NAMES", callback=_wanted, help=f"Names, with commas; by default {', '.join(GROUPS)}.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder of the results, which it replaces.")
@click.option("--quick", is_flag=True, help="Try the command on tiny cases; the figures say nothing. Needs --output.")
@click.option("--check", is_flag=True, help="Compare the folder with the goals; exit 1 if one is missed. Measures only with --only.")
def main(backend: str | None, device: str | None, names: list[str] | None, output: Path | None, quick: bool, check: bool) -> None:
    """Measure the package's parts against Keras's own, and what its searches cost and save.

    Writes <name>-<backend>.json and results.md into the output folder (default: benchmarks/results).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if quick and output is None:
        raise click.UsageError("--quick needs --output: its figures say nothing, and are not to replace those that do.")
    folder, wanted = output or RESULTS, names or ([] if check else GROUPS)
    machine.choose_device(device)
    if backend == "all" or len(wanted) > 1:
        _each(backend, wanted, ["--output", str(folder), *(["--quick"] if quick else []), *(["--device", device] if device else [])])
    elif wanted:
        os.environ.update({"KERAS_BACKEND": backend} if backend else {})
        _measure(BENCHMARKS[wanted[0]], folder, quick)
    if check:
        from benchmarks.check import show, verdicts

        if not show(verdicts(folder, BACKENDS if backend in (None, "all") else (backend,))):
            raise SystemExit(1)


def _measure(benchmark: Benchmark, folder: Path, quick: bool) -> None:
    """Measure, show and save the figures of one benchmark in this process."""
    import keras  # which reads KERAS_BACKEND now

    from benchmarks import store
    from keras_ext._backend import wait

    backend = keras.backend.backend()
    header = machine.header(f"python -m benchmarks --backend {backend} --only {benchmark.name}{' --quick' if quick else ''}")
    kept: dict[str, Any] = {"backend": backend, "header": header}
    if benchmark.is_study:
        kept |= benchmark.module.measure(**((benchmark.quick if quick else benchmark.settings) or {}))
    else:
        kept["figures"] = []
        for comparison in benchmark.module.comparisons(quick):
            click.echo(f"{comparison.part}, {comparison.case}, {comparison.mode}", err=True)
            keras.utils.clear_session()
            kept["figures"].append(asdict(comparison.measure(quick, wait)))
    path = store.save(folder, benchmark, backend, kept)
    click.echo(f"{store.markdown(store.table(benchmark, kept))}\n{path}")


def _each(backend: str | None, names: list[str], words: list[str]) -> None:
    """Run a process for each benchmark on each installed backend, so that none finds what another left in memory."""
    failed = []
    for each in BACKENDS if backend == "all" else (backend,):
        if each is not None and importlib.util.find_spec(each) is None:
            click.echo(f"{each}: not installed, left out.")
            continue
        for name in [name for name in names if backend != "all" or BENCHMARKS[name].once_on in (None, each)]:
            command = [sys.executable, "-m", "benchmarks", "--only", name, *(["--backend", each] if each else []), *words]
            if subprocess.run(command, check=False).returncode:
                failed.append(f"{name} on {each}" if each else name)
    if failed:
        raise click.ClickException(f"No figures of {', '.join(failed)}: see above.")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
