"""Shares, numbers and findings in words, the same in the table, the picture and the page."""

import math
import re
from collections.abc import Sequence

from keras_ext.callbacks.monitor.finding import Finding

NO_SNAPSHOT = "The monitor has not observed the model yet."
NOT_FINITE = "not finite"
SEVERITIES = ("critical", "warning")


def share(value: float) -> str:
    """Return a share as a person says it; a little is never called nothing, nor almost all called all."""
    if not math.isfinite(value):
        return number(value)
    if 0 < value < 0.01:
        return "<1%"
    return ">99%" if 0.99 < value < 1 else f"{value:.0%}"


def number(value: float) -> str:
    """Return a number with three digits, and with a power of ten only where it is far from 1."""
    if math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def verdict(findings: Sequence[Finding]) -> str:
    """Return in one line how the network is: `"nothing found"`, `"1 critical finding and 2 warnings"`."""
    last = latest(findings)
    critical = sum(f.severity == "critical" for f in last)
    others = len(last) - critical
    warnings = f"{others} warning{'s' if others > 1 else ''}"
    if critical:
        return f"{critical} critical finding{'s' if critical > 1 else ''}" + (f" and {warnings}" if others else "")
    return f"nothing critical, {warnings}" if others else "nothing found"


def latest(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings, critical ones first, without the warnings that became critical later."""
    critical = {(f.symptom, f.layer) for f in findings if f.severity == "critical"}
    kept = [f for f in findings if f.severity == "critical" or (f.symptom, f.layer) not in critical]
    return sorted(kept, key=lambda f: (_rank(f), f.step))


def worst_of(findings: Sequence[Finding], layer: str | None) -> Finding | None:
    """Return the most severe finding of a layer, the newest of several; None, the network itself, is a layer too."""
    return min((f for f in findings if f.layer == layer), key=lambda f: (_rank(f), -f.step), default=None)


def grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return the latest findings, those together whose severity, symptom and advice are the same but for numbers."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for f in latest(findings):
        groups.setdefault((f.severity, f.symptom, re.sub(r"\d[\d.e+-]*", "#", f.advice)), []).append(f)
    return list(groups.values())


def advice_of(group: Sequence[Finding]) -> str:
    """Return the advice of findings that are alike but for numbers: where these differ, that of the worst, with its layer's name."""
    worst = max(group, key=lambda f: f.value if f.value >= f.limit else -f.value)
    if len({f.advice for f in group}) == 1 or worst.layer is None:
        return worst.advice
    return f'The worst is "{worst.layer}": {worst.advice}'


def passed(findings: Sequence[Finding]) -> str:
    """Return in a line which symptoms have passed: `"passed while the network learned: dead relu (h0, h1)"`."""
    layers: dict[str, list[str]] = {}
    for f in findings:
        layers.setdefault(symptom(f), []).append(f.layer or "the network")
    parts = (f"{name} ({', '.join(dict.fromkeys(where))})" for name, where in layers.items())
    return f"passed while the network learned: {', '.join(parts)}"


def symptom(finding: Finding) -> str:
    """Return `"dead relu"` for `"dead_relu"`."""
    return finding.symptom.replace("_", " ")


def moment(step: int, epoch: int) -> str:
    """Return when a snapshot was taken: `"before the first step"`, `"step 10"`, `"epoch 2, step 90"`."""
    if not step:
        return "before the first step"
    return f"epoch {epoch}, step {step}" if epoch else f"step {step}"


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names, long ones without their middle as long as they still differ."""
    shown = list(names)
    for most in (28, 36, 44, 52):
        half = most // 2
        shown = [n if len(n) <= most else f"{n[: half - 1]}…{n[-half:]}" for n in names]
        if len(set(shown)) == len(set(names)):
            break
    return shown


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else len(SEVERITIES)
