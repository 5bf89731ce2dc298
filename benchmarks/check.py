"""Whether the goals in `goals.csv` are held by the figures in a folder."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import store
from benchmarks.figure import Spread
from benchmarks.registry import BENCHMARKS

HELD, NOISE, ABSENT, MISSED = ALL = ("held", "held within the noise", "not measured", "missed")
# Where a part's cost is within the noise, the whole step may take so much longer by noise alone.
STEP_NOISE = 1.1


@dataclass(frozen=True)
class Goal:
    """A sentence or the beginning of a row on a page, and the bound, `<=` or `>=`, that it sets for a cell of a benchmark's table."""

    quoted: str
    page: str
    benchmark: str
    row: str
    column: str
    sign: str
    bound: float
    backends: str


with Path(__file__).with_name("goals.csv").open(encoding="utf-8", newline="") as file:
    GOALS = [Goal(**{**row, "bound": float(row["bound"])}) for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Verdict:
    """One goal against one figure, whose value is None where nothing was measured."""

    goal: Goal
    where: str
    value: Spread | None
    bound: float

    @property
    def says(self) -> str:
        """Held if the median is within the bound, and within the noise if at least one quartile is."""
        if self.value is None:
            return ABSENT
        if self.goal.sign == ">=":
            return HELD if self.value.median >= self.bound else NOISE if self.value.high >= self.bound else MISSED
        return HELD if self.value.median <= self.bound else NOISE if self.value.low <= self.bound else MISSED


def verdicts(folder: Path, backends: Sequence[str]) -> list[Verdict]:
    """Return the verdict on each figure of each goal, those that are missed last."""
    found = [v for goal in GOALS for backend in goal.backends.split() if backend in backends for v in _of_goal(goal, folder, backend)]
    return sorted(found, key=lambda verdict: ALL.index(verdict.says))


def _of_goal(goal: Goal, folder: Path, backend: str) -> Iterator[Verdict]:
    benchmark = BENCHMARKS[goal.benchmark]
    kept = store.load(folder, benchmark, backend)
    rows = {} if kept is None else store.table(benchmark, kept)
    # A figure's row ends with its mode.
    same = {name: row for name, row in rows.items() if name.partition(" [")[0] == goal.row}
    if not same:
        yield Verdict(goal, backend, None, goal.bound)
    for name, row in same.items():
        cell, bound = (row[goal.column], goal.bound) if row[goal.column] is not None else (row["whole steps"], STEP_NOISE)
        value = cell if isinstance(cell, Spread) else Spread.of([float(cell or 0.0)])
        yield Verdict(goal, f"{backend}{name.removeprefix(goal.row)}", value, bound)


def show(found: Sequence[Verdict]) -> bool:
    """Show the verdicts and how many there are of each; return whether no goal is missed."""
    table = Table("Goal", "Where", "Bound", "Measured", "", title="Goals")
    for v in found:
        measured = "-" if v.value is None else f"{v.value.median:.4g} ({v.value.low:.4g} to {v.value.high:.4g})"
        table.add_row(f"{v.goal.quoted} ({v.goal.page})", f"{v.goal.row}, {v.where}", f"{v.goal.sign} {v.bound:.4g}", measured, v.says)
    console, counts = Console(markup=False), Counter(v.says for v in found)
    console.print(table)
    console.print(", ".join(f"{counts[says]} {says}" for says in ALL))
    return counts[MISSED] == 0
