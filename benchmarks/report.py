"""The figures as a table on the terminal, as JSON for each backend and group, and as one Markdown page of them all."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figure import Figure
from benchmarks.measure import Spread

COLUMNS = ("Part", "Case", "Mode", "Keras's", "Ours", "Ours / Keras's", "Rounds", "Also")
HOW_TO_READ = """\
# Figures

Each figure is ours against Keras's own part in one process: both run in turn, in rounds of changing order, after a warm-up, and the figure
is the median of the rounds' ratios, with its quartiles in brackets. Below 1 ours is faster.

- A layer's time is its own: a train step of a network with six of it, less the same step without it (rounds of three). "Within the noise"
  stands where what Keras's layer adds is not positive in nine rounds of ten.
- A layer's memory is its own too: the peak of a train step of such a network, less the peak without the layer. Without a compiler it is the
  process's resident set, each variant in a process of its own; on JAX it is what the compiled step says it needs for intermediate values.
- An initializer's time is that of making it and drawing one weight, without a compiler.
- An optimizer's time is that of a compiled step that only applies given gradients, less that of the step that leaves them alone. Clipping's
  is that of such a step of Keras's Adam with it, less the step without.
- The monitor's rows compare the first fit of a new model, compiling included, with the monitor ("Ours") and without ("Keras's"): the last
  figure is what the monitor adds. Its memory is what it adds to the peak of a fit in small batches, beside what a step of 256 samples adds,
  each in a process of its own. Its start compiles the look and looks once; a further look comes after each epoch.

Written by `python -m benchmarks`; only the ratios of one run compare, times of different machines or days do not. "load before" is how many
processes wanted a core when the run began: near or above the number of cores, something else ran too and the figures are rough.
"""


def table(backend: str, figures: Sequence[Figure]) -> Table:
    """Return the figures as a table for the terminal."""
    result = Table(*COLUMNS[:-1], title=f"{backend}: ours against Keras's own")
    for figure in figures:
        result.add_row(*_cells(figure)[:-1])
    return result


def save(directory: Path, backend: str, group: str, header: dict[str, str], figures: Sequence[Figure]) -> list[Path]:
    """Write `results-<backend>-<group>.json`, and `results.md` of all JSON that lies in `directory`; return both paths."""
    directory.mkdir(parents=True, exist_ok=True)
    own = directory / f"results-{backend}-{group}.json"
    own.write_text(
        json.dumps({"backend": backend, "group": group, "header": header, "figures": [_rounded(asdict(f)) for f in figures]}, indent=1)
        + "\n"
    )
    page = directory / "results.md"
    page.write_text(markdown([json.loads(path.read_text()) for path in sorted(directory.glob("results-*.json"))]))
    return [own, page]


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the page; `results` are the contents of the JSON files."""
    parts = [HOW_TO_READ]
    for result in results:
        parts.append(f"## {result['backend']}, {result['group']}\n")
        parts.append("\n".join(f"- {name}: {f'`{text}`' if name == 'command' else text}" for name, text in result["header"].items()) + "\n")
        rows = [COLUMNS, ["---"] * len(COLUMNS), *(_cells(_figure(record)) for record in result["figures"])]
        parts.append("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n")
    return "\n".join(parts)


def _cells(figure: Figure) -> list[str]:
    detail = ", ".join(f"{name} {value:.1f} {figure.unit}" for name, value in figure.detail.items())
    values = (f"{figure.keras:.2f} {figure.unit}", f"{figure.ours:.2f} {figure.unit}")
    return [figure.part, figure.case, figure.mode, *values, str(figure), str(figure.rounds), detail]


def _figure(record: dict[str, Any]) -> Figure:
    ratio = record["ratio"]
    return Figure(**{**record, "ratio": None if ratio is None else Spread(**ratio)})


def _rounded(value: Any) -> Any:
    """Return `value` with its floats at six significant digits: what follows is noise, and the file is kept."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
