"""The parts of a page that react: figures of Plotly, which the page has in itself, and a table that sorts and filters."""

import base64
import gzip
from collections.abc import Sequence
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from keras_ext.callbacks.monitor.report.html import table

# Browsers unpack it: whole it takes 5 MB of each page.
_UNPACK = """
const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), c => c.charCodeAt(0));
new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text().then(code => {
  const script = document.createElement("script"); script.textContent = code; document.head.append(script);
  for (const box of document.querySelectorAll("div.figure")) {
    const figure = JSON.parse(box.querySelector("script").textContent);
    Plotly.newPlot(box, figure.data, figure.layout, {responsive: true, displaylogo: false});
  }
});
"""
_SORT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], number = text => text === "" || isNaN(parseFloat(text)) ? null : parseFloat(text);
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const head = button.parentElement, up = head.getAttribute("aria-sort") !== "ascending";
    table.querySelectorAll("th").forEach(th => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].textContent;
    [...body.rows].sort((a, b) => {
      const x = number(key(a)), y = number(key(b));
      const order = x === null || y === null ? (x === null) - (y === null) || key(a).localeCompare(key(b)) : x - y;
      return up ? order : -order;
    }).forEach(row => body.append(row));
  }));
  const filter = table.closest("section").querySelector("input"), count = table.closest("section").querySelector("output");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\\s+/);
    for (const row of body.rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    count.textContent = [...body.rows].filter(row => !row.hidden).length + " of " + body.rows.length + " trials";
  });
}
"""
STYLE = """
div.figure { background: #ffffff; border-radius: .3rem; overflow: hidden; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th button::after { content: " \\2195"; } th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
input { font: inherit; padding: .2rem .5rem; width: min(100%, 30rem); }
"""


def figure(drawn: Any, said: str) -> str:
    """Return a figure of Plotly as a part of a page; `said` is what it shows, in words."""
    data = drawn.to_json().replace("</", "<\\/")
    return f'<div class="figure" role="img" aria-label="{escape(said)}"><script type="application/json">{data}</script></div>'


def scripts() -> list[str]:
    """Return the scripts that a page with figures and a sortable table ends with."""
    packed = base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode("ascii")
    return [f'<script type="application/octet-stream" id="plotly">{packed}</script>', f"<script>{_UNPACK}{_SORT}</script>"]


def sortable(headings: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], words: set[int]) -> list[str]:
    """Return a table, as of `html.table`, whose columns sort by a click or a key, with a field that filters its rows."""
    lines = table(headings, rows, words)
    for heading in headings:
        lines[1] = lines[1].replace(f">{escape(heading)}</th>", f'><button type="button">{escape(heading)}</button></th>', 1)
    lines[0] = lines[0].replace("<table>", '<table class="sortable">')
    field = '<p><label>Show trials with <input type="search" placeholder="relu stopped"></label> <output aria-live="polite"></output></p>'
    return ["<section>", field, *lines, "</section>"]
