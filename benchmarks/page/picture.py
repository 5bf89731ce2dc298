"""A picture of each group: ratios as dots with their quartiles, and how times grow with the work."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas

from benchmarks import BACKENDS
from benchmarks.measuring import measure
from benchmarks.measuring.exponents import exponents
from benchmarks.measuring.figure import Figure
from benchmarks.measuring.measure import Spread
from benchmarks.page import json_files
from benchmarks.studies.registry import STUDIES

NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
# Okabe and Ito's colours, which differ for all eyes, and a shape for each; TensorFlow has two modes.
STYLES = {"tensorflow": (("#D55E00", "o"), ("#E69F00", "v")), "jax": (("#0072B2", "s"),) * 2, "torch": (("#009E73", "D"),) * 2}
TITLES = {
    "layers": "A layer's own time in a train step: ours over Keras's",
    "memory": "Peak memory: ours over Keras's",
    "initializers": "Drawing first weights: our time over Keras's",
    "optimizers": "An optimizer's update: our time over Keras's",
    "clipping": "What clipping adds to an update: our time over Keras's",
    "monitor": "What the monitor costs",
    "growth": "Time by work, of 1, 10 and 100 times the least",
    "search": "Times of searches",
}
# Ratios further right are not drawn to scale.
WIDEST = 4.0
# A backend and a mode.
Series = tuple[str, str]


@dataclass(frozen=True)
class Dot:
    """One ratio, or None where it is within the noise; `beside` are the two numbers, for where no dot can be drawn."""

    ratio: Spread | None
    beside: str = ""


@dataclass(frozen=True)
class Panel:
    """Rows of dots on one scale; at `same` the two that are compared are equal."""

    label: str
    same: float
    widest: float
    rows: dict[str, dict[Series, Dot]]

    @property
    def height(self) -> int:
        """Lines of dots."""
        return sum(map(len, self.rows.values())) + len(self.rows)


def draw(directory: Path, group: str) -> bool:
    """Draw `results-<group>.png` of what lies in `directory`; return whether there is anything to draw."""
    if group == "search":
        panels, note = [_of_studies(directory)], "each search in a process of its own; where it was taken stands in results.md"
    else:
        found = json_files.results(directory, group)
        figures = {result["backend"]: json_files.figures_of(result) for result in found}
        note = _note([result["header"] for result in found])
        panels = _of_monitor(figures) if group == "monitor" else [_of_group(figures)]
    panels = [panel for panel in panels if panel.rows]
    if not panels:
        return False
    canvas = _grown(TITLES[group], figures) if group == "growth" else _dots(TITLES[group], panels)
    canvas.supxlabel(note, fontsize=7, color="#555555")
    canvas.savefig(directory / f"results-{group}.png", dpi=110)
    return True


def _note(headers: Sequence[dict[str, str]]) -> str:
    machines = dict.fromkeys(f"{h['device']}: {h['cores']} cores of {h['cpu']}" for h in headers)
    return ", ".join([*machines, *sorted({h["date"] for h in headers})]) + "; medians and quartiles"


def _of_group(figures: Mapping[str, Sequence[Figure]]) -> Panel:
    return _panel(
        "ratio: left of 1 ours is less", 1.0, WIDEST, {b: [(f"{f.part}: {f.case}", f) for f in each] for b, each in figures.items()}
    )


def _of_monitor(figures: Mapping[str, Sequence[Figure]]) -> list[Panel]:
    """What is added in percent and what is a ratio of two other things are two scales."""
    added = {b: [(f.case, f) for f in each if f.percent] for b, each in figures.items()}
    others = {b: [(f.case, f) for f in each if not f.percent] for b, each in figures.items()}
    return [
        _panel("what it adds to the time, in percent", 0.0, 40.0, added),
        _panel("ratio: one over the other", 1.0, WIDEST, others),
    ]


def _panel(label: str, same: float, widest: float, named: Mapping[str, Sequence[tuple[str, Figure]]]) -> Panel:
    rows: dict[str, dict[Series, Dot]] = {}
    for backend, each in named.items():
        for name, figure in each:
            ratio = figure.ratio
            if ratio is not None and figure.percent:
                ratio = Spread(*(100 * (value - 1) for value in (ratio.median, ratio.low, ratio.high)))
            beside = f"{figure.ours:,.3g} {figure.unit}, Keras's {figure.keras:,.2g}"
            rows.setdefault(name, {})[backend, figure.mode] = Dot(ratio, beside)
    return Panel(label, same, widest, rows)


def _of_studies(directory: Path) -> Panel:
    rows: dict[str, dict[Series, Dot]] = {}
    for study in STUDIES:
        for backend, _, path in study.files(directory):
            for name, ratios in study.ratios(json.loads(path.read_text())).items():
                rows.setdefault(name, {})[backend, ""] = Dot(measure.spread(ratios))
    return Panel("ratio: left of 1 the first is faster", 1.0, WIDEST, rows)


def _dots(title: str, panels: Sequence[Panel]) -> Canvas:
    """Draw a panel below the other, one line for each dot."""
    styles = _styles([series for panel in panels for row in panel.rows.values() for series in row])
    canvas = Canvas(figsize=(9.5, 1.5 + 0.17 * sum(panel.height for panel in panels) + 0.5 * len(panels)), layout="constrained")
    all_axes = canvas.subplots(len(panels), 1, squeeze=False, height_ratios=[panel.height for panel in panels])[:, 0]
    handles: dict[str, Any] = {}
    for axes, panel in zip(all_axes, panels, strict=True):
        ratios = [dot.ratio for row in panel.rows.values() for dot in row.values() if dot.ratio is not None]
        right = min(panel.widest, 1.05 * max([1.3 * panel.same, 5 * (panel.same == 0), *(r.high for r in ratios)]))
        left = max(-right / 4, 1.1 * min([0.0, *(r.low for r in ratios)])) if panel.same == 0 else 0.0
        y, places = 0.0, []
        for i, (name, row) in enumerate(panel.rows.items()):
            axes.axhspan(y - 1, y + len(row), color="#f2f2f2" if i % 2 else "white", zorder=0)
            places.append((y + (len(row) - 1) / 2, "\n".join(textwrap.wrap(name, 62))))
            for series, dot in sorted(row.items(), key=lambda item: list(styles).index(item[0])):
                label, colour, marker = styles[series]
                handles.setdefault(label, _dot(axes, y, dot, colour, marker, left, right))
                y += 1
            y += 1
        axes.axvline(panel.same, color="black", linewidth=1, zorder=1)
        axes.set_yticks(*zip(*places, strict=True), fontsize=8)
        axes.set(xlim=(left, right), ylim=(y - 1, -1), xlabel=panel.label)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
    all_axes[0].set_title(title, fontsize=12, loc="left", pad=8)
    canvas.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return canvas


def _dot(axes: Any, y: float, dot: Dot, colour: str, marker: str, left: float, right: float) -> Any:
    """Draw one line and return its handle for the legend."""
    handle = axes.plot([], [], marker, color=colour, markersize=5)[0]
    if dot.ratio is None:
        axes.text(left, y, f"  noise: {dot.beside}", color=colour, fontsize=7, va="center", style="italic")
    elif dot.ratio.median > right:
        axes.plot(right, y, ">", color=colour, markersize=6, clip_on=False)
        axes.text(right, y, f"{dot.beside}   ", color=colour, fontsize=7, va="center", ha="right")
    else:
        axes.plot([max(dot.ratio.low, left), min(dot.ratio.high, right)], [y, y], color=colour, linewidth=1.5)
        axes.plot(max(dot.ratio.median, left), y, marker, color=colour, markersize=5, clip_on=False)
    return handle


def _styles(series: Sequence[Series]) -> dict[Series, tuple[str, str, str]]:
    """Return the label, colour and marker of each series, in the order of the backends; the mode is named where there are two."""
    styles: dict[Series, tuple[str, str, str]] = {}
    for backend in [b for b in BACKENDS if any(b == own for own, _ in series)]:
        modes = list(dict.fromkeys(mode for own, mode in series if own == backend))
        two = {"XLA", "graph"} <= set(modes)
        for mode in modes:
            colour, marker = STYLES[backend][mode == "graph"]
            styles[backend, mode] = (f"{NAMES[backend]}, {mode}" if two and mode in ("XLA", "graph") else NAMES[backend], colour, marker)
    return styles


def _grown(title: str, figures: Mapping[str, Sequence[Figure]]) -> Canvas:
    """Draw time against work, a panel for each part, with the exponents."""
    parts = list(dict.fromkeys(f.part for each in figures.values() for f in each))
    columns = 3
    canvas = Canvas(figsize=(9.5, 1.0 + 2.4 * -(-len(parts) // columns)), layout="constrained")
    panels = canvas.subplots(-(-len(parts) // columns), columns, squeeze=False, sharex=True)
    for axes in panels.flat[len(parts) :]:
        axes.set_axis_off()
    for axes, part in zip(panels.flat, parts, strict=False):
        for backend, each in figures.items():
            same = [f for f in each if f.part == part and f.work is not None]
            if not same:
                continue
            power, (colour, marker) = exponents(same)[0], STYLES[backend][0]
            for time, style, face in (("ours", "-", colour), ("keras", ":", "white")):
                points = [(f.work, getattr(f, time)) for f in same if getattr(f, time) > 0]
                axes.plot(*zip(*points, strict=True), marker + style, color=colour, markerfacecolor=face, markersize=4, linewidth=1.2)
            shown = [f"{p:.2f}" if p is not None else "-" for p in (power.ours, power.keras)]
            axes.plot([], [], marker + "-", color=colour, markersize=4, label=f"{NAMES[backend]}: {shown[0]}, Keras's {shown[1]}")
        axes.set_title(part, fontsize=9)
        axes.set(xscale="log", yscale="log")
        axes.tick_params(which="both", labelsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, frameon=False, title="time grows with the power", title_fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("ms", fontsize=8)
    canvas.suptitle(f"{title} (full: ours, hollow: Keras's)", fontsize=12)
    return canvas
