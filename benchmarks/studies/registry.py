"""Every study: what takes longer than the groups, runs in processes of its own, and lies in a file of its own.

Each is a command too, `python -m benchmarks.studies.<name> --help`, with more settings than are taken here.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from benchmarks import BACKENDS


@dataclass(frozen=True)
class Study:
    """One study.

    Args:
        name: its module, and its word for `--only`.
        group: what it belongs to.
        about: what it tells, in a sentence.
        file: its result's name; `{backend}` and `{part}` stand for what it was run on.
        words: its settings, beside the file: those of the figures that are quoted.
        quick: settings that try it in seconds; the figures say nothing.
        minutes: about how long it takes on two cores.
        quoted: where its figures are quoted.
        result: its option for where the result goes.
        parts: what it is run on one after the other.
        once_on: the backend of the quoted figures, where the file names none; `--backend all` runs it there alone.
    """

    name: str
    group: str
    about: str
    file: str
    words: tuple[str, ...]
    quick: tuple[str, ...]
    minutes: int
    quoted: str
    result: tuple[str, ...] = ("--json", "{path}")
    parts: tuple[str, ...] = ("",)
    once_on: str | None = None

    @property
    def module(self) -> str:
        """Its command, as Python's `-m` takes it."""
        return f"benchmarks.studies.{self.name}"

    def files(self, folder: Path) -> Iterator[tuple[str, str, Path]]:
        """Yield backend, part and path of each result that lies in `folder`."""
        for part in self.parts:
            for backend in (self.once_on,) if self.once_on else BACKENDS:
                path = folder / self.file.format(backend=backend, part=part)
                if path.exists():
                    yield backend, part, path

    def section(self, kept: dict[str, Any]) -> str:
        """Return the figures of a file as Markdown."""
        return import_module(self.module).section(kept)

    def ratios(self, kept: dict[str, Any]) -> dict[str, list[float]]:
        """Return the ratios of a file's figures by what is compared; empty where it compares nothing by time."""
        module = import_module(self.module)
        return module.ratios(kept) if hasattr(module, "ratios") else {}


STUDIES = (
    Study(
        "trial_overhead", "search", "What a trial costs beyond its training, watched and with KerasTuner alone.",
        "trial_overhead-{backend}.json", ("--trials", "8", "--rounds", "5"), ("--trials", "1", "--rounds", "1"), 8, "",
    ),
    Study(
        "trial_memory", "search", "How the memory of a search's process grows with its trials.",
        "trial_memory-{backend}.json", ("--trials", "50"), ("--trials", "6", "--ways", "alone"), 10, "docs/benchmarks.md, Searches",
    ),
    Study(
        "hopeless_trials", "search", "What a search saves where the monitor stops hopeless trials.",
        "hopeless_trials-{backend}-{part}.json",
        ("--folder", "{scratch}", "--data", "{part}", "--seeds", "5", "--trials", "40", "--epochs", "30"),
        ("--folder", "{scratch}", "--data", "{part}", "--seeds", "1", "--trials", "1", "--epochs", "1"), 180,
        "docs/benchmarks.md, Searches", parts=("digits", "breast_cancer"),
    ),
    Study(
        "oracle_cost", "search", "What a search's oracle costs for each trial.",
        "oracle_cost.json", (), ("--oracles", "random", "--finished", "1", "--limit", "0"), 10,
        "docs/scaling.md, What the oracle costs", once_on="jax",
    ),
    Study(
        "recorded", "search", "The table of a small space, each configuration trained once, that searches are replayed on.",
        "recorded-digits.json", (), ("--most", "1"), 40, "docs/tuners.md, Compared", once_on="torch",
    ),
    Study(
        "tuners", "search", "Which tuner finds good networks soonest: best score by training time.",
        "tuners.json", ("--table", "{table}", "--trials", "60", "--seeds", "10", "--real", "120", "--real-seeds", "3"),
        ("--table", "{table}", "--trials", "1", "--seeds", "1", "--kinds", "random"), 150, "docs/tuners.md, Compared", once_on="torch",
    ),
    Study(
        "two_workers", "search", "What a search takes with two trials at once, against one at a time.",
        "two_workers-{backend}.json", ("--trials", "12", "--epochs", "30", "--rounds", "2"),
        ("--trials", "1", "--epochs", "1", "--rounds", "1"), 10, "docs/scaling.md, How a search scales",
    ),
    Study(
        "digits_search", "search", "What the README's first search takes and finds.",
        "digits_search-{backend}.json", (), ("--trials", "1", "--epochs", "1"), 2, "README.md, Try it",
    ),
    Study(
        "broken_layers", "monitor", "How often the lowest layer named critical is the broken one.",
        "broken_layers-{backend}.json", ("--seeds", "10", "--epochs", "4"),
        ("--seeds", "1", "--epochs", "1", "--only", "relu MLP, 4"), 30, "docs/benchmarks.md, What it finds",
    ),
    Study(
        "on_gpu", "gpu", "The parts, the monitor and a search on a GPU.",
        "on_gpu-{backend}.json", (), ("--small",), 8, "", ("--output", "{folder}"),
    ),
)  # fmt: skip
# What searches are replayed on: that of the folder, or the one that the project keeps.
RECORDED, HERE = "recorded-digits.json", Path(__file__).parents[1] / "results"
BY_NAME = {study.name: study for study in STUDIES}


def run(study: Study, backend: str, folder: Path, quick: bool) -> None:
    """Run a study in a process of its own, and keep its result in `folder`; what it prints is shown as it comes.

    Raises:
        click.ClickException: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in study.parts:
        # Where a study that is killed finds what it had; not among the results.
        scratch = Path(tempfile.gettempdir()) / f"keras_ext_{study.name}-{backend}-{part}{'-quick' if quick else ''}"
        path, table = folder / study.file.format(backend=backend, part=part), folder / RECORDED
        places = {"folder": folder, "path": path, "part": part, "scratch": scratch, "table": table if table.exists() else HERE / RECORDED}
        words = [word.format(**places) for word in (*(study.quick if quick else study.words), *study.result)]
        click.echo(f"{backend}: {study.name} {part}".rstrip() + ("" if quick else f", about {study.minutes} minutes"))
        command = [sys.executable, "-m", study.module, *words]
        if subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, check=False).returncode:
            raise click.ClickException(f"{study.name} failed on {backend}: see above.")
        shutil.rmtree(scratch, ignore_errors=True)
        click.echo(str(path))
