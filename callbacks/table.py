"""The last look and the findings for the terminal."""

import math
from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from keras_ext.callbacks.by_layer import LayerState, layer_states
from keras_ext.callbacks.finding import Finding
from keras_ext.callbacks.look import Look
from keras_ext.callbacks.wording import NO_LOOK, NOT_FINITE, grouped, moment, number, share, short_names, symptom, verdict, worst_of

COLUMNS = ("layer", "saturated", "dead", "gradient norm", "gradient / weight", "update / weight", "worst finding")
_COLOURS = {"critical": "bold red", "warning": "yellow"}
# More names in one line hide the advice after them.
_MOST_NAMES = 3


def table(looks: Sequence[Look], findings: Sequence[Finding]) -> Group:
    """Return a row for each layer of the last look, and below it what was found and what mends it.

    >>> from rich.console import Console
    >>> Console().print(table([], []))
    The monitor has not looked at the model yet.
    """
    if not looks:
        return Group(Text(NO_LOOK))
    last = looks[-1]
    title = Text.assemble((f"{moment(last.step, last.epoch)}, loss {number(last.loss)}: ", "bold"), (verdict(findings), _worst(findings)))
    rows = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, heading in enumerate(COLUMNS):
        if i in (0, len(COLUMNS) - 1):
            rows.add_column(heading, overflow="fold", min_width=12)
        else:
            rows.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=True)
    states = layer_states(last)
    for state, name in zip(states, short_names([s.layer for s in states]), strict=True):
        rows.add_row(Text(name), *cells(state), _found(state, findings))
    return Group(rows, *(_told(group) for group in grouped(findings)))


def cells(state: LayerState) -> list[Text]:
    """Return the numbers of a row, from `saturated` to `update / weight`."""
    shares = [share(v) if state.values_finite or math.isnan(v) else NOT_FINITE for v in (state.saturated, state.dead)]
    gradient = number(state.gradient_norm) if state.weights_finite else NOT_FINITE
    numbers = [gradient, number(state.gradient_ratio), number(state.update_ratio)]
    styles = ["" if state.counts else "dim"] * 2 + [""] * 3
    return [Text(text, "bold red" if text == NOT_FINITE else style) for text, style in zip([*shares, *numbers], styles, strict=True)]


def _found(state: LayerState, findings: Sequence[Finding]) -> Text:
    worst = worst_of(findings, state.layer)
    if worst is None:
        return Text("" if state.values_finite and state.weights_finite else NOT_FINITE, "bold red")
    return Text(f"{worst.severity}: {symptom(worst)}", _COLOURS.get(worst.severity, ""))


def _told(group: Sequence[Finding]) -> Text:
    first = group[0]
    names = [f'"{f.layer}"' for f in group[:_MOST_NAMES] if f.layer]
    where = f"{'layers' if len(group) > 1 else 'layer'} {', '.join(names)}" if names else "the network"
    more = f" and {len(group) - _MOST_NAMES} more" if len(group) > _MOST_NAMES else ""
    heading = f"{first.severity}: {symptom(first)} in {where}{more}, {moment(first.step, first.epoch)}. "
    return Text.assemble((heading, _COLOURS.get(first.severity, "")), first.advice)


def _worst(findings: Sequence[Finding]) -> str:
    return next((_COLOURS[s] for s in _COLOURS if any(f.severity == s for f in findings)), "green")
