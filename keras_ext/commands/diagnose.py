"""`keras-ext diagnose`."""

import math
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import keras
from rich.console import Console

from keras_ext import _backend
from keras_ext._checks import BadInput
from keras_ext.callbacks import diagnose as snapshot_at
from keras_ext.commands import model_file
from keras_ext.optimizers.exchange import clone
from keras_ext.repair.repair import repair
from keras_ext.repair.repaired import Repair
from keras_ext.tables import PredictionInterval


def diagnose(
    model_path: str,
    data_path: str | None,
    target: str | None,
    layers: str | None,
    probe_size: int,
    repaired_path: str | None,
    report: str | None,
    json_path: str | None,
) -> None:
    """Run the command with its options, as `keras_ext_cli.diagnose` declares them."""
    _backend.prepare_devices()
    model = model_file.load(model_path)
    source = model_file.source_beside(model_path, data_path, target, model_file.task_of(model))
    if repaired_path is not None and not repaired_path.endswith(".keras"):
        raise BadInput(f"--repair must be a file that ends with .keras, got {repaired_path}. Write --repair better.keras.")
    table = source.table(model_file.features_of(model), model_file.image_shape(model))
    x, y = model_file.samples(table, model)
    whole = model
    model, y = model_file.as_trained(model, y)
    console = Console()
    console.print(f"{model_path} on {table.name}, keras {keras.__version__} on {_backend.framework_version()}", soft_wrap=True)
    try:
        found = snapshot_at(model, x, y, layers=layers and [name.strip() for name in layers.split(",")], probe_size=probe_size)
    except ValueError as error:
        raise BadInput(str(error).replace("`probe_size`", "--probe-size").replace("`layers`", "--layers")) from None
    console.print(found.table())
    scale = model_file.scale_of(whole)
    if scale is not None:
        error = math.sqrt(found.snapshot.loss) * scale
        console.print(f"root mean square error {error:.6g} in the target's own unit; the loss is of targets divided by {scale:.6g}")
    done = None
    if repaired_path is not None:
        done = _repaired(model, x, y)
        console.print(str(done), soft_wrap=True, markup=False)
    more = {} if done is None else {"repair": {"changes": list(map(asdict, done.changes)), "losses": done.losses}}
    files = [(report, found.report), (json_path, partial(found.to_json, **more))]
    for path, write in [*files, *([(repaired_path, _with_end_of(whole, model, done.model).save)] if done is not None else [])]:
        if path is None:
            continue
        try:
            write(path)
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror}). Give another path.") from None
        console.print(f"written: {path}", soft_wrap=True)
    if done is None and any(f.severity == "critical" for f in found.findings):
        sys.exit(1)


def _repaired(model: keras.Model, x: Any, y: Any) -> Repair:
    if not model.compiled:
        raise BadInput("--repair needs a model that was compiled before it was saved. Call model.compile(...), and save it again.")
    try:
        return repair(model, x, y)
    except ValueError as error:
        raise BadInput(str(error)) from None


def _with_end_of(whole: keras.Model, trained: keras.Model, new: keras.Model) -> keras.Model:
    """Return `new` with the last layers of `whole`, which `trained` lacks: they know the classes, or bring the unit back.

    Intervals are left out: they are of the predictions of another model.
    """
    if trained is whole:
        return new
    output = new.output
    for layer in whole.layers[len(trained.layers) :]:
        if not isinstance(layer, PredictionInterval):
            output = type(layer).from_config(layer.get_config())(output)
    ended = keras.Model(new.inputs, output, name=whole.name)
    ended.compile(clone(new.optimizer), new.loss)
    return ended
