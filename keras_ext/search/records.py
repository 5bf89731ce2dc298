"""The record of each trial, as the leaderboard shows it: of KerasTuner's own file and the report beside it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_ext.search.trial_report import reported_of

NOTHING_FOUND = "nothing found"
# More than any search has; KerasTuner's protocol holds 64 bits.
MOST_TRIALS = 2**31 - 1
# How the reason of a pruned trial begins: in a training, and between two.
PRUNED, PRUNED_AFTER = "pruned at epoch", "pruned after"
# The score of a trial without a finite one while no other has one either; with the sign that makes it bad.
PLACEHOLDER = 1e9
# KerasTuner's words for trials that are over. An INVALID one waits for its next try.
ENDED = ("COMPLETED", "FAILED")


@dataclass(frozen=True)
class Record:
    """One trial.

    Args:
        number: counts from 1 in the order of the search.
        trial: the name that KerasTuner's folders have.
        status: KerasTuner's word: COMPLETED or FAILED.
        score: its best; None where it had no finite one.
        epochs: how many it was trained for, of the `planned_epochs`.
        seconds: that the whole trial took.
        diagnosis: what the monitor found, the critical first; or the error.
        hyperparameters: those that it really used.
        planned_epochs: of the trial, in Hyperband without those of the trial that it goes on with.
        ended: why it ended before them; empty where it did not.
        symptoms: the symptoms of its critical findings.
        program: whether its compiled steps were its `"own"`, `"shared"` with an earlier trial, or why it could not share them.
        scores: after each epoch, the mean over the executions; None where there was no finite one.
        executions: the best score of each training, if KerasTuner's `executions_per_trial` has several; `score` is their mean.
        loss: `val_loss` after the epoch of the score, if it is known: of equal scores the one with the lower loss is better.
    """

    number: int
    trial: str
    status: str
    score: float | None
    epochs: int
    seconds: float
    diagnosis: str
    hyperparameters: dict[str, Any]
    planned_epochs: int = 0
    ended: str = ""
    symptoms: tuple[str, ...] = ()
    program: str = "own"
    scores: tuple[float | None, ...] = ()
    executions: tuple[float | None, ...] = ()
    loss: float | None = None

    @property
    def spread(self) -> float | None:
        """The standard deviation of the scores of the executions; None where there are not two."""
        finite = [score for score in self.executions if score is not None]
        return statistics.stdev(finite) if len(finite) > 1 else None

    @property
    def is_pruned(self) -> bool:
        """Return whether a pruner ended it."""
        return self.ended.startswith((PRUNED, PRUNED_AFTER))


def diagnosis_of(findings: Sequence[dict[str, Any]]) -> str:
    """Return the findings of a trial in a few words, critical ones first: `critical: saturated (relu_2), dead relu (relu_1)`."""
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
            return f"{severity}: {', '.join(texts)}"
    return NOTHING_FOUND


def collect(tuner: Any, log_dir: Path | None = None) -> list[Record]:
    """Return a record for each trial that has ended, the best first, the failed last; `log_dir` is that of its monitor."""
    ended = [trial for trial in trials_of(tuner).values() if trial.status in ENDED]
    return in_order([record_of(tuner, trial, log_dir) for trial in ended], tuner.oracle.objective.direction)


def trials_of(tuner: Any) -> dict[str, Any]:
    """Return KerasTuner's trials by their names; a worker of its distributed search asks the chief for all of them."""
    oracle = tuner.oracle
    return oracle.trials if hasattr(oracle, "trials") else {trial.trial_id: trial for trial in oracle.get_best_trials(MOST_TRIALS)}


def in_order(records: Sequence[Record], direction: str) -> list[Record]:
    """Return records, the best first, the failed last; the loss decides between equal scores, as few samples leave many of these."""
    sign = -1 if direction == "max" else 1
    return sorted(records, key=lambda r: (r.score is None, sign * (r.score or 0.0), math.inf if r.loss is None else r.loss, r.trial))


def record_of(tuner: Any, trial: Any, log_dir: Path | None = None) -> Record:
    """Return what is known of a trial that has ended."""
    reported = reported_of(tuner, trial, log_dir)
    score = trial.score if trial.status == "COMPLETED" and trial.score is not None and math.isfinite(trial.score) else None
    if reported["stands_in"]:
        score = None
    diagnosis, error = diagnosis_of(reported["findings"]), reported["error"]
    if error is None and trial.status != "COMPLETED":
        lines = [line for line in (trial.message or "").splitlines() if line.strip()]
        error = lines[-1].strip() if lines else "no finite score"
    critical = tuple(dict.fromkeys(f["symptom"] for f in reported["findings"] if f["severity"] == "critical"))
    ended = ""
    if error is not None:
        ended = f"failed: {error[:120]}"
        diagnosis = ended if diagnosis == NOTHING_FOUND else diagnosis
    elif reported["pruned"]:
        ended = reported["pruned"]
        diagnosis = ended if diagnosis == NOTHING_FOUND else f"{ended}; {diagnosis}"
    elif reported["epochs"] < reported["planned_epochs"] and (reported["epochs"] or critical):  # a trial without a network has no epochs
        ended = diagnosis if critical else reported["stopped"] or "by another callback"
    elif critical and not reported["planned_epochs"]:
        ended = diagnosis
    return Record(
        number_of(trial),
        trial.trial_id,
        trial.status,
        score,
        reported["epochs"],
        reported["seconds"],
        diagnosis,
        active(trial.hyperparameters),
        reported["planned_epochs"],
        ended,
        critical,
        reported["program"],
        tuple(reported["scores"]),
        tuple(reported["executions"]),
        _loss_of(trial),
    )


def _loss_of(trial: Any) -> float | None:
    """Return the validation loss that KerasTuner keeps of a trial, if that is a number."""
    loss = trial.metrics.get_best_value("val_loss") if trial.metrics.exists("val_loss") else None
    return float(loss) if loss is not None and math.isfinite(loss) else None


def number_of(trial: Any) -> int:
    """Return the number of a trial, counted from 1; 0 where its name is none."""
    return int(trial.trial_id) + 1 if trial.trial_id.isdecimal() else 0


def active(hyperparameters: Any) -> dict[str, Any]:
    """Return the values of KerasTuner `hyperparameters` that this trial really used, without the tuner's own."""
    values = {}
    for hp in hyperparameters.space:
        if hyperparameters.is_active(hp) and hp.name in hyperparameters.values and not hp.name.startswith("tuner/"):
            values[hp.name] = hyperparameters.values[hp.name]
    return values


def in_words(hyperparameters: dict[str, Any]) -> str:
    """Return hyperparameters in a few words: `none` is left out, and `rate_adam` beside `optimizer adam` is called `rate`.

    >>> in_words({"optimizer": "adam", "rate_adam": 0.00123456, "clipping": "none", "dropout": 0.0, "layers": 2})
    'optimizer adam, rate 0.001235, dropout 0, layers 2'
    """
    endings = tuple(f"_{v}" for v in hyperparameters.values() if isinstance(v, str))
    words = []
    for name, value in hyperparameters.items():
        if value == "none":
            continue
        ending = next((e for e in endings if name.endswith(e)), "")
        words.append(f"{name.removesuffix(ending)} {value:.4g}" if isinstance(value, float) else f"{name.removesuffix(ending)} {value}")
    return ", ".join(words)
