"""One backend's figures, in this process."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import GROUPS, machine, report
from benchmarks.figure import Case
from benchmarks.measure import QUICK, Effort


def run(groups: Sequence[str], output: Path, quick: bool) -> None:
    """Measure the figures of `groups`, show them, and save them in `output`."""
    backend = keras.backend.backend()
    console = Console()
    header = machine.header(command(backend, groups, quick))
    effort = QUICK if quick else Effort()
    cases: list[Case] = [case for group in groups for case in import_module(f"benchmarks.{group}").cases(effort)]
    figures = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(backend, total=len(cases))
        for case in cases:
            progress.update(task, description=f"{backend}: {case.title}")
            figures.append(case.measure())
            progress.advance(task)
    console.print(report.table(backend, figures))
    for path in report.save(output, backend, header, figures):
        console.print(f"[dim]{path}[/dim]", soft_wrap=True)


def command(backend: str, groups: Sequence[str], quick: bool) -> str:
    """Return the command that repeats the figures; where they are written is left out, since it may name a user's folder."""
    words = ["python -m benchmarks", f"--backend {backend}"]
    if list(groups) != list(GROUPS):
        words.append(f"--only {','.join(groups)}")
    if quick:
        words.append("--quick")
    return " ".join(words)
