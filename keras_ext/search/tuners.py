"""KerasTuner's tuners, watched: each trial is seeded, monitored, shown and recorded."""

import contextlib
import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from keras_ext.callbacks import Finding, SaturationMonitor
from keras_ext.search.atomic import mend, whole_files, write_json
from keras_ext.search.grid import GridSearch
from keras_ext.search.records import active, collect
from keras_ext.search.view import View

TUNERS = {
    "random": keras_tuner.RandomSearch,
    "bayesian": keras_tuner.BayesianOptimization,
    "hyperband": keras_tuner.Hyperband,
    "grid": GridSearch,
}


class _Watched:
    """What is done around each trial; mixed in front of a KerasTuner tuner."""

    view: View | None = None
    search_seed: int = 0
    get_trial_dir: Callable[[str], str]
    oracle: Any

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Search, with every state file written whole."""
        with whole_files():
            super().search(*args, **kwargs)  # type: ignore[misc]

    def run_trial(self, trial: Any, x: Any, y: Any, **kwargs: Any) -> Any:
        """Train one trial and write `diagnosis.json` into its folder."""
        number = int(trial.trial_id)
        # The weights of trial k hang on (seed, k) alone, whatever ran before it in this process.
        keras.utils.set_random_seed((self.search_seed * 1_000_003 + number) % 2**31)
        findings: list[Finding] = []
        ended: list[int] = [0]
        values = trial.hyperparameters.values
        first, last = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", kwargs.get("epochs", 1))
        objective, view = self.oracle.objective.name, self.view

        # Functions, not methods: KerasTuner copies the callbacks deeply, and a function stays itself.
        def found(finding: Finding) -> None:
            findings.append(finding)
            if view:
                view.finds(finding)

        def epoch_ended(epoch: int, logs: dict[str, Any] | None) -> None:
            ended[0] = epoch + 1 - first
            if view:
                view.epoch_ends(ended[0], (logs or {}).get(objective))

        if view:
            view.trial_begins(number + 1, active(trial.hyperparameters), last - first)
        monitor = SaturationMonitor(x, y, on_critical="stop", on_finding=found)

        def batch_begins(batch: int, logs: dict[str, Any] | None) -> None:
            if view:
                view.check()

        shown = keras.callbacks.LambdaCallback(on_epoch_end=epoch_ended, on_train_batch_begin=batch_begins)
        callbacks = [monitor, shown, *kwargs.pop("callbacks", [])]
        began = time.monotonic()
        try:
            return super().run_trial(trial, x, y, callbacks=callbacks, **kwargs)  # type: ignore[misc]
        finally:
            told = {
                "findings": [_as_json(f) for f in findings],
                "epochs": ended[0],
                "planned_epochs": last - first,
                "seconds": round(time.monotonic() - began, 3),
            }
            write_json(Path(self.get_trial_dir(trial.trial_id)) / "diagnosis.json", told)

    def on_trial_end(self, trial: Any) -> None:
        """Let KerasTuner record the trial, then show it."""
        super().on_trial_end(trial)  # type: ignore[misc]
        if self.view:
            records = collect(self)
            mine = next((r for r in records if r.trial == trial.trial_id), None)
            best = records[0] if records and records[0].score is not None else None
            if mine:
                self.view.trial_ends(mine, best)


def make_tuner(
    kind: str, space: keras_tuner.HyperModel, *, objective: Any, trials: int, epochs: int, seed: int, folder: Path, view: View | None
) -> Any:
    """Return a watched tuner of this kind whose project lies in `folder`; one that is there already is continued.

    KerasTuner takes a seed of 0 for none, so the tuner's is one higher.
    """
    mend(folder)
    arguments: dict[str, Any] = {"max_epochs": epochs} if kind == "hyperband" else {"max_trials": trials}
    watched: Any = type(f"Watched{TUNERS[kind].__name__}", (_Watched, TUNERS[kind]), {"view": view, "search_seed": seed})
    with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints that it reloads
        return watched(
            space,
            objective=objective,
            seed=seed + 1,
            directory=str(folder.parent),
            project_name=folder.name,
            # KerasTuner's limit of three counts trials that this package records and passes over.
            max_consecutive_failed_trials=10**9,
            **arguments,
        )


def hyperband_trials(max_epochs: int, factor: int = 3) -> int:
    """Return how many trials one iteration of KerasTuner's Hyperband runs (Li et al. 2018, algorithm 1, with KerasTuner's rounding).

    >>> hyperband_trials(20)
    30
    """
    brackets, epochs = 0, float(max_epochs)
    while epochs >= 1:
        epochs, brackets = epochs / factor, brackets + 1
    last = math.ceil(1 + math.log(max_epochs, factor))
    return sum(math.ceil(last / (b + 1) * factor ** (b - r)) for b in range(brackets) for r in range(b + 1))


def _as_json(finding: Finding) -> dict[str, Any]:
    # JSON has no NaN and no infinity.
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(finding).items()}
