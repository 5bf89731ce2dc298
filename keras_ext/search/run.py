"""One search from data to best model: run, resume, results."""

import contextlib
import json
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console

from keras_ext import _backend
from keras_ext._checks import BadInput, one_of, whole
from keras_ext._standard_error import redirect
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search.atomic import write_json
from keras_ext.search.data import Split, Table
from keras_ext.search.mlp import MLP
from keras_ext.search.page import write_page
from keras_ext.search.records import Record
from keras_ext.search.results import Results, results
from keras_ext.search.tuners import TUNERS, hyperband_trials, make_tuner
from keras_ext.search.view import View

SETTINGS = "search.json"
# The name of the layer that brings the target's unit back.
UNIT = "unit"
LOG = "search.log"
BEST_MODEL = "best_model.keras"
REPORT = "report.html"


@dataclass(frozen=True)
class Settings:
    """What a search is made of; kept in `search.json`, so that it goes on as it began.

    Args:
        tuner: `"random"`, `"bayesian"`, `"hyperband"` or `"grid"`.
        trials: most trials; Hyperband sets its own number.
        epochs: most epochs of a trial.
        seed: of the tuner, the split and each trial's weights.
        validation: share of the samples that scores are taken on.
    """

    tuner: str = "random"
    trials: int = 20
    epochs: int = 20
    seed: int = 0
    validation: float = 0.2

    def __post_init__(self) -> None:
        one_of("tuner", self.tuner, TUNERS)
        whole("trials", self.trials)
        whole("epochs", self.epochs)
        whole("seed", self.seed, 0)


@dataclass(frozen=True)
class SearchResult:
    """How a search ended: its trials, the file of the best model (None if all failed), and the wall time of this run."""

    results: Results
    model_path: Path | None
    seconds: float


def run(
    table: Table,
    output: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    console: Console | None = None,
    source: dict[str, Any] | None = None,
) -> SearchResult:
    """Search `table` for the best multilayer perceptron and write everything into the folder `output`.

    Written there: `search.json` (settings), `trials/` (KerasTuner's project), `results.json`, `leaderboard.csv`,
    `report.html` and `best_model.keras`.

    Args:
        table: the data.
        output: folder to write to; made if it is missing.
        settings: what to search how.
        resume: go on with the search that `output` holds. Finished trials stay, the one that was running starts again.
        console: where to show progress; None shows nothing.
        source: where the data came from, kept in `search.json` so that the command line finds it again.

    Raises:
        BadInput: `output` holds a search and `resume` is False, or holds another one than `settings` and `table` say.

    Example:
        >>> import tempfile
        >>> from keras_ext.search import load_digits
        >>> small = Settings(trials=1, epochs=1)
        >>> result = run(load_digits(), tempfile.mkdtemp() + "/digits", small)
        >>> result.model_path.name, len(result.results)
        ('best_model.keras', 1)
    """
    settings = settings or Settings()
    output = Path(output)
    _claim(output, settings, table, resume, source or {})
    if redirect is not None:
        redirect.into(output / LOG)
    began = time.monotonic()
    split = table.split(settings.validation, settings.seed)
    scale = _TargetScale.of(split, table.task)
    space = MLP(
        split.x.shape[1:],
        classes=None if table.classes is None else len(table.classes),
        mean=split.x.mean(axis=0),
        variance=split.x.var(axis=0),
        samples=len(split.x),
    )
    total = hyperband_trials(settings.epochs) if settings.tuner == "hyperband" else settings.trials
    console = console or Console(quiet=True)
    with View(console, space.objective.name, total) as view, _ctrl_c_between_batches(view):
        tuner = make_tuner(
            settings.tuner,
            space,
            monitor=SaturationMonitor(split.x, scale.forward(split.y), on_critical="stop"),
            objective=space.objective,
            trials=settings.trials,
            epochs=settings.epochs,
            seed=settings.seed,
            folder=output / "trials",
            view=view,
        )
        tuner.search(
            split.x,
            scale.forward(split.y),
            validation_data=(split.x_validation, scale.forward(split.y_validation)),
            epochs=settings.epochs,
            verbose=0,
        )
    found = results(tuner)
    path = _save_best(tuner, found.records, output, scale)
    seconds = time.monotonic() - began
    summary = {
        "data": table.name,
        "task": table.task,
        "classes": table.classes,
        "score": space.objective.name,
        "settings": asdict(settings),
        "backend": _backend.framework_version(),
        "keras": keras.__version__,
        "device": _backend.device_name(),
        "seconds": round(seconds, 1),
        "best_model": path.name if path else None,
    }
    write_json(output / "results.json", {**summary, "trials": [asdict(r) for r in found]})
    found.to_csv(output / "leaderboard.csv")
    write_page(output / REPORT, found, f"Search on {table.name}")
    return SearchResult(found, path, seconds)


@contextlib.contextmanager
def _ctrl_c_between_batches(view: View) -> Iterator[None]:
    """Let Ctrl-C end the search between two batches: inside XLA's compiler an exception can end the whole process (seen with JAX)."""
    if redirect is None:
        yield  # as a library, signals are the caller's
        return
    kept = signal.signal(signal.SIGINT, view.interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def stored_settings(output: str | Path) -> dict[str, Any]:
    """Return what `search.json` in `output` says.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    path = Path(output) / SETTINGS
    if not path.is_file():
        raise BadInput(f"{output}: holds no search to resume. Leave --resume out to start one there.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        raise BadInput(f"{path}: cannot be read. Start again in another folder.") from None


def _claim(output: Path, settings: Settings, table: Table, resume: bool, source: dict[str, Any]) -> None:
    """Make the folder this search's own, or check that it is; nothing that is there is touched."""
    wanted = {**asdict(settings), "data": table.name, "fingerprint": table.fingerprint}
    stored = stored_settings(output) if resume else {}
    if resume:
        for name, value in wanted.items():
            if name == "fingerprint" and stored.get(name) != value:
                raise BadInput(
                    f"{output}: holds a search on other data, or with another target. Give what it began with, or another --output."
                )
            if name != "trials" and stored.get(name) != value:
                raise BadInput(
                    f"{output}: holds a search with {name} {stored.get(name)}, got {value}. Give what it began with, or another --output."
                )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not output.is_dir():
            raise BadInput(f"{output}: is a file, not a folder. Give another --output.")
        if (output / SETTINGS).is_file():
            raise BadInput(f"{output}: holds a search. Add --resume to go on with it, or give another --output.")
        raise BadInput(f"{output}: holds other files. Give another --output.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / SETTINGS, {**stored, **source, **wanted})
    except OSError as error:
        raise BadInput(f"{output}: cannot be written ({error.strerror}). Give another --output.") from None


@dataclass(frozen=True)
class _TargetScale:
    """How a target to predict is brought to mean 0 and variance 1 for training, and the model's output back."""

    mean: float
    stddev: float

    @classmethod
    def of(cls, split: Split, task: str) -> "_TargetScale":
        if task == "classification":
            return cls(0.0, 1.0)
        return cls(float(split.y.mean()), float(split.y.std()) or 1.0)

    @property
    def is_plain(self) -> bool:
        return (self.mean, self.stddev) == (0.0, 1.0)

    def forward(self, y: np.ndarray) -> np.ndarray:
        return y if self.is_plain else ((y.astype("float64") - self.mean) / self.stddev).astype("float32")

    def undo(self, model: Any) -> Any:
        """Return `model` with its output in the target's own unit."""
        if self.is_plain:
            return model
        y = keras.layers.Rescaling(self.stddev, self.mean, name=UNIT)(model.output)
        whole_model = keras.Model(model.input, y, name=model.name)
        whole_model.compile(model.optimizer, "mean_squared_error", metrics=["r2_score"])
        return whole_model


def _save_best(tuner: Any, records: tuple[Record, ...], output: Path, scale: _TargetScale) -> Path | None:
    if not records or records[0].score is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of optimizer state that the best model does not need
        model = scale.undo(tuner.load_model(tuner.oracle.get_trial(records[0].trial)))
    partial = output / f".partial.{BEST_MODEL}"
    model.save(partial)
    partial.replace(output / BEST_MODEL)
    return output / BEST_MODEL
