"""What a search takes whose trials have one structure and share their compiled steps, against KerasTuner alone."""

import time
from typing import Any

import keras
import keras_tuner

from benchmarks import searching
from benchmarks.comparison import interleave
from benchmarks.figure import Spread, ratios
from benchmarks.store import Table
from keras_ext import layers
from keras_ext.callbacks import SaturationMonitor
from keras_ext.initializers import HeNormal
from keras_ext.search import watch

ALONE, SHARED = "KerasTuner alone", "watched, shared programs"


def build(hp: Any) -> keras.Model:
    """Return a network of one structure, whose rate, dropout and first scale are free."""
    rate, scale = hp.Float("rate", 1e-4, 1e-1, sampling="log"), hp.Float("scale", 0.3, 3.0, sampling="log")
    dropout = hp.Float("dropout", 0.05, 0.5)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Rescaling(1 / 16)])
    for _ in range(4):
        model.add(keras.layers.Dense(64, kernel_initializer=HeNormal(gain=scale)))
        model.add(layers.BatchNormalization())
        model.add(keras.layers.Activation("relu"))
        model.add(layers.Dropout(dropout))
    model.add(keras.layers.Dense(10, "softmax"))
    model.compile(searching.optimizer("adam", rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def measure(rounds: int, trials: int, epochs: int) -> dict[str, Any]:
    """Run the search each way in turn, and return the seconds and the last best scores."""
    split, _, held_out = searching.digits()
    best: dict[str, float] = {}

    def searched(way: str) -> float:
        objective = keras_tuner.Objective("val_accuracy", "max")
        with searching.quiet_tuner(keras_tuner.RandomSearch, build, objective=objective, max_trials=trials, seed=1) as tuner:
            if way != ALONE:
                watch(tuner, SaturationMonitor(split.x, split.y, on_critical=None), seed=0, share_programs=True)
            began = time.perf_counter()
            tuner.search(split.x, split.y, validation_data=held_out, epochs=epochs, verbose=0)
            took = time.perf_counter() - began
            best[way] = max(float(trial.score) for trial in tuner.oracle.trials.values())
        return took

    samples = {way: lambda way=way: searched(way) for way in (SHARED, ALONE)}
    return {"trials": trials, "epochs": epochs, "seconds": interleave(samples, rounds, rounds, 0.0), "best": best}


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each way to search."""
    seconds = kept["seconds"]
    return {
        way: {
            "seconds": Spread.of(took),
            "rounds": len(took),
            "over KerasTuner alone": ratios(took, seconds[ALONE]),
            "best accuracy": kept["best"][way],
        }
        for way, took in seconds.items()
    }
