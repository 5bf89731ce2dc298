"""One backend's figures, in this process."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks import GROUPS
from benchmarks.measuring import device, machine
from benchmarks.measuring.measure import QUICK, Effort
from benchmarks.page import json_files, report


def run(groups: Sequence[str], output: Path, quick: bool) -> None:
    """Measure the figures of `groups`, show them, and save them in `output`."""
    backend = keras.backend.backend()
    console = Console()
    effort = QUICK if quick else Effort()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    paths: dict[Path, None] = {}
    cases = {group: list(import_module(f"benchmarks.groups.{group}").cases(effort)) for group in groups}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(backend, total=sum(map(len, cases.values())))
        for group in groups:
            header = machine.header(command(backend, [group], quick))
            figures = []
            for case in cases[group]:
                progress.update(task, description=f"{backend}: {case.title}")
                figures.append(case.measure())
                progress.advance(task)
            console.print(report.table(backend, figures))
            if group == "growth":
                console.print(report.growth_table(backend, figures))
            own = json_files.save(output, backend, group, header, figures)
            paths |= dict.fromkeys([own, *report.write(output, [group])])
    for path in paths:
        console.print(f"[dim]{path}[/dim]", soft_wrap=True)


def command(backend: str, groups: Sequence[str], quick: bool) -> str:
    """Return the command that repeats the figures; where they are written is left out, since it may name a user's folder."""
    words = ["python -m benchmarks", f"--backend {backend}"]
    if list(groups) != list(GROUPS):
        words.append(f"--only {','.join(groups)}")
    if device.asked() is not None:
        words.append(f"--device {device.asked()}")
    if quick:
        words.append("--quick")
    return " ".join(words)
