"""The last snapshot and the findings for the terminal."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from keras_ext.callbacks.monitor import wording
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.snapshot import LayerState, Snapshot, layer_states

COLUMNS = ("layer", "saturated", "dead", "gradient norm", "gradient / weight", "update / weight", "worst finding")
_COLOURS = {"critical": "bold red", "warning": "yellow"}
# More names in one line hide the advice after them.
_MOST_NAMES = 3


def table(snapshots: Sequence[Snapshot], findings: Sequence[Finding], passed: Sequence[Finding] = ()) -> Group:
    """Return a row for each layer of the last snapshot, and below it what was found and what fixes it, and what has `passed`."""
    if not snapshots:
        return Group(Text(wording.NO_SNAPSHOT))
    last = snapshots[-1]
    rows = layer_table(f"{wording.moment(last.step, last.epoch)}, loss {wording.number(last.loss)}", last, findings)
    found = [reported(group) for group in wording.grouped(findings)]
    ended = [Text(wording.passed(passed), "dim")] if passed else []
    return Group(rows, *([Text(), *found, *ended] if found or ended else []))


def layer_table(heading: str, snapshot: Snapshot, findings: Sequence[Finding], columns: Sequence[str] = COLUMNS) -> Table:
    """Return a row for each layer of `snapshot` under the heading and the verdict; columns are of `COLUMNS` and `"weight scale"`."""
    colour = next((_COLOURS[s] for s in _COLOURS if any(f.severity == s for f in findings)), "green")
    title = Text.assemble((f"{heading}: ", "bold"), (wording.verdict(findings), colour))
    rows = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        if i in (0, len(columns) - 1):
            # The last holds the longest word of a symptom. All of it fits into the 80 columns of a log.
            rows.add_column(column, overflow="fold", min_width=14 if i else 12)
        else:
            # Wide enough for a number; "not finite" may take two lines.
            rows.add_column(column.replace(" ", "\n", 1), justify="right", min_width=max(7, *map(len, column.split())))
    states = layer_states(snapshot)
    for state, name in zip(states, wording.short_names([s.layer for s in states]), strict=True):
        numbers = cells(state, snapshot)
        found = Text("" if state.values_finite and state.weights_finite else wording.NOT_FINITE, "bold red")
        worst = wording.worst_of(findings, state.layer)
        if worst is not None:
            found = Text(f"{worst.severity}: {wording.symptom(worst)}", _COLOURS.get(worst.severity, ""))
        rows.add_row(Text(name), *(numbers[column] for column in columns[1:-1]), found)
    return rows


def reported(group: Sequence[Finding], dated: bool = True) -> Text:
    """Return findings of several layers that are alike but for numbers as one line; `dated` says since when."""
    first = group[0]
    names = [f'"{f.layer}"' for f in group[:_MOST_NAMES] if f.layer]
    where = f"{'layers' if len(group) > 1 else 'layer'} {', '.join(names)}" if names else "the network"
    more = f" and {len(group) - _MOST_NAMES} more" if len(group) > _MOST_NAMES else ""
    when = f", {wording.moment(first.step, first.epoch)}" if dated else ""
    heading = f"{first.severity}: {wording.symptom(first)} in {where}{more}{when}. "
    return Text.assemble((heading, _COLOURS.get(first.severity, "")), wording.advice_of(group))


def cells(state: LayerState, snapshot: Snapshot) -> dict[str, Text]:
    """Return the numbers of a layer in `snapshot` by column."""
    gradient = wording.number(state.gradient_norm) if state.weights_finite else wording.NOT_FINITE
    scales = [w.scale for w in snapshot.kernels if w.layer == state.layer and math.isfinite(w.scale)]
    texts = {
        "saturated": wording.share(state.saturated) if state.values_finite or math.isnan(state.saturated) else wording.NOT_FINITE,
        "dead": wording.share(state.dead) if state.values_finite or math.isnan(state.dead) else wording.NOT_FINITE,
        "gradient norm": gradient,
        "gradient / weight": wording.number(state.gradient_ratio),
        "update / weight": wording.number(state.update_ratio),
        "weight scale": wording.number(max(scales, default=math.nan)),
    }
    # In brackets what is no symptom: an output's saturation.
    dim = () if state.counts else ("saturated", "dead")
    styles = {column: "dim" if column in dim else "" for column in texts}
    for column, text in texts.items():
        if text == wording.NOT_FINITE:
            styles[column] = "bold red"
        elif column in dim and text not in ("-", "0%"):
            texts[column] = f"({text})"
    return {column: Text(text, styles[column]) for column, text in texts.items()}
