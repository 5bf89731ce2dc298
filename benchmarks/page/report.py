"""The figures as tables on the terminal, and as one Markdown page of all that lies in a folder."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import GROUPS
from benchmarks.measuring.exponents import Exponent, exponents
from benchmarks.measuring.figure import Figure
from benchmarks.page import json_files, picture
from benchmarks.studies import frame
from benchmarks.studies.registry import STUDIES, Study

COLUMNS = ("Part", "Case", "Mode", "Keras's", "Ours", "Ours / Keras's", "Rounds", "Also")
GROWN = ("Part", "Mode", "Ours grows with the power", "Keras's")
HOW_TO_READ = """\
# Figures

Each figure is ours against Keras's own part in one process: both run in turn, in rounds of changing order, after a warm-up, and the figure
is the median of the rounds' ratios, with its quartiles in brackets. Below 1 ours is faster.

- A layer's time is its own: a train step of a network with six of it, less the same step without it (rounds of three). "Within the noise"
  stands where what Keras's layer adds is not positive in nine rounds of ten.
- A layer's memory is its own too: the peak of a train step of such a network, less the peak without the layer. Without a compiler it is the
  process's resident set, each variant in a process of its own; on JAX it is what the compiled step says it needs for intermediate values.
  An optimizer's is the peak of a process that updates eight weights.
- An initializer's time is that of making it and drawing one weight, without a compiler.
- An optimizer's time is that of a compiled step that only applies given gradients, less that of the step that leaves them alone. Clipping's
  is that of such a step of Keras's Adam with it, less the step without.
- The monitor's rows compare the first fit of a new model, compiling included, with the monitor ("Ours") and without ("Keras's"): the last
  figure is what the monitor adds. Its memory is what it adds to the peak of a fit in small batches, beside what a step of 256 samples adds,
  each in a process of its own. Its start compiles the look and looks once; a further look comes after each epoch.
- Growth is the same with 1, 10 and 100 times the work: the numbers that a part goes over, with the monitor the layers. A time that grows
  with the power 1 doubles where the work doubles; with a lower one the fixed cost of a call still counts.

Written by `python -m benchmarks`; only the ratios of one run compare, times of different machines or days do not. "load before" is how many
processes wanted a core when the run began: near or above the number of cores, something else ran too and the figures are rough. The studies
at the end have a command each.
"""


def table(backend: str, figures: Sequence[Figure]) -> Table:
    """Return the figures as a table for the terminal."""
    result = Table(*COLUMNS[:-1], title=f"{backend}: ours against Keras's own")
    for figure in figures:
        result.add_row(*_cells(figure)[:-1])
    return result


def growth_table(backend: str, figures: Sequence[Figure]) -> Table:
    """Return the exponents as a table for the terminal; empty where no figure says its work."""
    result = Table(*GROWN, title=f"{backend}: how the time grows with the work")
    for grown in exponents(figures):
        result.add_row(*_grown(grown))
    return result


def write(directory: Path, pictures: Sequence[str]) -> list[Path]:
    """Write `results.md` of all that lies in `directory`, and the pictures of these groups; return the paths."""
    drawn = [directory / f"results-{group}.png" for group in pictures if picture.draw(directory, group)]
    page = directory / "results.md"
    page.write_text(markdown(directory))
    return [*drawn, page]


def markdown(directory: Path) -> str:
    """Return the page of all figures in `directory`: the groups and the studies that have a file there."""
    parts = [HOW_TO_READ]
    for group in GROUPS:
        found = json_files.results(directory, group)
        if found:
            parts += [f"## {group}\n", *_picture(directory, group)]
        for result in found:
            parts += [f"### {result['backend']}, {group}\n", _header(result["header"]), rows(result["figures"]) + "\n"]
            grown = [_grown(each) for each in exponents(json_files.figures_of(result))]
            if grown:
                parts.append(frame.markdown(list(GROWN), grown) + "\n")
    parts += _picture(directory, "search")
    for study in STUDIES:
        parts += list(_sections(study, directory))
    return "\n".join(parts)


def rows(records: Sequence[dict[str, Any]]) -> str:
    """Return figures, as a JSON file holds them, as a table in Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(_cells(json_files.figure_of(record)) for record in records)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _sections(study: Study, directory: Path) -> Iterator[str]:
    for i, (backend, part, path) in enumerate(study.files(directory)):
        if i == 0:
            quoted = f", quoted in {study.quoted}" if study.quoted else ""
            yield f"## {study.name}\n\n{study.about} `python -m benchmarks --only {study.name}`{quoted}.\n"
        held = json.loads(path.read_text())
        where = ", ".join(filter(None, ["" if study.once_on else backend, part.replace("_", " ")]))
        yield "\n".join([*([f"### {where}\n"] if where else []), _header(held["header"]), study.section(held) + "\n"])


def _picture(directory: Path, group: str) -> list[str]:
    name = f"results-{group}.png"
    return [f"![The ratios of {group}: medians and quartiles.]({name})\n"] if (directory / name).exists() else []


def _header(header: dict[str, str]) -> str:
    return "\n".join(f"- {name}: {f'`{text}`' if name == 'command' else text}" for name, text in header.items()) + "\n"


def _cells(figure: Figure) -> list[str]:
    detail = ", ".join(f"{name} {value:.1f} {figure.unit}" for name, value in figure.detail.items())
    values = (f"{figure.keras:.2f} {figure.unit}", f"{figure.ours:.2f} {figure.unit}")
    case = figure.case if figure.work is None else f"{figure.case} (work x {figure.work})"
    return [figure.part, case, figure.mode, *values, str(figure), str(figure.rounds), detail]


def _grown(each: Exponent) -> list[str]:
    return [each.part, each.mode, *("within the noise" if power is None else f"{power:.2f}" for power in (each.ours, each.keras))]
