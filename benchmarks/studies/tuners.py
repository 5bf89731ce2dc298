"""Which tuner finds good networks soonest: best score by training time, on equal spaces and budgets; unpromising trials end early in all.

`python -m benchmarks.studies.tuners` draws docs/pictures/tuners.png of the kept results.
"""

import contextlib
import functools
import statistics
import time
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from benchmarks import searching, store
from benchmarks.registry import BENCHMARKS
from benchmarks.store import Table
from benchmarks.studies import recorded, unpromising_trials
from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import watch

ROOT = Path(__file__).parents[2]
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
# The kinds, and how the picture draws each.
STYLES = {
    "random": ("-", "#7f7f7f"), "grid": (":", "#bcbd22"), "hyperband": ("-.", "#9467bd"), "tpe": ("--", "#1f77b4"),
    "genetic": ("-", "#d62728"),
}  # fmt: skip
KINDS = tuple(STYLES)
# At most in a trial that is trained.
EPOCHS = 15
# Time and best score so far of each trial, in order.
Course = list[tuple[float, float]]


def replayed(kind: str, entries: dict[str, recorded.Entry], seed: int, budget: float) -> Course:
    """Return the course of a search whose trials are read from a table; training alone counts as time."""
    course: Course = []
    spent = best = 0.0
    files = keras_private.keras_tuner_saves_json_with(lambda path, content: "")
    with searching.endless_tuner(kind, recorded.declare, recorded.EPOCHS, objective=OBJECTIVE, seed=seed + 1) as tuner, files:
        oracle, hp = tuner.oracle, keras_tuner.HyperParameters()
        recorded.declare(hp)
        oracle.update_space(hp)
        oracle.save = lambda: None
        if kind == "genetic":
            oracle.symptoms_of = lambda trial: entries[recorded.key(trial.hyperparameters.values)]["symptoms"]
        while spent < budget:
            trial = oracle.create_trial("t")
            if trial.status != "RUNNING":
                break
            values = trial.hyperparameters.values
            entry = entries[recorded.key(values)]
            first, last = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", recorded.EPOCHS)
            last = max(first + 1, min(last, entry["stops"] or last))
            score = max(entry["scores"][first:last])
            spent += entry["seconds"] * (last - first) / recorded.EPOCHS
            best = max(best, score)
            course.append((spent, best))
            oracle.update_trial(trial.trial_id, {OBJECTIVE.name: score})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
    return course


def trained(kind: str, seed: int, budget: float) -> Course:
    """Return the course of a search that trains its trials; the work of all cores counts as time, that of the oracle included."""
    data = unpromising_trials.data_of("digits", seed)
    space = functools.partial(unpromising_trials.build, features=data.x.shape[1], classes=10)
    held_out = (data.x_validation, data.y_validation)
    course: Course = []
    with searching.endless_tuner(kind, space, EPOCHS, objective=OBJECTIVE, seed=seed + 1) as tuner:
        watch(tuner, SaturationMonitor(data.x, data.y, on_critical="stop"), seed=seed)
        begun, end = time.process_time(), tuner.on_trial_end

        def on_trial_end(trial: Any) -> None:
            end(trial)
            spent = time.process_time() - begun
            score = trial.score if trial.score is not None and abs(trial.score) < 1 else 0.0
            course.append((spent, max(score, course[-1][1] if course else 0.0)))
            if spent >= budget:
                raise TimeoutError

        tuner.on_trial_end = on_trial_end
        with contextlib.suppress(TimeoutError):
            tuner.search(data.x, data.y, batch_size=32, epochs=EPOCHS, validation_data=held_out, verbose=0)
    _backend.forget_programs()
    return course


def kept_results(name: str) -> dict[str, Any]:
    """Return what the project keeps of a study, on the backend of the quoted figures."""
    return store.load(ROOT / "benchmarks" / "results", BENCHMARKS[name], "torch") or {}


def measure(trials: int, seeds: int, real: float, real_seeds: int) -> dict[str, Any]:
    """Return the courses of all kinds: replayed with time for so many trials of the table's mean, and trained for `real` seconds."""
    entries = kept_results("recorded")["entries"]
    budget = trials * statistics.mean(entry["seconds"] for entry in entries.values())
    found: dict[str, Any] = {}
    for title, count, seconds in (("replayed", seeds, budget), ("trained", real_seeds, real)):
        courses: dict[str, list[Course]] = {kind: [] for kind in KINDS}
        for seed in range(count):
            for kind in KINDS if seed % 2 == 0 else reversed(KINDS):
                is_trained = title == "trained"
                courses[kind].append(trained(kind, seed, seconds) if is_trained else replayed(kind, entries, seed, seconds))
        found |= {f"{title}, {count} seeds": {"budget": seconds, "courses": courses}} if count else {}
    return {"searches": found}


def best_at(courses: list[Course], when: float) -> float:
    """Return the median over the courses of the best score of the trials that had ended by then."""
    return statistics.median(max((score for spent, score in course if spent <= when), default=0.0) for course in courses)


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each kind: medians over the seeds of the best score at shares of the budget, and of the trials."""
    rows: Table = {}
    for title, found in kept["searches"].items():
        for kind, courses in found["courses"].items():
            row = {f"{share:.0%} of the time": best_at(courses, share * found["budget"]) for share in (0.1, 0.25, 0.5, 1.0)}
            row["trials"] = statistics.median(sum(spent <= found["budget"] for spent, _ in course) for course in courses)
            rows[f"{title.partition(',')[0]}, {kind}"] = {**row}
    return rows


def draw(kept: dict[str, Any], path: Path) -> None:
    """Draw the median best score by time, a panel for each kind of search."""
    from matplotlib.figure import Figure

    figure, panels = Figure(figsize=(7.0, 3.4), layout="constrained"), kept["searches"].items()
    for axes, (title, found) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        budget, courses = found["budget"], found["courses"]
        times = np.linspace(0.02 * budget, budget, 200)
        for kind, each in courses.items():
            # Of a tuner that the package had when the results were kept.
            line, colour = STYLES.get(kind, (":", "tab:gray"))
            axes.plot(times, [best_at(each, t) for t in times], line, color=colour, label=kind, linewidth=1.4)
        top = max(score for each in courses.values() for course in each for spent, score in course if spent <= budget)
        axes.set(ylim=(top - 0.08, top + 0.005), xlabel="seconds of training", ylabel="median best validation accuracy", title=title)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(kept_results("tuners"), ROOT / "docs" / "pictures" / "tuners.png")
