"""The figures of a search's page, which react to the mouse. Plotly draws them: alone of the libraries it has parallel coordinates."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from keras_ext._checks import is_number
from keras_ext.search.records import Record, in_words
from keras_ext.search.report.importance import Importance
from keras_ext.search.report.state import BEST, STATES, Mark, course, is_wide, state_of
from keras_ext.search.report.values import words

_LAYOUT: dict[str, Any] = {
    "template": "plotly_white", "font": {"size": 13}, "margin": {"l": 60, "r": 20, "t": 30, "b": 50}, "height": 420,
    "legend": {"orientation": "h", "y": -0.2},
}  # fmt: skip
# Values of a number from which on it stands by its size.
_MANY = 4
# Hyperparameters whose scores by value are shown, the most important ones.
_MOST = 6


def scores(records: Sequence[Record], score_name: str, direction: str) -> go.Figure:
    """Return the score of each trial at the time when it ended, and the best so far as a line."""
    ordered, unit, ends, best, far = course(records, direction)
    times = {r.number: at for r, at in zip(ordered, ends, strict=True)}
    figure = go.Figure(layout={**_LAYOUT, "xaxis_title": f"{unit} of training", "yaxis_title": score_name})
    for state, mark in STATES.items():
        mine = [r for r in ordered if state_of(r) == state and r.score is not None]
        if mine:
            figure.add_scatter(
                x=[times[r.number] for r in mine], y=[r.score for r in mine], mode="markers", name=f"{state}: {len(mine)}",
                marker=_marker(mark), text=[_described(r) for r in mine],
                hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
    scored = [r for r in ordered if r.score is not None]
    line = {"color": BEST, "shape": "hv"}
    figure.add_scatter(x=[times[r.number] for r in scored], y=best, mode="lines", name="best so far", line=line, hoverinfo="skip")
    if far:
        figure.update_yaxes(type="log")
    return figure


def curves(records: Sequence[Record], score_name: str, direction: str) -> go.Figure | None:
    """Return the score of each trial by epoch, the best on top; None where no trial has two epochs."""
    shown = [r for r in reversed(records) if sum(score is not None for score in r.scores) > 1]
    if not shown:
        return None
    figure = go.Figure(layout={**_LAYOUT, "xaxis_title": "epoch", "yaxis_title": score_name, "showlegend": False, "hovermode": "closest"})
    ranks = _ranks(records, direction)
    for record in shown:
        rank = ranks.get(record.number, 0.0)
        figure.add_scatter(
            x=list(range(1, len(record.scores) + 1)), y=record.scores, mode="lines", name=_described(record),
            line={"color": _colour(rank), "width": 1.0 + 2.0 * rank**4}, hovertemplate="%{fullData.name}<extra></extra>",
        )  # fmt: skip
        if record.ended:
            last = max(i for i, score in enumerate(record.scores) if score is not None)
            figure.add_scatter(
                x=[last + 1], y=[record.scores[last]], mode="markers", marker=_marker(STATES[state_of(record)]),
                text=[_described(record)], hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
    return figure


def importance(found: Sequence[Importance]) -> go.Figure:
    """Return the importance of each hyperparameter as a bar, with the interval over the bootstraps."""
    rows = list(reversed(found))
    bars = go.Bar(
        x=[each.share for each in rows], y=[each.name for each in rows], orientation="h", marker_color="#0072b2",
        error_x={"type": "data", "symmetric": False, "array": [each.high - each.share for each in rows],
                 "arrayminus": [each.share - each.low for each in rows]},
        text=[each.sentence for each in rows], hovertemplate="%{text}<extra></extra>", textposition="none",
    )  # fmt: skip
    return go.Figure(
        bars, {**_LAYOUT, "height": 120 + 28 * len(rows), "xaxis_title": "importance", "xaxis_tickformat": ".0%", "xaxis_range": [0, 1]}
    )


def by_value(found: Sequence[Importance], score_name: str) -> go.Figure:
    """Return median and quartiles of the score by the values of the most important hyperparameters."""
    shown = found[:_MOST]
    figure = make_subplots(rows=len(shown), cols=1, subplot_titles=[each.name for each in shown], vertical_spacing=0.3 / max(len(shown), 1))
    for row, each in enumerate(shown, start=1):
        values = list(reversed(each.values))
        figure.add_scatter(
            x=[v.median for v in values], y=[f"{v.value} ({v.trials})" for v in values], mode="markers", row=row, col=1,
            marker={"color": "#0072b2", "size": 9}, showlegend=False,
            error_x={"type": "data", "symmetric": False, "array": [v.high - v.median for v in values],
                     "arrayminus": [v.median - v.low for v in values]},
            hovertemplate="%{y}: median %{x:.4g}<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(type="category", row=row, col=1)
    figure.update_xaxes(matches="x")
    figure.update_xaxes(title_text=score_name, row=len(shown), col=1)
    lines = sum(len(each.values) for each in shown)
    return figure.update_layout({**_LAYOUT, "height": 110 + 60 * len(shown) + 26 * lines})


def parallel(records: Sequence[Record], names: Sequence[str], score_name: str, direction: str) -> go.Figure:
    """Return a line for each trial with a score through its hyperparameters, all of which every trial has; its axes can be dragged."""
    scored = [r for r in records if r.score is not None]
    ranks = _ranks(records, direction)
    dimensions = [_dimension(name, [r.hyperparameters[name] for r in scored]) for name in names]
    dimensions.append(_dimension(score_name, [r.score for r in scored]))
    line = {"color": [ranks[r.number] for r in scored], "colorscale": "Viridis", "cmin": 0, "cmax": 1}
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=-20, labelside="bottom"))
    return figure.update_layout({**_LAYOUT, "margin": {"l": 80, "r": 60, "t": 30, "b": 90}})


def conditional(records: Sequence[Record], names: Sequence[str], score_name: str) -> go.Figure:
    """Return the score by the value of each hyperparameter that only some trials have."""
    columns = 3
    rows = -(-len(names) // columns)
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=list(names), vertical_spacing=0.35 / rows)
    for i, name in enumerate(names):
        mine = [r for r in records if name in r.hyperparameters and r.score is not None]
        values = [r.hyperparameters[name] for r in mine]
        at = {"row": i // columns + 1, "col": i % columns + 1}
        is_continuous = all(map(is_number, values)) and len(set(values)) > _MANY
        figure.add_scatter(
            x=values if is_continuous else [words(v) for v in values], y=[r.score for r in mine], mode="markers", showlegend=False,
            marker={"color": "#0072b2", "opacity": 0.7}, text=[_described(r) for r in mine], hovertemplate="%{text}<extra></extra>", **at,
        )  # fmt: skip
        figure.update_xaxes(type=("log" if is_wide(values) else "linear") if is_continuous else "category", **at)
    figure.update_yaxes(title_text=score_name, col=1)
    return figure.update_layout({**_LAYOUT, "height": 80 + 230 * rows})


def _marker(mark: Mark) -> dict[str, Any]:
    return {"color": mark.colour, "symbol": mark.symbol, "size": 9}


def _dimension(name: str, values: Sequence[Any]) -> dict[str, Any]:
    different = sorted(set(values), key=lambda v: (isinstance(v, str), v))
    if not all(map(is_number, different)) or len(different) <= _MANY:
        places = {v: i for i, v in enumerate(different)}
        ticks = {"tickvals": list(places.values()), "ticktext": [words(v) for v in different]}
        return {"label": name, "values": [places[v] for v in values], **ticks, "range": [-0.2, len(different) - 0.8]}
    if not is_wide(different):
        return {"label": name, "values": list(values)}
    low, high = math.log10(different[0]), math.log10(different[-1])
    ticks = [low + share * (high - low) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return {"label": name, "values": [math.log10(v) for v in values], "tickvals": ticks, "ticktext": [f"{10**t:.2g}" for t in ticks]}


def _described(record: Record) -> str:
    score = "no score" if record.score is None else f"{record.score:.4g}"
    lines = [f"trial {record.number}: {score}, {record.epochs} epochs", record.ended or record.diagnosis, in_words(record.hyperparameters)]
    return "<br>".join(line.replace("<", "&lt;") for line in lines if line)


def _ranks(records: Sequence[Record], direction: str) -> dict[int, float]:
    """Return the share of the scored trials that each is better than, by its number."""
    scored = sorted((r for r in records if r.score is not None), key=lambda r: (r.score or 0.0) * (1 if direction == "max" else -1))
    return {r.number: i / max(len(scored) - 1, 1) for i, r in enumerate(scored)}


def _colour(rank: float) -> str:
    """Return a colour from light grey to dark blue."""
    return f"rgb({int(205 - 205 * rank)}, {int(205 - 115 * rank)}, {int(210 - 40 * rank)})"
