"""A table of every configuration of a small space, each trained once: searches are replayed on it in seconds."""

import itertools
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks import searching
from benchmarks.store import Table
from benchmarks.studies.unpromising_trials import data_of
from keras_ext import _backend, initializers
from keras_ext.callbacks import Finding, SaturationMonitor

EPOCHS = 10
# A network whose best validation accuracy stays below has learned next to nothing.
POOR = 0.3
# Variance of the weights times the fan-in, by the square root of 10: the published ones are 1 for tanh and sigmoid and 2 for ReLU.
SCALES = {"small": 0.1, "fitting": 1.0, "large": 10.0}
SPACE: dict[str, tuple[Any, ...]] = {
    "activation": ("relu", "tanh", "sigmoid"), "initializer": tuple(SCALES), "layers": (1, 3, 6, 12), "normalization": ("none", "batch"),
}  # fmt: skip
RATES = {"adam": (1e-4, 1e-3, 1e-2, 1e-1), "sgd": (1e-3, 1e-2, 1e-1, 1.0)}


# One configuration, trained once: validation accuracy after each epoch as "scores", and "seconds" with a monitor that stops nothing.
# "stops" are the epochs after which one with `on_critical="stop"` ends it, or None, and "symptoms" those of its critical findings.
Entry = dict[str, Any]


def declare(hp: Any) -> keras.Model:
    """Declare the space to KerasTuner, and return an empty network."""
    for name, values in SPACE.items():
        hp.Choice(name, list(values), default="fitting" if name == "initializer" else values[0])
    hp.Choice("optimizer", list(RATES))
    for name, rates in RATES.items():
        with hp.conditional_scope("optimizer", [name]):
            hp.Choice(f"learning_rate_{name}", list(rates), default=rates[1])
    return keras.Sequential()


def configurations() -> Iterator[dict[str, Any]]:
    """Yield every one of the space's."""
    for *values, (optimizer, rates) in itertools.product(*SPACE.values(), RATES.items()):
        for rate in rates:
            yield {**dict(zip(SPACE, values, strict=True)), "optimizer": optimizer, f"learning_rate_{optimizer}": rate}


def key(values: dict[str, Any]) -> str:
    """Return the name of a configuration, which may hold further values."""
    return " ".join(str(values[name]) for name in (*SPACE, "optimizer", f"learning_rate_{values['optimizer']}"))


def build(values: dict[str, Any]) -> keras.Model:
    """Return the network of a configuration."""
    scale = SCALES[values["initializer"]] * (2.0 if values["activation"] == "relu" else 1.0)
    initializer = partial(initializers.VarianceScaling, scale, "fan_in", "truncated_normal")
    optimizer = searching.optimizer(values["optimizer"], values[f"learning_rate_{values['optimizer']}"])
    return searching.network(64, 10, 48, values, initializer, optimizer)


def trained(values: dict[str, Any]) -> Entry:
    """Train one configuration to its end, and note where the monitor would have stopped it."""
    data = data_of("digits", 0)
    keras.utils.clear_session()
    _backend.forget_programs()
    keras.utils.set_random_seed(0)
    model, found = build(values), list[Finding]()
    monitor = SaturationMonitor(data.x, data.y, on_critical=None, on_finding=found.append)
    fit = {"batch_size": 64, "epochs": EPOCHS, "validation_data": (data.x_validation, data.y_validation), "verbose": 0}
    began = time.perf_counter()
    scores = model.fit(data.x, data.y, callbacks=[monitor], **fit).history["val_accuracy"]
    seconds = time.perf_counter() - began
    # Of a finding within the first epoch the epoch is 0.
    critical = [(max(1, f.epoch), f.symptom) for f in found if f.severity == "critical"]
    stops = critical[0][0] if critical else None
    symptoms = list(dict.fromkeys(symptom for epoch, symptom in critical if epoch == stops))
    scores = [round(float(np.nan_to_num(score)), 4) for score in scores]
    return {"scores": scores, "seconds": round(seconds, 3), "stops": stops, "symptoms": symptoms}


def measure(most: int | None = None) -> dict[str, Any]:
    """Train every configuration once, or the first `most`."""
    return {"epochs": EPOCHS, "entries": {key(values): trained(values) for values in itertools.islice(configurations(), most)}}


def table(kept: dict[str, Any]) -> Table:
    """Return one row."""
    found = kept["entries"].values()
    row = {"networks": len(found), "minutes": sum(e["seconds"] for e in found) / 60}
    row[f"share below {POOR:.0%} accuracy"] = sum(max(e["scores"]) < POOR for e in found) / len(found)
    return {"all": {**row, "share that the monitor stops": sum(e["stops"] is not None for e in found) / len(found)}}
