"""A saved model, and the samples of a file as it takes them. Whatever does not fit ends in one line that names the fix."""

import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ext._checks import BadInput
from keras_ext._wording import one_line
from keras_ext.automl.preparation import UNIT
from keras_ext.automl.search_file import SEARCH_FILE, stored_settings
from keras_ext.callbacks.monitor.probe.targets import BINARY, CHOICES, aims
from keras_ext.commands.source import Source
from keras_ext.tables import ClassNames, PredictionInterval, TableFeatures
from keras_ext.tables.data import Table
from keras_ext.tables.data.files import listed


def load(path: str | Path) -> keras.Model:
    """Return the model of a .keras file with its loss, if it was saved with one.

    Raises:
        BadInput: it is no model with one array of inputs and one of outputs that loads without further code.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of optimizer state, which is not needed
            model = keras.models.load_model(path)
    except Exception as error:
        if _is_damaged(path):
            raise BadInput(
                f"{path}: cannot be loaded (it is cut off or overwritten). Save the model again, or take a copy of the file."
            ) from None
        raise BadInput(
            f"{path}: cannot be loaded ({one_line(error)}). For a model with classes or functions of your own, call "
            "keras_ext.callbacks.monitor.diagnose(model, x, y) where they are defined."
        ) from None
    inputs, outputs = keras.tree.flatten(getattr(model, "inputs", None)), keras.tree.flatten(getattr(model, "outputs", None))
    if len(inputs) != 1 or len(outputs) != 1 or None in (*inputs, *outputs):
        raise BadInput(
            f"{path}: needs one array of inputs and one of outputs, known without data. For another model call "
            "keras_ext.callbacks.monitor.diagnose(model, x, y)."
        )
    return model


def _is_damaged(path: Path) -> bool:
    """Return whether a `.keras` file lacks what a whole one has: its end, or the checksums of its parts."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is not None
    except (zipfile.BadZipFile, EOFError, OSError, zlib.error):
        return True


def features_of(model: keras.Model) -> TableFeatures | None:
    """Return the layer that knows the columns a model was trained on; None where it has none."""
    return next((layer for layer in model.layers if isinstance(layer, TableFeatures)), None)


def names_of(model: keras.Model) -> tuple[str, ...] | None:
    """Return the names of a classifier's classes, if its file has them."""
    return next((layer.names for layer in model.layers if isinstance(layer, ClassNames)), None)


def image_shape(model: keras.Model) -> tuple[int, int, int] | None:
    """Return height, width and channels of the images that a model takes; None if its inputs are none."""
    shape = tuple(model.inputs[0].shape[1:])
    return shape if len(shape) == 3 and None not in shape and shape[2] in (1, 3, 4) else None


def source_beside(path: str | Path, data: str | None, target: str | None, task: str | None) -> Source:
    """Return where the data of a model is: what is given, or else the data of the search whose folder the model lies in.

    Raises:
        BadInput: nothing is given, and the model lies in no folder of a search.
    """
    folder = Path(path).parent
    searched = stored_settings(folder) if (folder / SEARCH_FILE).is_file() else {}
    if data is None and not searched:
        raise BadInput("--data is needed: the file of inputs and targets. It can be left out for a model in the folder of a search.")
    stored = {name: searched.get(name) for name in ("data_path", "target")}
    return Source.of(stored, data_path=data, target=target, task=task)


def task_of(model: keras.Model) -> str:
    """Return how the targets for `model` are to be read: `"classification"`, `"regression"`, or `"auto"` where its loss does not tell."""
    loss = loss_of(model)
    return "classification" if loss in CHOICES else "auto" if loss == "" or loss in BINARY else "regression"


def samples(table: Table, model: keras.Model) -> tuple[np.ndarray, np.ndarray | None]:
    """Return inputs and targets of `table` as `model` takes them; the targets are None for a model without a loss.

    Raises:
        BadInput: the shapes or the classes of data and model do not fit.
    """
    x = inputs(table, model)
    loss = loss_of(model)
    if not model.compiled or loss == "":
        return x, None
    units = model.outputs[0].shape[-1] if len(model.outputs[0].shape) > 1 else 1
    if table.classes is not None:
        y = _class_numbers(table, units, names_of(model))
        if loss.startswith("sparse_"):
            return x, y
        return x, y.astype("float32")[:, None] if units == 1 else np.eye(units, dtype="float32")[y]
    if units != 1:
        raise BadInput(f"{table.name}: has one number to predict a sample, the model predicts {units}. Name another --target.")
    return x, table.y.astype("float32")[:, None]


def inputs(table: Table, model: keras.Model) -> np.ndarray:
    """Return the inputs of `table` as `model` takes them.

    Raises:
        BadInput: they do not fit.
    """
    features = features_of(model)
    if isinstance(table.x, np.ndarray):
        if features is not None:
            raise BadInput(f"{table.name}: is no CSV file, of which the model needs the columns {listed(features.sources)}. Give one.")
        return shaped(table.x, model, table.name)
    if features is not None:
        return features.encode(table.x)
    text = next((name for name, column in table.x.items() if column.dtype.kind in "UM"), None)
    if text is not None:
        kind = "text" if table.x[text].dtype.kind == "U" else "dates"
        raise BadInput(f'{table.name}: column "{text}" holds {kind}, for which the model has no TableFeatures. Put numbers in its place.')
    gaps = next((name for name, column in table.x.items() if np.isnan(column).any()), None)
    if gaps is not None:
        raise BadInput(f'{table.name}: column "{gaps}" has gaps, for which the model has no TableFeatures. Fill them.')
    return shaped(np.stack(list(table.x.values()), axis=1).astype("float32"), model, table.name)


def shaped(x: np.ndarray, model: keras.Model, name: str) -> np.ndarray:
    """Return samples in the shape that `model` takes: their own, or their numbers in a row or out of one.

    Raises:
        BadInput: the shapes do not fit.
    """
    shape, wanted = x.shape[1:], tuple(model.inputs[0].shape[1:])
    if len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True)):
        return x
    if min(len(shape), len(wanted)) <= 1 and None not in wanted and math.prod(shape) == math.prod(wanted):
        return x.reshape(len(x), *wanted)
    raise BadInput(f"{name}: a sample has shape {shape}, the model takes {wanted}. Give data as the model was trained on.")


def as_trained(model: keras.Model, y: np.ndarray | None) -> tuple[keras.Model, np.ndarray | None]:
    """Return model and targets as a search trained them: without the last layer, which knows the classes or brings the unit back.

    In the targets' own unit the gradients and the targets themselves seem too large, and the training knew neither.
    """
    last = _last(model)
    has_unit = scale_of(model) is not None
    if y is None or not (has_unit or isinstance(last, ClassNames)):
        return model, y
    trained = keras.Model(model.inputs, last.input, name=model.name)
    trained.compile(model.optimizer, model.loss)
    return trained, (y - last.offset) / last.scale if has_unit else y


def scale_of(model: keras.Model) -> float | None:
    """Return the number by which a search divided the targets; None for a model that predicts what it was trained on."""
    last = _last(model)
    return float(last.scale) if isinstance(last, keras.layers.Rescaling) and last.name == UNIT else None


def _last(model: keras.Model) -> Any:
    return model.layers[-2] if isinstance(model.layers[-1], PredictionInterval) else model.layers[-1]


def loss_of(model: keras.Model) -> str:
    """Return the loss's name, `""` where the model has none."""
    aim = aims(model, np.zeros(1))
    return aim[0].loss if len(aim) == 1 and aim[0] else ""


def _class_numbers(table: Table, units: int, trained: tuple[str, ...] | None) -> np.ndarray:
    """Return the classes as the model's numbers: by the names that it knows, whole numbers as they are, or else names in their order."""
    assert table.classes is not None
    names = [_name(c) for c in table.classes]
    most = 2 if units == 1 else units
    if trained is not None:
        places = {_name(c): i for i, c in enumerate(trained)}
        unknown = next((c for c in names if c not in places), None)
        if unknown is not None:
            raise BadInput(f"{table.name}: class {unknown} is none of those that the model was trained on: {', '.join(places)}.")
        numbers = [places[c] for c in names]
    elif all(c.isdecimal() and int(c) < most for c in names):
        numbers = [int(c) for c in names]
    elif most == len(names):
        numbers = list(range(len(names)))
    else:
        raise BadInput(f"{table.name}: has {len(names)} classes, the model {most}. Give their numbers from 0, or a file with all of them.")
    return np.asarray(numbers, "int32")[table.y]


def _name(label: str) -> str:
    """Return a class's name, the same for 1 and 1.0: CSV files know no whole numbers."""
    return label.removesuffix(".0") if label.removesuffix(".0").lstrip("-").isdecimal() else label
