"""What lies in a folder of results: a JSON file for each benchmark and backend, and one page of all of them."""

import json
from pathlib import Path
from typing import Any

from benchmarks import BACKENDS
from benchmarks.figure import Cell, Figure, Spread
from benchmarks.registry import BENCHMARKS, Benchmark

# Rows by name, their cells by column.
Table = dict[str, dict[str, Cell]]
HOW_TO_READ = """\
# Figures

The first six compare our part with Keras's in one process. Both run in turn, in rounds of changing order, after a warm-up. A figure is the
median of the rounds' ratios, with its quartiles in brackets. Below 1 ours is faster. "Within the noise" is written where what Keras's part
adds is not positive in nine rounds of ten. Only the ratios of one run compare; times of different machines or days do not. "load before" is
how many processes wanted a core when the run began. Near or above the number of cores the figures are rough. `python -m benchmarks` writes
this page.
"""


def save(folder: Path, benchmark: Benchmark, backend: str, kept: dict[str, Any]) -> Path:
    """Write what a benchmark measured, with floats at six significant digits, and the page; return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{benchmark.name}-{backend}.json"
    rounded = json.loads(json.dumps(kept), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(page(folder), encoding="utf-8")
    return path


def load(folder: Path, benchmark: Benchmark, backend: str) -> dict[str, Any] | None:
    """Return what the file holds; None where there is none."""
    path = folder / f"{benchmark.name}-{backend}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def table(benchmark: Benchmark, kept: dict[str, Any]) -> Table:
    """Return the figures of a file as rows."""
    if benchmark.is_study:
        return benchmark.module.table(kept)
    figures = [Figure(**record | {"ratio": record["ratio"] and Spread(**record["ratio"])}) for record in kept["figures"]]
    return {f"{f.part}, {f.case} [{f.mode}]": f.row for f in figures}


def page(folder: Path) -> str:
    """Return the page of all files in `folder`."""
    parts = [HOW_TO_READ]
    for benchmark in BENCHMARKS.values():
        found = {backend: kept for backend in BACKENDS if (kept := load(folder, benchmark, backend)) is not None}
        parts += [f"## {benchmark.name}\n\n{benchmark.about} `python -m benchmarks --only {benchmark.name}`\n"] if found else []
        for backend, kept in found.items():
            facts = "\n".join(f"- {name}: {fact}" for name, fact in kept["header"].items() if name != "command")
            parts += [f"### {benchmark.name}, {backend}\n", facts + "\n", markdown(table(benchmark, kept)) + "\n"]
    return "\n".join(parts)


def markdown(rows: Table) -> str:
    """Return a table in Markdown; all but its first column are numbers."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    body = [[name, *(text(row.get(column, "")) for column in columns)] for name, row in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in (["", *columns], ["---", *["---:"] * len(columns)], *body))


def text(cell: Cell) -> str:
    """Return a cell as a person reads it."""
    if isinstance(cell, float | int):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return "within the noise" if cell is None else str(cell)
