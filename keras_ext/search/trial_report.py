"""The report of a trial, and the file that keeps it beside KerasTuner's own."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keras_ext._atomic import write_json
from keras_ext.callbacks import Finding
from keras_ext.callbacks.monitor.report.json_report import RUN_FILE, from_json, run_path

DIAGNOSIS = "diagnosis.json"


@dataclass
class TrialReport:
    """The report of a trial beside KerasTuner's record of it, as `diagnosis.json` keeps it.

    Args:
        planned_epochs: of the trial, in Hyperband without those of the trial that it goes on with.
        epochs: how many of them it was trained for.
        seconds: that the whole trial took.
        scores: after each epoch, the mean over the executions; None where there was no finite one.
        executions: the best score of each execution.
        pruned: why a pruner ended it.
        stopped: why Keras's EarlyStopping, or StopAt, did.
        error: what it failed with.
        stands_in: whether its score is a placeholder: it never had one.
        program: whether its compiled steps were its own, shared with an earlier trial, or why it could not share them.
        findings: what the monitor found, oldest first.
    """

    planned_epochs: int = 0
    epochs: int = 0
    seconds: float = 0.0
    scores: list[float | None] = field(default_factory=list)
    executions: list[float | None] = field(default_factory=list)
    pruned: str | None = None
    stopped: str | None = None
    error: str | None = None
    stands_in: bool = False
    program: str = "own"
    findings: list[dict[str, Any]] = field(default_factory=list)


def as_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON can hold it, which has no NaN and no infinity."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(finding).items()}


def write_diagnosis(tuner: Any, trial: Any, reported: TrialReport) -> None:
    """Write what a trial reported, with the reason of its end, into `diagnosis.json` in its folder."""
    write_json(Path(tuner.get_trial_dir(trial.trial_id)) / DIAGNOSIS, asdict(reported))


def reported_of(tuner: Any, trial: Any, log_dir: Path | None = None) -> dict[str, Any]:
    """Return what is written of a trial, with nothing where nothing is, as for one that was not watched."""
    path = Path(tuner.get_trial_dir(trial.trial_id)) / DIAGNOSIS
    reported = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not reported and log_dir is not None and trial.metrics.exists("run"):
        path = run_path(log_dir, int(trial.metrics.get_last_value("run"))) / RUN_FILE
        if path.is_file():
            snapshots, findings = from_json(path)
            reported = {"findings": [asdict(f) for f in findings], "epochs": snapshots[-1].epoch if snapshots else 0}
    return {**asdict(TrialReport()), **reported}
