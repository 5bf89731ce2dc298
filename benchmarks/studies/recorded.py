"""A table of every configuration of a small space, each trained once: searches are replayed on it in seconds.

python -m benchmarks.studies.recorded --json benchmarks/results/recorded-digits.json
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks.measuring import machine
from benchmarks.studies.hopeless_trials import data_of
from keras_ext import _backend, initializers, layers, optimizers
from keras_ext.callbacks import Finding, SaturationMonitor

EPOCHS, BATCH = 10, 64
ACTIVATIONS = ("relu", "tanh", "sigmoid")
# A network whose best validation accuracy stays below has learned next to nothing.
POOR = 0.3
# Variance of the weights times the fan-in, by the square root of 10: the published ones are 1 for tanh and sigmoid and 2 for ReLU.
INITIALIZERS = {"small": 0.1, "fitting": 1.0, "large": 10.0}
DEPTHS = (1, 3, 6, 12)
NORMALIZATIONS = ("none", "batch")
RATES = {"adam": (1e-4, 1e-3, 1e-2, 1e-1), "sgd": (1e-3, 1e-2, 1e-1, 1.0)}


@dataclass(frozen=True)
class Entry:
    """One configuration, trained once.

    Args:
        scores: validation accuracy after each epoch.
        seconds: of the whole training, with a monitor that stops nothing.
        stops: epochs after which a monitor with `on_critical="stop"` ends it; None: it does not.
        symptoms: of the critical findings up to there.
    """

    scores: tuple[float, ...]
    seconds: float
    stops: int | None
    symptoms: tuple[str, ...]


def declare(hp: Any) -> None:
    """Declare the space to KerasTuner."""
    hp.Choice("activation", list(ACTIVATIONS))
    hp.Choice("initializer", list(INITIALIZERS), default="fitting")
    hp.Choice("layers", list(DEPTHS))
    hp.Choice("normalization", list(NORMALIZATIONS))
    hp.Choice("optimizer", list(RATES))
    for name, rates in RATES.items():
        with hp.conditional_scope("optimizer", [name]):
            hp.Choice(f"learning_rate_{name}", list(rates), default=rates[1])


def configurations() -> Iterator[dict[str, Any]]:
    """Yield every one of the space's."""
    for a, i, d, n, (o, rates) in itertools.product(ACTIVATIONS, INITIALIZERS, DEPTHS, NORMALIZATIONS, RATES.items()):
        for rate in rates:
            yield {"activation": a, "initializer": i, "layers": d, "normalization": n, "optimizer": o, f"learning_rate_{o}": rate}


def key(values: dict[str, Any]) -> str:
    """Return the name of a configuration."""
    return " ".join(str(v) for v in values.values())


def build(values: dict[str, Any], features: int, classes: int) -> keras.Model:
    """Return the network of a configuration."""
    scale = INITIALIZERS[values["initializer"]] * (2.0 if values["activation"] == "relu" else 1.0)
    model = keras.Sequential([keras.Input((features,))])
    for _ in range(values["layers"]):
        model.add(keras.layers.Dense(48, kernel_initializer=initializers.VarianceScaling(scale, "fan_in", "truncated_normal")))
        if values["normalization"] == "batch":
            model.add(layers.BatchNormalization())
        model.add(keras.layers.Activation(values["activation"]))
    model.add(keras.layers.Dense(classes, "softmax"))
    name = values["optimizer"]
    rate = values[f"learning_rate_{name}"]
    optimizer: Any = optimizers.Adam(rate) if name == "adam" else optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(values: dict[str, Any], seed: int) -> Entry:
    """Train one configuration to its end, and see where the monitor would have stopped it."""
    data = data_of("digits", 0)
    keras.utils.set_random_seed(seed)
    model, critical, begun = build(values, data.x.shape[1], 10), [], []

    def found(finding: Finding) -> None:
        if finding.severity == "critical":
            critical.append((len(begun), finding.symptom))

    began = time.perf_counter()
    counts = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))
    history = model.fit(
        data.x, data.y, batch_size=BATCH, epochs=EPOCHS, verbose=0, validation_data=(data.x_validation, data.y_validation),
        callbacks=[counts, SaturationMonitor(data.x, data.y, on_critical=None, on_finding=found)],
    ).history  # fmt: skip
    seconds = time.perf_counter() - began
    stops = max(1, critical[0][0]) if critical else None
    symptoms = tuple(dict.fromkeys(s for epoch, s in critical if max(1, epoch) == stops))
    return Entry(tuple(round(float(np.nan_to_num(s)), 4) for s in history["val_accuracy"]), round(seconds, 3), stops, symptoms)


def load(path: Path) -> dict[str, Entry]:
    """Return a table by the names of its configurations."""
    told = json.loads(path.read_text())["entries"]
    return {name: Entry(tuple(e["scores"]), e["seconds"], e["stops"], tuple(e["symptoms"])) for name, e in told.items()}


def section(kept: dict[str, Any]) -> str:
    """Return what the table holds, in a sentence."""
    entries = kept["entries"].values()
    poor, stopped = sum(max(e["scores"]) < POOR for e in entries), sum(e["stops"] is not None for e in entries)
    minutes = sum(e["seconds"] for e in entries) / 60
    return (
        f"{len(entries)} networks of {kept['epochs']} epochs, {minutes:.0f} minutes: {poor / len(entries):.0%} never come to "
        f"{POOR:.0%} of the validation samples, and the monitor would have stopped {stopped / len(entries):.0%}."
    )


@click.command()
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The table; killed, it goes on.")
@click.option("--seed", default=0, show_default=True, help="Of the first weights.")
@click.option("--most", type=click.IntRange(min=1), help="Train so many of the configurations at most.")
def main(out: Path, seed: int, most: int | None) -> None:
    """Train every configuration once."""
    header = machine.header(f"python -m benchmarks.studies.recorded --json {out.name} --seed {seed}")
    entries = json.loads(out.read_text())["entries"] if out.exists() else {}
    wanted = list(configurations())[:most]
    for i, values in enumerate(wanted):
        if key(values) in entries:
            continue
        entries[key(values)] = asdict(trained(values, seed))
        if i % 20 == 19 or i == len(wanted) - 1:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps({"header": header, "epochs": EPOCHS, "entries": entries}, indent=0) + "\n")
            click.echo(f"{i + 1} of {len(wanted)}", err=True)
            keras.backend.clear_session()
            _backend.forget_programs()


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.recorded")
