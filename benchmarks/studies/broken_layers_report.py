"""The figures of the broken layers, as a person reads them."""

import re
from collections.abc import Sequence
from typing import Any


def text(figures: dict[str, Any]) -> str:
    """Return the report, with the runs in which the lowest critical layer is not the broken one."""
    failures = [f"The {len(figures['failures'])} runs in which it is not:", *(f"  {_line(f)}" for f in figures["failures"])]
    return "\n".join([report(figures), "", *failures])


def report(figures: dict[str, Any]) -> str:
    """Return the report without the single runs."""
    lines = [
        "right: the lowest layer named critical is the broken one; of all runs, of those that hurt, of those with anything critical.",
        "epoch 1: the broken layer is told by its end. lowest: the lowest layer of any finding, critical or not, is the broken one.",
        "",
    ]
    rows = [["", "runs", "harmed", "critical", "right", "of all", "harmed", "critical", "epoch 1", "harmed", "lowest", "harmed"]]
    for name, s in [*figures["faults"].items(), *figures["architectures"].items(), ("all", figures["all"])]:
        shares = [_percent(s["right"], s["runs"]), _percent(s["right, harmed"], s["harmed"]), _percent(s["right"], s["critical"])]
        told = [_percent(s["told in epoch 1"], s["runs"]), _percent(s["told in epoch 1, harmed"], s["harmed"])]
        any_ = [_percent(s["right, of any severity"], s["runs"]), _percent(s["right, of any severity, harmed"], s["harmed"])]
        rows.append([name, *(str(s[key]) for key in ("runs", "harmed", "critical", "right")), *shares, *told, *any_])
    lines += [*_columns(rows), ""]
    clean = figures["clean"]
    lines.append(f"Clean: {clean['runs']} runs, {len(clean['false alarms'])} with a critical finding, {clean['with a warning']} with any.")
    lines += [
        f"  {name}: lowest validation accuracy {accuracy:.1%}" for name, accuracy in clean["accuracy"].items() if accuracy is not None
    ]
    lines += [f"  false alarm: {_line(f)}" for f in clean["false alarms"]]
    lines += ["", "First look with a finding of the broken layer, of any severity:"]
    lines += [f"  {fault}: {_counts(places)}" for fault, places in figures["onset"].items()]
    lines += ["", "Symptoms, from the look at which their definition first holds for a layer:"]
    lines += [f"  {symptom}: {_counts(counts)}" for symptom, counts in figures["by definition"].items()]
    return "\n".join(lines)


def _line(f: dict[str, Any]) -> str:
    fault = f"{f['architecture']}, seed {f['seed']}: {f['fault']}" + (f" in {f['broken']}" if f["broken"] else "")
    state = f"{'harmed' if f['harmed'] else 'harmless'} ({f['accuracy']:.0%}, loss {f['loss']:.2g})"
    return f"{fault}, {state}; critical {', '.join(f['critical']) or '-'}; warned {', '.join(f['warnings']) or '-'}"


def _counts(counts: dict[str, int]) -> str:
    def order(item: tuple[str, int]) -> tuple[bool, int, str]:
        number = re.search(r"\d+", item[0])
        return item[0].startswith("end"), int(number[0]) if number else 10**9, item[0]

    return ", ".join(f"{place} {n}" for place, n in sorted(counts.items(), key=order)) or "-"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(v.rjust(w) if i else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))) for row in rows]
