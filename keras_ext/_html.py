"""Tables and pictures as HTML, as the last expression of a notebook's cell shows itself."""

import base64
import io
from collections.abc import Iterator
from html import escape
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

# Colours that have contrast on white and on black, as a notebook may be either; they also say what the words say.
_COLOURS = {"red": "#d1242f", "yellow": "#9a6700", "green": "#1a7f37", "dim": "#6e7781", "cyan": "#6e7781"}
_NARROW = ' style="max-width: min(100%, 50em); height: auto"'
_CELL = "padding: .2em .8em; text-align: {align}; vertical-align: top"


def shown(renderable: Any = None, figure: Any = None, said: str = "") -> str:
    """Return a table for `rich.print` and a matplotlib Figure as HTML; `said` is what the figure shows, in words."""
    parts = [] if renderable is None else list(_parts(renderable))
    return f'<div style="max-width: 75em">{"".join([*parts, *([] if figure is None else [image(figure, said, _NARROW)])])}</div>'


def image(figure: Any, said: str, attributes: str = "") -> str:
    """Return a matplotlib Figure as an image inside a page; `said` is what it shows, in words."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escape(said)}"{attributes} src="data:image/png;base64,{data}">'


def is_notebook() -> bool:
    """Return whether this runs in a notebook, which shows HTML."""
    return Console().is_jupyter


def _parts(renderable: Any) -> Iterator[str]:
    if isinstance(renderable, Group):
        for part in renderable.renderables:
            yield from _parts(part)
    elif isinstance(renderable, Table):
        yield from _table(renderable)
    elif _plain(renderable):
        yield f'<p style="margin: .4em 0">{_html(renderable)}</p>'


def _table(table: Table) -> Iterator[str]:
    if table.title is not None:
        yield f'<p style="margin: .4em 0">{_html(table.title)}</p>'
    columns = [list(column.cells) for column in table.columns]
    sides = ["right" if column.justify == "right" else "left" for column in table.columns]
    yield '<table style="border-collapse: collapse"><thead><tr>'
    for column, side in zip(table.columns, sides, strict=True):
        yield f'<th scope="col" style="{_CELL.format(align=side)}">{_html(column.header)}</th>'
    yield "</tr></thead><tbody>"
    for row in zip(*columns, strict=True):
        yield "<tr>" + "".join(f'<td style="{_CELL.format(align=s)}">{_html(c)}</td>' for c, s in zip(row, sides, strict=True)) + "</tr>"
    yield "</tbody></table>"
    if table.caption is not None:
        yield f'<p style="margin: .4em 0">{_html(table.caption)}</p>'


def _plain(renderable: Any) -> str:
    return renderable.plain if isinstance(renderable, Text) else str(renderable)


def _html(renderable: Any) -> str:
    """Return text with its colours and line breaks as HTML."""
    text = renderable if isinstance(renderable, Text) else Text(str(renderable))
    lines = text.split("\n", allow_blank=True)
    return "<br>".join("".join(_coloured(line, span) for span in _spans(line)) for line in lines)


def _spans(line: Text) -> list[tuple[int, int, str]]:
    """Return the parts of a line with their styles, from left to right."""
    parts, at = [], 0
    for span in sorted(line.spans):
        if span.start >= at:
            parts += [(at, span.start, str(line.style)), (span.start, span.end, f"{line.style} {span.style}")]
            at = span.end
    return [part for part in [*parts, (at, len(line.plain), str(line.style))] if part[0] < part[1]]


def _coloured(line: Text, span: tuple[int, int, str]) -> str:
    begin, end, style = span
    text = escape(line.plain[begin:end])
    colour = next((value for name, value in _COLOURS.items() if name in style.split()), "")
    css = ";".join([*([f"color: {colour}"] if colour else []), *(["font-weight: 600"] if "bold" in style.split() else [])])
    return f'<span style="{css}">{text}</span>' if css else text
