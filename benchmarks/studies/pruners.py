"""Optuna's pruners on the same trials as another search: needs `pip install optuna optuna-integration`."""

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

OPTUNA_MEDIAN, OPTUNA_HYPERBAND = "optuna median", "optuna hyperband"
PRUNERS = (OPTUNA_MEDIAN, OPTUNA_HYPERBAND)
# What one trial tells: best score, seconds, those of all cores, epochs, and why it ended.
Told = tuple[float, float, float, int, str]


class _Suggested:
    """KerasTuner's `hp` for a `build(hp)`, over an Optuna trial."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def Choice(self, name: str, values: list[Any]) -> Any:
        return self._trial.suggest_categorical(name, values)

    def Int(self, name: str, low: int, high: int) -> int:
        return self._trial.suggest_int(name, low, high)

    def Float(self, name: str, low: float, high: float, sampling: str) -> float:
        return self._trial.suggest_float(name, low, high, log=sampling == "log")


def pruned(
    way: str,
    build: Callable[[Any], keras.Model],
    data: Any,
    wanted: dict[str, dict[str, Any]],
    seed_of: Callable[[str], int],
    epochs: int,
    folder: Path,
) -> dict[str, Told]:
    """Return the trials with the hyperparameters `wanted`, by their names, pruned; those that the folder holds are not trained again."""
    # By name: neither is among the package's dependencies.
    optuna, integration, journal = map(importlib.import_module, ("optuna", "optuna_integration", "optuna.storages.journal"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.json"
    told: dict[str, Told] = json.loads(log.read_text()) if log.exists() else {}
    pruner = optuna.pruners.MedianPruner() if way == OPTUNA_MEDIAN else optuna.pruners.HyperbandPruner(max_resource=epochs)
    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(direction="maximize", pruner=pruner, storage=storage, study_name="trials", load_if_exists=True)
    for name, values in wanted.items():
        if name in told:
            continue

        def train(trial: Any, name: str = name) -> float:
            keras.utils.clear_session()
            keras.utils.set_random_seed(seed_of(name))
            scores: list[float] = []
            noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: scores.append(logs["val_accuracy"]))
            begin, begin_cpu, ended = time.perf_counter(), time.process_time(), ""
            try:
                build(_Suggested(trial)).fit(
                    data.x, data.y, batch_size=32, epochs=epochs, validation_data=(data.x_validation, data.y_validation), verbose=0,
                    callbacks=[noted, integration.KerasPruningCallback(trial, "val_accuracy")],
                )  # fmt: skip
            except optuna.TrialPruned:
                ended = "pruned"
                raise
            finally:
                told[name] = (max(scores), time.perf_counter() - begin, time.process_time() - begin_cpu, len(scores), ended)
            return max(scores)

        study.enqueue_trial(values)
        study.optimize(train, n_trials=1)
        log.write_text(json.dumps(told))
    return {name: told[name] for name in wanted}
