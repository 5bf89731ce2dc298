"""What is known of each trial: written beside KerasTuner's own files, read back after a restart, shown as a leaderboard."""

import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from keras_ext.search.atomic import write_json

NOTHING_FOUND = "nothing found"


@dataclass(frozen=True)
class Record:
    """One trial. `score` is None where it failed; `epochs` counts those it was trained for, `seconds` the whole trial.

    `number` counts from 1 in the order of the search, `trial` is the name that KerasTuner's folders have.
    """

    number: int
    trial: str
    status: str
    score: float | None
    epochs: int
    seconds: float
    diagnosis: str
    hyperparameters: dict[str, Any]


def diagnosis_of(findings: Sequence[dict[str, Any]]) -> str:
    """Return the findings of a trial in a few words, critical ones first: `critical: saturated (relu_2), dead relu (relu_1)`."""
    groups = []
    for severity in ("critical", "warning"):
        symptoms: dict[str, list[str]] = {}
        for f in findings:
            if f["severity"] == severity:
                symptoms.setdefault(f["symptom"].replace("_", " "), []).append(f["layer"] or "")
        texts = []
        for symptom, where in symptoms.items():
            first = f" ({where[0]}{', ...' if len(where) > 1 else ''})" if where[0] else ""
            texts.append(symptom + first)
        if texts:
            groups.append(f"{severity}: {', '.join(texts)}")
    return groups[0] if groups else NOTHING_FOUND


def collect(tuner: Any) -> list[Record]:
    """Return a record for each trial that has ended, the best first, the failed last."""
    records = []
    for trial in tuner.oracle.trials.values():
        if trial.status not in ("COMPLETED", "FAILED", "INVALID"):
            continue
        path = Path(tuner.get_trial_dir(trial.trial_id)) / "diagnosis.json"
        told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"findings": [], "epochs": 0, "seconds": 0.0}
        diagnosis = diagnosis_of(told["findings"])
        score = trial.score if trial.status == "COMPLETED" and trial.score is not None and math.isfinite(trial.score) else None
        if score is None and diagnosis == NOTHING_FOUND:
            lines = [line for line in (trial.message or "").splitlines() if line.strip()]
            diagnosis = f"failed: {lines[-1].strip()[:120]}" if lines else "failed"
        values = active(trial.hyperparameters)
        records.append(
            Record(int(trial.trial_id) + 1, trial.trial_id, trial.status, score, told["epochs"], told["seconds"], diagnosis, values)
        )
    sign = -1 if tuner.oracle.objective.direction == "max" else 1
    return sorted(records, key=lambda r: (r.score is None, sign * (r.score or 0.0), r.trial))


def active(hyperparameters: Any) -> dict[str, Any]:
    """Return the values of KerasTuner `hyperparameters` that this trial really used, without the tuner's own."""
    values = {}
    for hp in hyperparameters.space:
        if hyperparameters.is_active(hp) and hp.name in hyperparameters.values and not hp.name.startswith("tuner/"):
            values[hp.name] = hyperparameters.values[hp.name]
    return values


def in_words(hyperparameters: dict[str, Any]) -> str:
    """Return hyperparameters in a few words: what was not chosen is left out, and `rate_adam` beside `optimizer adam` is called `rate`.

    >>> in_words({"optimizer": "adam", "rate_adam": 0.00123456, "clipping": "none", "dropout": 0.0, "layers": 2})
    'optimizer adam, rate 0.001235, layers 2'
    """
    endings = tuple(f"_{v}" for v in hyperparameters.values() if isinstance(v, str))
    words = []
    for name, value in hyperparameters.items():
        if value == "none" or (isinstance(value, float) and value == 0.0):
            continue
        ending = next((e for e in endings if name.endswith(e)), "")
        words.append(f"{name.removesuffix(ending)} {value:.4g}" if isinstance(value, float) else f"{name.removesuffix(ending)} {value}")
    return ", ".join(words)


def leaderboard(records: Sequence[Record], score_name: str, most: int = 10) -> Table:
    """Return the best `most` records as a table for the terminal."""
    table = Table(title="Leaderboard", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for heading in ("#", "trial", score_name, "time", "epochs"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("diagnosis and hyperparameters", ratio=1)
    for rank, r in enumerate(records[:most], start=1):
        score = "failed" if r.score is None else f"{r.score:.4f}"
        colour = "red" if r.diagnosis.startswith(("critical", "failed")) else "yellow" if r.diagnosis != NOTHING_FOUND else "green"
        told = Text.assemble((r.diagnosis, colour), "\n", (in_words(r.hyperparameters), "dim"))
        table.add_row(str(rank), str(r.number), score, f"{r.seconds:.1f} s", str(r.epochs), told)
    if len(records) > most:
        table.caption = f"and {len(records) - most} more in leaderboard.csv"
    return table


def write_results(folder: Path, records: Sequence[Record], summary: dict[str, Any]) -> None:
    """Write `results.json` and `leaderboard.csv`."""
    write_json(folder / "results.json", {**summary, "trials": [asdict(r) for r in records]})
    names = sorted({name for r in records for name in r.hyperparameters})
    partial = folder / f".leaderboard.csv.{os.getpid()}"
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "number", "trial", "status", "score", "seconds", "epochs", "diagnosis", *names])
        for rank, r in enumerate(records, start=1):
            score = "" if r.score is None else r.score
            cells = [rank, r.number, r.trial, r.status, score, round(r.seconds, 3), r.epochs, r.diagnosis]
            writer.writerow([*cells, *(r.hyperparameters.get(name, "") for name in names)])
    partial.replace(folder / "leaderboard.csv")
