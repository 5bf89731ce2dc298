"""Snapshots and findings as heat maps: layers from the input down, snapshots from left to right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.snapshot import LayerState, Snapshot, layer_states, layers_of
from keras_ext.callbacks.monitor.wording import NO_SNAPSHOT, NOT_FINITE, SEVERITIES, latest, number, share, short_names, verdict

NETWORK = "the whole network"
_COLOURS = {"not measured": "#dcdcdc", "exactly zero": "#000000", f"{NOT_FINITE} (NaN or infinite)": "#ff2bd6"}
_MARKS = {"critical": ("X", "#d7191c", "white"), "warning": ("^", "white", "black")}
# What is further below the largest has the lowest colour, so that one tiny number does not bleach the rest.
_DECADES = 12


@dataclass(frozen=True)
class _Panel:
    title: str
    field: str
    symptom: str = ""

    @property
    def is_share(self) -> bool:
        return self.field != "gradient_norm"

    def value(self, state: LayerState) -> float:
        """Return the number of a layer: NaN if it has none, infinity if it is not finite."""
        number = getattr(state, self.field)
        if self.is_share:
            has, is_finite = state.counts and not math.isnan(number), state.values_finite
        else:
            has, is_finite = state.has_kernel or not state.weights_finite, state.weights_finite and math.isfinite(number)
        if not has:
            return math.nan
        return number if is_finite else math.inf


_PANELS = (
    _Panel("saturated outputs\nshare of a hidden layer's outputs", "saturated", "saturated"),
    _Panel("dead units\nshare that is zero on every sample", "dead", "dead_relu"),
    _Panel("gradient norm\nof the layer's kernels", "gradient_norm"),
)


def picture(snapshots: Sequence[Snapshot], findings: Sequence[Finding]) -> Figure:
    """Return heat maps of saturated outputs, dead units and gradient norms, with the findings marked.

    A panel without data is left out. The figure is not pyplot's: `figure.savefig("report.png")` draws it.
    """
    layers = layers_of(snapshots)
    states = [{state.layer: state for state in layer_states(snapshot)} for snapshot in snapshots]
    panels = [p for p in _PANELS if not all(math.isnan(p.value(s)) for seen in states for s in seen.values())]
    if not panels:
        figure = Figure(figsize=(6, 1.2))
        figure.text(0.5, 0.5, NO_SNAPSHOT if not snapshots else "The model has no layers to show.", ha="center", va="center")
        return figure
    if any(f.layer not in layers for f in findings):
        layers = [NETWORK, *layers]
    names = short_names(layers)
    height = min(max(2.3 + 0.24 * len(layers), 3.6), 10.5)
    width = 0.9 + 0.075 * max(map(len, names)) + len(panels) * 3.5
    figure = Figure(figsize=(max(width, 6.5), height), layout="constrained")
    figure.suptitle(f"{verdict(findings)} in {len(snapshots)} snapshot{'s' if len(snapshots) > 1 else ''}", fontweight="bold")
    axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    used: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=True):
        values = np.array([[panel.value(seen[layer]) if layer in seen else math.nan for seen in states] for layer in layers])
        _draw(figure, axis, panel, values, layers, used)
        # Each finding in the panel that shows why, or in the last one.
        here = [f for f in findings if panel is next((p for p in panels if p.symptom == f.symptom), panels[-1])]
        _mark(axis, here, snapshots, layers, used)
        steps = math.ceil(len(snapshots) / 8)
        ticks = [f"{snapshot.epoch}\n{snapshot.step}" for snapshot in snapshots[::steps]]
        axis.set_xticks(range(0, len(snapshots), steps), ticks, fontsize=8)
        axis.set_xlabel("epoch, and step below it", fontsize=9)
    every = math.ceil(len(layers) * 0.115 / (height - 1.8))
    axes[0].set_yticks(range(0, len(layers), every), names[::every], fontsize=8, parse_math=False)
    if used:
        order = [label for label in dict.fromkeys((*SEVERITIES, *_COLOURS, *used)) if label in used]
        figure.legend(
            [used[label] for label in order], order, loc="outside lower center", ncols=min(len(used), 5), frameon=False, fontsize=9
        )
    return figure


def _draw(figure: Figure, axis: Any, panel: _Panel, values: np.ndarray, layers: Sequence[str], used: dict[str, Any]) -> None:
    unhealthy = np.isinf(values)
    zero = np.zeros_like(unhealthy) if panel.is_share else values == 0
    shown = np.where(zero | unhealthy, np.nan, values)
    norm = Normalize(0.0, 1.0)
    if not panel.is_share:  # over powers of ten; what is under the lowest has its colour
        known = shown[~np.isnan(shown)]
        low, high = (known.min(), known.max()) if known.size else (1.0, 1.0)
        top = math.ceil(math.log10(high))
        norm = LogNorm(10.0 ** min(max(math.floor(math.log10(low)), top - _DECADES), top - 1), 10.0**top, clip=True)
    scale = ScalarMappable(norm, "Blues" if panel.is_share else "viridis")
    colours = scale.to_rgba(np.ma.masked_invalid(shown))
    blank = np.isnan(shown) & ~zero & ~unhealthy
    if layers[0] is NETWORK:
        blank[0], colours[0] = False, to_rgba("white")
        axis.axhline(0.5, color="#999999", linewidth=0.8)
    for where, label in ((blank, "not measured"), (zero, "exactly zero"), (unhealthy, f"{NOT_FINITE} (NaN or infinite)")):
        if where.any():
            colours[where] = to_rgba(_COLOURS[label])
            used[label] = Patch(facecolor=_COLOURS[label], edgecolor="#999999")
    axis.imshow(colours, aspect="auto", interpolation="nearest")
    axis.set_title(panel.title, fontsize=10)
    extend = "min" if not panel.is_share and (shown < norm.vmin).any() else "neither"
    bar = figure.colorbar(scale, ax=axis, extend=extend, pad=0.02, aspect=8 * figure.get_figheight())
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: share(v) if panel.is_share else number(v)))
    if not panel.is_share:
        bar.ax.yaxis.set_major_locator(LogLocator(numticks=7))
        bar.ax.yaxis.set_minor_locator(NullLocator())


def _mark(axis: Any, findings: Sequence[Finding], snapshots: Sequence[Snapshot], layers: Sequence[str], used: dict[str, Any]) -> None:
    places = {(snapshot.step, snapshot.epoch): j for j, snapshot in reversed([*enumerate(snapshots)])}
    # Marks of two neighbouring cells must not hide each other.
    size = min(max(300 / max(len(layers), len(snapshots)), 5.5), 9)
    for finding in reversed(latest(findings)):
        j = places.get((finding.step, finding.epoch))
        if j is None:
            continue
        i = layers.index(finding.layer or NETWORK) if (finding.layer or NETWORK) in layers else 0
        shape, face, edge = _MARKS.get(finding.severity, _MARKS["warning"])
        axis.plot([j], [i], shape, markersize=size, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=0.8, clip_on=False)
        used[finding.severity] = Line2D([], [], marker=shape, linestyle="", markersize=9, markerfacecolor=face, markeredgecolor="#333333")
