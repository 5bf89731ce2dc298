"""Which search finds good networks soonest: best score by training time, of every kind of tuner on the same spaces and budgets.

`python -m benchmarks.studies.tuners --table benchmarks/results/recorded-digits.json --json tuners.json` replays searches on a recorded
table, and with `--real` trains others for so many seconds each. Hopeless trials end early in all of them. `--picture FILE` draws the
courses.
"""

import contextlib
import functools
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np

from benchmarks.measuring import machine
from benchmarks.studies import frame, hopeless_trials, recorded
from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import GeneticTuner, watch
from keras_ext.search.tuners import TUNERS

OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")
KINDS = ("random", "grid", "hyperband", "bayesian", "genetic, deaf", "genetic")
SHARES = (0.1, 0.25, 0.5, 1.0)
NEVER = 10**9
# Time and best score so far of each trial, in order.
Course = list[tuple[float, float]]


def make(kind: str, space: Any, seed: int, epochs: int, folder: str) -> Any:
    """Return a tuner of this kind that never runs out of trials."""
    common = {"objective": OBJECTIVE, "seed": seed + 1, "directory": folder, "project_name": "trials"}
    with contextlib.redirect_stdout(io.StringIO()):
        if kind.startswith("genetic"):
            tuner: Any = GeneticTuner(space, max_trials=NEVER, listens=kind == "genetic", **common)
        elif kind == "hyperband":
            tuner = TUNERS[kind](space, max_epochs=epochs, hyperband_iterations=NEVER, **common)
        else:
            tuner = TUNERS[kind](space, max_trials=NEVER, **common)
    tuner.oracle.verbose = 0
    return tuner


def replayed(kind: str, table: dict[str, recorded.Entry], seed: int, budget: float) -> Course:
    """Return the course of a search whose trials are looked up; training alone counts as time."""
    course: Course = []
    spent = best = 0.0
    with tempfile.TemporaryDirectory() as folder, keras_private.keras_tuner_saves_json_with(lambda path, content: ""):
        tuner = make(kind, lambda hp: recorded.declare(hp) or keras.Sequential(), seed, recorded.EPOCHS, folder)
        oracle = tuner.oracle
        oracle.update_space(_space())
        oracle.save = lambda: None
        if kind == "genetic":
            oracle.symptoms_of = lambda trial: table[_key(trial)].symptoms
        while spent < budget:
            trial = oracle.create_trial("t")
            if trial.status != "RUNNING":
                break
            entry, values = table[_key(trial)], trial.hyperparameters.values
            first, last = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", recorded.EPOCHS)
            last = max(first + 1, min(last, entry.stops or last))
            score = max(entry.scores[first:last])
            spent += entry.seconds * (last - first) / recorded.EPOCHS
            best = max(best, score)
            course.append((spent, best))
            oracle.update_trial(trial.trial_id, {OBJECTIVE.name: score})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
    return course


def _space() -> Any:
    hp = keras_tuner.HyperParameters()
    recorded.declare(hp)
    return hp


def _key(trial: Any) -> str:
    values = trial.hyperparameters.values
    names = ("activation", "initializer", "layers", "normalization", "optimizer", f"learning_rate_{values['optimizer']}")
    return recorded.key({name: values[name] for name in names})


class _Spent(Exception):
    """The time is over."""


def trained(kind: str, seed: int, budget: float, epochs: int) -> Course:
    """Return the course of a search that trains its trials; the work of all cores counts as time, that of the oracle included."""
    data = hopeless_trials.data_of("digits", seed)
    space = functools.partial(hopeless_trials.build, features=data.x.shape[1], classes=10)
    course: Course = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        tuner = make(kind, space, seed, epochs, folder)
        watch(tuner, SaturationMonitor(data.x, data.y, on_critical="stop"), seed=seed)
        begun, end = time.process_time(), tuner.on_trial_end

        def on_trial_end(trial: Any) -> None:
            end(trial)
            spent = time.process_time() - begun
            score = trial.score if trial.score is not None and abs(trial.score) < 1 else 0.0
            course.append((spent, max(score, course[-1][1] if course else 0.0)))
            if spent >= budget:
                raise _Spent

        tuner.on_trial_end = on_trial_end
        with contextlib.suppress(_Spent):
            held_out = (data.x_validation, data.y_validation)
            tuner.search(data.x, data.y, batch_size=32, epochs=epochs, validation_data=held_out, verbose=0)
    _backend.forget_programs()
    return course


def best_at(course: Course, when: float) -> float:
    """Return the best score of the trials that had ended by then."""
    return max((score for spent, score in course if spent <= when), default=0.0)


def table_of(courses: dict[str, list[Course]], budget: float) -> Iterator[str]:
    """Yield the lines of a table in Markdown: median best scores over the seeds, and trials, at shares of the budget."""
    yield "| tuner | " + " | ".join(f"{share:.0%} of the time" for share in SHARES) + " | trials |"
    yield "|---" * (len(SHARES) + 2) + "|"
    for kind, each in courses.items():
        medians = [statistics.median(best_at(c, share * budget) for c in each) for share in SHARES]
        trials = statistics.median(sum(spent <= budget for spent, _ in c) for c in each)
        yield f"| {kind} | " + " | ".join(f"{m:.4f}" for m in medians) + f" | {trials:.0f} |"


def section(kept: dict[str, Any]) -> str:
    """Return the courses of a file as tables in Markdown."""
    kinds = [(title, found) for title, found in kept.items() if title != "header"]
    return "\n\n".join(
        f"{title}, {found['budget']:.0f} s each\n\n" + "\n".join(table_of(found["courses"], found["budget"])) for title, found in kinds
    )


def draw(found: dict[str, tuple[dict[str, list[Course]], float]], path: Path) -> None:
    """Draw the median best score by time, a panel for each kind of search."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    styles: dict[str, str] = dict(zip(KINDS, ("-", ":", "-.", "--", "-", "-"), strict=True))
    colours: dict[str, str] = dict(zip(KINDS, ("#7f7f7f", "#bcbd22", "#9467bd", "#1f77b4", "#ff9896", "#d62728"), strict=True))
    for axes, (title, (courses, budget)) in zip(panels, found.items(), strict=True):
        for kind, each in courses.items():
            times = np.linspace(0.02 * budget, budget, 200)
            medians = [statistics.median(best_at(c, t) for c in each) for t in times]
            axes.plot(times, medians, styles[kind], color=colours[kind], label=kind, linewidth=1.4)
        top = max(best_at(c, budget) for each in courses.values() for c in each)
        axes.set_ylim(top - 0.08, top + 0.005)
        axes.set_xlabel("seconds of training")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("median best validation accuracy")
    panels[0].legend(frameon=False, fontsize=8, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def searched(kinds: Sequence[str], seeds: int, one: Callable[[str, int], Course]) -> dict[str, list[Course]]:
    """Return the courses of every kind; the kinds take turns, seed by seed."""
    courses: dict[str, list[Course]] = {kind: [] for kind in kinds}
    for seed in range(seeds):
        for kind in kinds if seed % 2 == 0 else reversed(kinds):
            courses[kind].append(one(kind, seed))
            click.echo(f"seed {seed}, {kind}: {courses[kind][-1][-1][1]:.4f} after {len(courses[kind][-1])} trials", err=True)
    return courses


@click.command()
@click.option("--table", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Of benchmarks.studies.recorded.")
@click.option("--trials", default=60, show_default=True, help="Replayed: time for so many trials of the table's mean.")
@click.option("--seeds", default=10, show_default=True, help="Replayed: seeds 0 to one less.")
@click.option("--real", default=0.0, show_default=True, help="Seconds of processor time for each search that trains; 0: none.")
@click.option("--real-seeds", default=3, show_default=True)
@click.option("--epochs", default=15, show_default=True, help="Most of a trial, where it is trained.")
@click.option("--kinds", default=";".join(KINDS), show_default=True)
@frame.json_option
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="File for the picture.")
def main(
    path: Path | None,
    trials: int,
    seeds: int,
    real: float,
    real_seeds: int,
    epochs: int,
    kinds: str,
    out: Path | None,
    picture: Path | None,
) -> None:
    """Compare tuners."""
    wanted, found = kinds.split(";"), {}
    header = machine.header(
        f"python -m benchmarks.studies.tuners --trials {trials} --seeds {seeds} --real {real:g} --real-seeds {real_seeds}"
    )
    if path is not None:
        table = recorded.load(path)
        budget = trials * statistics.mean(e.seconds for e in table.values())
        found[f"replayed, {seeds} seeds"] = searched(wanted, seeds, lambda kind, seed: replayed(kind, table, seed, budget)), budget
    if real:
        found[f"trained, {real_seeds} seeds"] = searched(wanted, real_seeds, lambda kind, seed: trained(kind, seed, real, epochs)), real
    kept = {"header": header, **{title: {"budget": budget, "courses": courses} for title, (courses, budget) in found.items()}}
    frame.finish(kept, section(kept), out, indent=None)
    if picture is not None:
        draw(found, picture)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.tuners")
