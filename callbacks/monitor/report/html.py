"""An HTML page that needs nothing else: no script, no style sheet, no file beside it."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --quiet: #59636e; --page: #ffffff; --box: #f6f8fa; --line: #d1d9e0;
  --critical: #b3121d; --warning: #7d5200; --good: #1a6b32; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --quiet: #9da7b1; --page: #0d1117; --box: #161b22; --line: #3d444d;
  --critical: #ff7b72; --warning: #e3b341; --good: #56d364; } }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--text);
  background: var(--page); }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; margin: 0; }
.verdict { font-size: 1.2rem; font-weight: 600; margin: .2rem 0; }
.critical { color: var(--critical); } .warning { color: var(--warning); } .good { color: var(--good); } .quiet { color: var(--quiet); }
section.finding { background: var(--box); border-left: .3rem solid var(--line); padding: .6rem 1rem; margin: .6rem 0;
  overflow-wrap: anywhere; }
section.finding p { margin: .3rem 0; } section.critical { border-color: var(--critical); } section.warning { border-color: var(--warning); }
section.finding p, section.finding ul { color: var(--text); } section.finding ul { margin: .3rem 0; padding-left: 1.2rem; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: .3rem; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; } .words { text-align: left; } td.name { white-space: normal; overflow-wrap: anywhere; }
"""


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return a page of HTML `parts`; `style` is for them alone."""
    css = _STYLE + style
    head = [
        "<!DOCTYPE html>", '<html lang="en">', '<head><meta charset="utf-8">', f"<title>{escape(title)}</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">', f"<style>{css}</style>", "</head>", "<body>", "<main>",
    ]  # fmt: skip
    return "\n".join([*head, *parts, "</main>", "</body>", "</html>", ""])


def table(headings: Sequence[str], rows: Iterable[Iterable[tuple[str, str]]], words: set[int]) -> list[str]:
    """Return a table of cells, each a class of the style sheet (or nothing) and a text; `words` are the columns that hold no numbers."""
    head = "".join(f'<th scope="col"{_attribute("words" if i in words else "")}>{escape(h)}</th>' for i, h in enumerate(headings))
    body = ["<tr>" + "".join(f"<td{_attribute(name)}>{escape(text)}</td>" for name, text in row) + "</tr>" for row in rows]
    return ['<div class="wide"><table>', f"<thead><tr>{head}</tr></thead>", "<tbody>", *body, "</tbody>", "</table></div>"]


def _attribute(name: str) -> str:
    return f' class="{escape(name)}"' if name else ""
