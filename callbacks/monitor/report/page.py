"""Snapshots and findings as one HTML page."""

import math
from collections.abc import Sequence
from html import escape

from keras_ext._html import image
from keras_ext._wording import sentence
from keras_ext.callbacks.monitor import wording
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.report.html import document, table
from keras_ext.callbacks.monitor.report.picture import NETWORK, picture
from keras_ext.callbacks.monitor.report.table import COLUMNS, cells
from keras_ext.callbacks.monitor.snapshot import Snapshot, layer_states

TITLE = "Saturation monitor"
# Of the style sheet, by the styles of the terminal's table.
_CLASSES = {"bold red": "critical", "dim": "quiet"}
# A list longer than this is folded.
_MOST = 8


def page(snapshots: Sequence[Snapshot], findings: Sequence[Finding], title: str = TITLE, passed: Sequence[Finding] = ()) -> str:
    """Return a page with the verdict, the findings and their advice, the picture, and the numbers by layer and by snapshot.

    It names the symptoms that have `passed`, too.
    """
    reported = wording.verdict(findings) if snapshots else "no snapshot"
    severity = next((s for s in wording.SEVERITIES if any(f.severity == s for f in findings)), "good" if snapshots else "quiet")
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="verdict {severity}">{escape(reported[:1].upper() + reported[1:])}</p>']
    if snapshots:
        last = snapshots[-1]
        count = f"{len(snapshots)} snapshot{'s' if len(snapshots) > 1 else ''}"
        seen = f"{count}, the last {wording.moment(last.step, last.epoch)}, loss {wording.number(last.loss)}"
        shown = "Heat maps of saturated outputs, dead units and gradient norms, layers by snapshots, as far as the model has them"
        parts += [f'<p class="quiet">{escape(seen)}</p>', *_findings(findings)]
        parts += [f'<p class="quiet">{escape(sentence(wording.passed(passed)))}.</p>'] if passed else []
        parts += ["<h2>Layer by layer, snapshot by snapshot</h2>"]
        parts += [image(picture(snapshots, findings), f"{shown}: {reported}."), *_layers(last, findings), *_losses(snapshots)]
    else:
        parts.append(f"<p>{escape(wording.NO_SNAPSHOT)}</p>")
    return document(f"{title}: {reported}", parts)


def _findings(findings: Sequence[Finding]) -> list[str]:
    parts = ["<h2>What was found</h2>"]
    if not findings:
        parts.append("<p>No layer is outside the limits.</p>")
    for group in wording.grouped(findings):
        first = group[0]
        kind = first.severity if first.severity in wording.SEVERITIES else "quiet"
        items = [
            f"<li>{_where(f)}, {escape(wording.moment(f.step, f.epoch))}: {escape(wording.number(f.value))} "
            f'<span class="quiet">(limit {escape(wording.number(f.limit))})</span></li>'
            for f in group
        ]
        places = ["<ul>", *items, "</ul>"]
        if len(items) > _MOST:
            places = ["<details>", f"<summary>{len(items)} layers, the first {_where(first)}</summary>", *places, "</details>"]
        parts += [
            f'<section class="finding {kind}">', f"<h3>{escape(first.severity)}: {escape(wording.symptom(first))}</h3>",
            f"<p>{escape(wording.advice_of(group))}</p>", *places, "</section>",
        ]  # fmt: skip
    return parts


def _where(finding: Finding) -> str:
    return f"<b>{escape(finding.layer)}</b>" if finding.layer else NETWORK


def _layers(last: Snapshot, findings: Sequence[Finding]) -> list[str]:
    rows = []
    for state in layer_states(last):
        worst = wording.worst_of(findings, state.layer)
        found = ("", "") if worst is None else (worst.severity, f"{worst.severity}: {wording.symptom(worst)}")
        if worst is None and not (state.values_finite and state.weights_finite):
            found = ("critical", wording.NOT_FINITE)
        texts = [cells(state, last)[column] for column in COLUMNS[1:-1]]
        numbers = ((_CLASSES.get(str(text.style), ""), text.plain) for text in texts)
        rows.append([("words name", state.layer), *numbers, (f"words {found[0]}".strip(), found[1])])
    return [f"<h2>Layers, {escape(wording.moment(last.step, last.epoch))}</h2>", *table(COLUMNS, rows, {0, len(COLUMNS) - 1})]


def _losses(snapshots: Sequence[Snapshot]) -> list[str]:
    columns = {"epoch": ("epoch", str), "step": ("step", str), "loss": ("loss", wording.number)}
    columns |= {"spread of the predictions": ("spread", wording.number)}
    for field in ("clipped", "skipped"):
        if not all(math.isnan(getattr(snapshot, field)) for snapshot in snapshots):
            columns[f"{field} steps"] = (field, wording.share)
    rows = ([("", written(getattr(snapshot, field))) for field, written in columns.values()] for snapshot in snapshots)
    return ["<h2>Loss by snapshot</h2>", *table(list(columns), rows, set())]
