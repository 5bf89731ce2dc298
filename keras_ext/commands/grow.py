"""`keras-ext grow`."""

from datetime import datetime
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from rich.console import Console

from keras_ext import _backend
from keras_ext._atomic import save_model
from keras_ext._checks import BadInput, integer
from keras_ext.automl.preparation import Preparation
from keras_ext.callbacks import SaturationMonitor
from keras_ext.commands.named import named_as_options
from keras_ext.commands.source import Source
from keras_ext.search.choices import ACTIVATIONS
from keras_ext.search.grow import check_growth
from keras_ext.search.grow import grow as grown_by
from keras_ext.search.grown import Stage
from keras_ext.search.writable import check_writable, reported_where_not_writable

# scikit-learn, which splits the samples, holds 32 bits.
_LAST_SEED = 2**32 - 1


def grow(
    units: int | None, activation: str, learning_rate: float, epochs: int, max_layers: int, seed: int, test: float, output: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Run the command with its options, as `keras_ext_cli.grow` declares them."""
    if activation not in ACTIVATIONS:
        raise BadInput(f"--activation must be one of {', '.join(ACTIVATIONS)}, got {activation}.")
    if learning_rate <= 0:
        raise BadInput(f"--learning-rate must be above 0, got {learning_rate:g}.")
    if not 0 <= test < 0.5:
        raise BadInput(f"--test must be a share in [0, 0.5), got {test:g}.")
    growth = {name: options.pop(name) for name in ("earlier", "new", "patience")}
    named = (*growth, "max_layers", "epochs", "seed", "units")
    # Before anything is read or said.
    with named_as_options(named):
        check_growth(max_layers=max_layers, epochs=epochs, seed=integer("seed", seed, 0, _LAST_SEED), **growth)
        if units is not None:
            integer("units", units)
    source = Source.of({}, **options)
    table = source.table()
    path = Path(output or f"results/{Path(table.name).stem}-grown-{datetime.now():%Y%m%d-%H%M%S}.keras")
    if path.suffix != ".keras":
        raise BadInput(f"--output must name a .keras file, got {output}.")
    check_writable(path.parent)
    console = Console()
    _backend.prepare_devices()
    split = table.split(0.2, seed, test)
    prepared = Preparation.of(split.x, split.y, table.classes, day_first=table.day_first)
    x, y = prepared.inputs(split.x), prepared.targets(split.y)
    held_out = (prepared.inputs(split.x_validation), prepared.targets(split.y_validation))
    space = prepared.space(len(y), (32,), max_layers=max_layers)

    def build(layers: int) -> keras.Model:
        hp = keras_tuner.HyperParameters()
        hp.values = {"layers": layers, "activation": activation, "optimizer": "adam", "learning_rate_adam": learning_rate}
        hp.values["normalization_deep"] = "none"  # a network that grows keeps the layers that it has
        if units is not None:
            hp.values["units"] = units
        return space.build(hp)

    console.print(f"{table.name}: {len(table)} samples, {table.inputs}", style="bold", soft_wrap=True, highlight=False)
    for note in table.notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)
    console.print(f"keras {keras.__version__} on {_backend.framework_version()}, {_backend.device_name()}", soft_wrap=True)

    def reported(stage: Stage) -> None:
        score = "not finite" if stage.score is None else f"{stage.score:.4f}"
        better = ", the best so far" if stage.is_best else ""
        console.print(
            f"{_hidden(stage.layers)}: {space.objective.name} {score} in {stage.epochs} epochs, {stage.seconds:.1f} s{better}",
            highlight=False,
        )

    with named_as_options(named):
        found = grown_by(
            build, x, y, validation_data=held_out, objective=space.objective.name, direction="max", max_layers=max_layers, epochs=epochs,
            monitor=SaturationMonitor(x, y, on_critical="stop"), on_stage=reported, seed=seed, batch_size=32, verbose=0, **growth,
        )  # fmt: skip
    console.print(found.table())
    model = prepared.finished(found.model)
    with reported_where_not_writable(path, "Make room, and run it again."):
        save_model(model, path)
    best = found.best
    console.print(f"best: {_hidden(best.layers)}, {space.objective.name} {best.score:.4f}, saved as {path}", soft_wrap=True)
    if split.y_test is not None:
        score = float(np.asarray(model.evaluate(prepared.inputs(split.x_test), split.y_test, verbose=0)[1]))
        name = "accuracy" if table.classes else "r2_score"
        console.print(f"{name} {score:.4f} on the {len(split.y_test)} samples of the test, which no network saw", highlight=False)


def _hidden(layers: int) -> str:
    return f"{layers} hidden layer{'s' if layers > 1 else ''}"
