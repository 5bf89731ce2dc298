"""One search from data to best model: run, resume, results."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import keras
import pandas as pd
from rich.console import Console

from keras_ext import _backend
from keras_ext._atomic import write_json
from keras_ext._checks import BadInput
from keras_ext._html import is_notebook
from keras_ext._wording import one_line
from keras_ext.automl import report
from keras_ext.automl.banner import print_banner
from keras_ext.automl.baseline import Baseline, baselines, verdict
from keras_ext.automl.best_model import AGAIN, keep_best
from keras_ext.automl.evaluation import Evaluation
from keras_ext.automl.goal import Goal
from keras_ext.automl.precision import precision
from keras_ext.automl.preparation import Preparation
from keras_ext.automl.search_file import claim, settings_of, stored_settings
from keras_ext.automl.settings import Settings, complete
from keras_ext.automl.tuners import grid_size, hyperband_trials, make_tuner
from keras_ext.callbacks import SaturationMonitor, StopAt
from keras_ext.parallel.placement import Placement
from keras_ext.parallel.search_at import search_at
from keras_ext.search.folds import Folds
from keras_ext.search.report.importance import Importance
from keras_ext.search.report.page import write_page
from keras_ext.search.report.results import Results, results
from keras_ext.search.report.view import View
from keras_ext.search.writable import reported_where_not_writable
from keras_ext.tables.data import Split, Table, load_frame
from keras_ext.tables.data.duplicates import duplicates

LOG = "search.log"
BEST_MODEL = "best_model.keras"
REPORT = "report.html"


@dataclass(frozen=True)
class SearchResult:
    """How a search ended.

    Args:
        results: its trials.
        model_path: file of the best model, None if all failed.
        seconds: wall time of this run.
        test_score: of the best model on the samples that no trial saw, in the search's metric. None where there are none.
        test_samples: how many they are.
        trained_again: samples that the best network was trained on again; 0 where it was not.
        parts: how much each hyperparameter mattered, the most important first.
        metric: the score's name, such as `"accuracy"` or `"r2_score"`.
        baselines: the scores of scikit-learn's models on the same samples, the better one first.
        verdict: one sentence that compares the best of these with the best network; empty without them.
        evaluation: the best model's predictions for the samples of the test.
    """

    results: Results
    model_path: Path | None
    seconds: float
    test_score: float | None = None
    test_samples: int = 0
    trained_again: int = 0
    parts: tuple[Importance, ...] = ()
    metric: str = ""
    baselines: tuple[Baseline, ...] = ()
    verdict: str = ""
    evaluation: Evaluation | None = None


def run(
    table: Table | pd.DataFrame,
    output: str | Path | None = None,
    settings: Settings | None = None,
    *,
    target: str | None = None,
    group: str | None = None,
    placement: Placement | None = None,
    resume: bool = False,
    console: Console | None = None,
    source: dict[str, Any] | None = None,
    as_command: bool = False,
) -> SearchResult:
    """Search for the best network for `table` and write everything into the folder `output`.

    Written there: `search.json` (settings), `trials/` (KerasTuner's project), `results.json`, `leaderboard.csv`,
    `report.html` and `best_model.keras`.

    Args:
        table: the data; a data frame is read by `tables.load_frame`, which has more options.
        output: folder to write to; made if it is missing. None: a new one under `results/`.
        settings: what to search how. None: the default, or with `resume` what the search has, of which only `trials` and `refit` may be
            changed.
        target: of a data frame: the name of the column to predict; None: the last one.
        group: of a data frame: the name of a column whose rows of one value stay together in every split.
        placement: where the trials run: here, in processes of their own, or on Ray.
        resume: go on with the search that `output` holds. Finished trials stay, the one that was running starts again.
        console: where to show progress; None shows it in a notebook, and nothing elsewhere.
        source: where the data came from, kept in `search.json` so that the command line finds it again.
        as_command: whether this process is the command line: standard error goes to `search.log`, and Ctrl-C waits for the batch's end.

    Raises:
        BadInput: `output` holds a search and `resume` is False, or holds another one than `settings` and `table` say, or more trials than
            `settings`; the samples are too few for a test or the batch sizes; the network does not go with their shape; the grid has
            more than a million combinations, or values that the search space does not know.

    Examples:
        >>> import tempfile
        >>> from keras_ext.tables import load_digits
        >>> small = Settings(trials=1, epochs=1)
        >>> result = run(load_digits(), tempfile.mkdtemp() + "/digits", small)
        >>> result.model_path.name, len(result.results)
        ('best_model.keras', 1)
    """
    given = {name: value for name, value in (("target", target), ("group", group)) if value is not None}
    if isinstance(table, pd.DataFrame):
        table = load_frame(table, target, group=group)
    elif given:
        name, value = next(iter(given.items()))
        raise BadInput(f"`{name}` goes with a data frame, got {value} beside a Table, which has its {name}. Leave it out.")
    output = Path(output or f"results/{Path(table.name).stem}-{datetime.now():%Y%m%d-%H%M%S}")
    settings = settings or (settings_of(stored_settings(output)) if resume else Settings())
    split = table.split(settings.validation, settings.seed, settings.test, settings.folds)
    settings = complete(settings, split.trained)
    epochs = settings.epochs or 0
    if settings.batch_sizes != Settings.batch_sizes and 2 * min(settings.batch_sizes) > split.trained:
        reported = ", ".join(map(str, settings.batch_sizes))
        raise BadInput(f"`batch_sizes` {reported}: none fits twice into the {split.trained} samples of training. Give smaller ones.")
    began = time.monotonic()
    goal = Goal.of(table, settings.objective)
    prepared = Preparation.of(split.x, split.y, table.classes, goal, table.day_first)
    space = prepared.space_for(settings, split.trained)
    space.folds = None if split.folds is None else Folds(split.folds)
    points = grid_size(space, settings.values) if settings.tuner == "grid" else None
    claim(output, settings, table, resume, {"group": group, **(source or {})})
    x, y = prepared.inputs(split.x), prepared.targets(split.y)
    total = hyperband_trials(epochs) if settings.tuner == "hyperband" else min(settings.trials, points or settings.trials)
    console = console or Console(quiet=not is_notebook())
    notes = [*filter(None, [_duplicates(split), goal.why])]
    print_banner(console, table, output, settings, space, points, notes)
    with precision(settings.mixed_precision), _standard_error_in(output / LOG) if as_command else contextlib.nullcontext():
        make = partial(
            make_tuner,
            kind=settings.tuner,
            space=space,
            objective=space.objective,
            trials=settings.trials,
            epochs=epochs,
            seed=settings.seed,
            values=settings.values,
            repeats=settings.repeats * (settings.folds or 1),
            trials_per_structure=settings.trials_per_structure or 1,
        )
        held_out = (prepared.inputs(split.x_validation), prepared.targets(split.y_validation)) if split.folds is None else None
        reported = reported_where_not_writable(output, AGAIN)
        with (
            reported,
            View(console, space.objective.name, total) as view,
            _ctrl_c_between_batches(view) if as_command else contextlib.nullcontext(),
        ):
            tuner = search_at(
                placement or Placement(),
                make,
                output,
                SaturationMonitor(x, y, on_critical="stop"),
                seed=settings.seed,
                view=view,
                pruner=settings.pruner,
                x=x,
                y=y,
                validation_data=held_out,
                epochs=epochs,
                callbacks=_ends(settings, space, goal),
                verbose=0,
            )
        found = results(tuner)
        path, evaluation = None, None
        if found and found[0].score is not None:
            if settings.refit:
                samples = "all folds" if settings.folds else "training and validation"
                console.print(f"training the best network again, on the samples of {samples}")
            path = output / BEST_MODEL
            evaluation = keep_best(tuner, tuner.oracle.get_trial(found[0].trial), prepared, split, settings, path)
    beside = _baselines(prepared, split, settings, console)
    test_score, tested = None if evaluation is None else evaluation.score, 0 if split.y_test is None else len(split.y_test)
    score = found[0].score if found else None
    network = None if path is None or score is None else (float(score), test_score)
    said = verdict(beside, network, goal, tested or len(split.y_validation), settings.folds or 0)
    seconds = time.monotonic() - began
    again = len(split.y) + len(split.y_validation) if settings.refit and path is not None else 0
    parts = found.importance()
    summary = {
        "data": table.name,
        "task": table.task,
        "classes": table.classes,
        "network": space.name,
        "score": space.objective.name,
        "metric": goal.name,
        "notes": [*table.notes, *notes],
        "settings": asdict(settings),
        "backend": _backend.framework_version(),
        "keras": keras.__version__,
        "device": _backend.device_name(),
        "seconds": round(seconds, 1),
        "best_model": path.name if path else None,
        "test": None if evaluation is None else {"samples": tested, goal.name: test_score},
        "baselines": [asdict(each) for each in beside],
        "verdict": said,
        "evaluation": None if evaluation is None else evaluation.summary(),
    }
    with reported_where_not_writable(output, AGAIN):
        write_json(
            output / "results.json", {**summary, "importance": [asdict(part) for part in parts], "trials": [asdict(r) for r in found]}
        )
        found.to_csv(output / "leaderboard.csv")
        first = [] if network is None else report.parts(beside, network, goal.name, evaluation)
        write_page(output / REPORT, found, f"Search on {table.name}", report.about(summary, again, datetime.now()), first)
    return SearchResult(found, path, seconds, test_score, tested, again, parts, goal.name, beside, said, evaluation)


def _duplicates(split: Split) -> str:
    """Return what is to be known of samples that are on both sides of the split; empty where there are none."""
    count = duplicates(split)
    aside = len(split.y_validation if split.folds is None else split.y) + (0 if split.y_test is None else len(split.y_test))
    return f"{count} of the {aside} samples put aside are also among those of training: the scores may be too good" if count else ""


def _baselines(prepared: Preparation, split: Split, settings: Settings, console: Console) -> tuple[Baseline, ...]:
    """Return the baselines, if they are wanted; nothing that goes wrong with them costs the search."""
    if not settings.baseline:
        return ()
    try:
        return baselines(prepared, split, bool(settings.refit), settings.seed)
    except Exception as error:
        console.print(f"no baseline: {one_line(error)}", soft_wrap=True, markup=False)
        return ()


def _ends(settings: Settings, space: Any, goal: Goal) -> list[keras.callbacks.Callback]:
    """Return what ends a trial: a perfect score, and so many epochs without a better one where the settings say so."""
    ends: list[keras.callbacks.Callback] = []
    if settings.patience is not None:
        ends += [keras.callbacks.EarlyStopping(space.objective.name, patience=settings.patience, mode=space.objective.direction)]
    perfect, rises = goal.perfect, goal.direction == "max"
    if perfect is not None:
        ends += [StopAt(space.objective.name, above=perfect if rises else None, below=None if rises else perfect)]
    return ends


@contextlib.contextmanager
def _standard_error_in(path: Path) -> Iterator[None]:
    """Append what is written to standard error to a file: TensorFlow and XLA write from C++ into the middle of a live picture."""
    sys.stderr.flush()
    users = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(users, 2)
        os.close(users)


@contextlib.contextmanager
def _ctrl_c_between_batches(view: View) -> Iterator[None]:
    """Let Ctrl-C end the search between two batches: inside XLA's compiler an exception can end the whole process (seen with JAX)."""
    kept = signal.signal(signal.SIGINT, view.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)
