"""Whether the project's goals are held by the figures that lie in a folder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import BACKENDS
from benchmarks.goals.measured import Files, Measured
from benchmarks.goals.promises import Goal, goals

HELD, NOISE, ABSENT, MISSED = "held", "held within the noise", "not measured", "missed"
_COLOURS = {HELD: "green", NOISE: "green", ABSENT: "dim", MISSED: "red"}


@dataclass(frozen=True)
class Verdict:
    """One goal against one figure."""

    goal: Goal
    measured: Measured

    @property
    def says(self) -> str:
        """Held if the median is within the bound, and within the noise if at least one quartile is."""
        value, most = self.measured.value, self.measured.at_most or self.goal.at_most
        if value is None:
            return ABSENT
        if self.goal.at_least is not None:
            return HELD if value.median >= self.goal.at_least else NOISE if value.high >= self.goal.at_least else MISSED
        assert most is not None
        return HELD if value.median <= most else NOISE if value.low <= most else MISSED


def verdicts(folder: Path, backends: Sequence[str] = BACKENDS) -> list[Verdict]:
    """Return the verdict on each figure of each goal, those that are missed last."""
    files = Files(folder, backends)
    found = [Verdict(goal, measured) for goal in goals() for measured in goal.find(files)]
    return sorted(found, key=lambda verdict: list(_COLOURS).index(verdict.says))


def show(found: Sequence[Verdict], console: Console) -> None:
    """Show the verdicts, and how many there are of each."""
    table = Table("Goal", "Where", "Bound", "Measured", "", title="Goals")
    for verdict in found:
        goal, measured = verdict.goal, verdict.measured
        bound = goal.bound if measured.at_most is None else f"at most {measured.at_most:g}"
        source = goal.source or "what the part is for"
        cells = [f"{goal.quoted.strip('| ')} [dim]({source})[/dim]", measured.where, bound, measured.text or "-"]
        table.add_row(*cells, f"[{_COLOURS[verdict.says]}]{verdict.says}[/]")
    console.print(table)
    counts = Counter(verdict.says for verdict in found)
    console.print(", ".join(f"{counts[says]} {says}" for says in _COLOURS))
