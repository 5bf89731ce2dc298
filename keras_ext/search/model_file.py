"""A saved model, and the samples of a file as it takes them. Whatever does not fit ends in one line that names the mend."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ext._checks import BadInput
from keras_ext.callbacks.setting import BINARY, CHOICES, aims
from keras_ext.search.data import Table
from keras_ext.search.run import SETTINGS, UNIT, stored_settings


def load(path: str | Path) -> keras.Model:
    """Return the model of a .keras file with its loss, if it was saved with one.

    Raises:
        BadInput: there is no such file, or it is no model with one array of inputs and one of outputs that loads without further code.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}. Give a model saved as .keras.")
    if path.suffix.lower() != ".keras":
        raise BadInput(f"{path}: is no .keras file. Save the model with model.save('model.keras').")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of optimizer state, which is not needed
            model = keras.models.load_model(path)
    except Exception as error:
        raise BadInput(
            f"{path}: cannot be loaded ({_line(error)}). For a model with classes or functions of your own, call "
            "keras_ext.callbacks.diagnose(model, x, y) where they are defined."
        ) from None
    inputs, outputs = keras.tree.flatten(getattr(model, "inputs", None)), keras.tree.flatten(getattr(model, "outputs", None))
    if len(inputs) != 1 or len(outputs) != 1 or None in (*inputs, *outputs):
        raise BadInput(
            f"{path}: needs one array of inputs and one of outputs, known without data. For another model call "
            "keras_ext.callbacks.diagnose(model, x, y)."
        )
    return model


def source_beside(path: str | Path, data: str | None, target: str | None) -> dict[str, str | None]:
    """Return where the data of a model is: what is given, or else the data of the search whose folder the model lies in.

    Raises:
        BadInput: nothing is given, and the model lies in no folder of a search.
    """
    folder = Path(path).parent
    searched = stored_settings(folder) if (folder / SETTINGS).is_file() else {}
    if data is None and not searched:
        raise BadInput("--data is needed: the file of inputs and targets. It can be left out for a model in the folder of a search.")
    stored = {name: searched.get(name) for name in ("data_path", "target")}
    return {"data_path": stored["data_path"] if data is None else data, "target": stored["target"] if target is None else target}


def task_of(model: keras.Model) -> str:
    """Return how the targets for `model` are to be read: `"classification"`, `"regression"`, or `"auto"` where its loss does not tell."""
    loss = _loss(model)
    return "classification" if loss in CHOICES else "auto" if loss == "" or loss in BINARY else "regression"


def samples(table: Table, source: dict[str, str | None], model: keras.Model, path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return inputs and targets of `table` as `model` takes them; the targets are None for a model without a loss.

    Args:
        table: the data.
        source: where it came from, as `source_beside` told.
        model: what `load` returned.
        path: its file. Classes have the numbers that they had in the search whose folder it lies in.

    Raises:
        BadInput: the shapes or the classes of data and model do not fit.
    """
    x = table.x.reshape(len(table.x), *_sample_shape(table, _shape_in_file(table, source), model))
    loss = _loss(model)
    if not model.compiled or loss == "":
        return x, None
    units = model.outputs[0].shape[-1] if len(model.outputs[0].shape) > 1 else 1
    if table.classes is not None:
        y = _class_numbers(table, units, path)
        if loss.startswith("sparse_"):
            return x, y
        return x, y.astype("float32")[:, None] if units == 1 else np.eye(units, dtype="float32")[y]
    if units != 1:
        raise BadInput(f"{table.name}: has one number to predict a sample, the model predicts {units}. Name another --target.")
    return x, table.y.astype("float32")[:, None]


def in_training_unit(model: keras.Model, y: np.ndarray | None) -> tuple[keras.Model, np.ndarray | None]:
    """Return model and targets as a search trained them: for numbers to predict, without the layer that brings their unit back.

    In the targets' own unit the gradients and the targets themselves look too large, and the training knew neither.
    """
    last = model.layers[-1]
    if y is None or not isinstance(last, keras.layers.Rescaling) or last.name != UNIT:
        return model, y
    trained = keras.Model(model.inputs, last.input, name=model.name)
    trained.compile(model.optimizer, model.loss)
    return trained, (y - last.offset) / last.scale


def _shape_in_file(table: Table, source: dict[str, str | None]) -> tuple[int, ...]:
    """Return the shape of one sample as it lies in the file; a Table has its numbers in a row."""
    path = source["data_path"]
    if path is None or Path(path).suffix.lower() != ".npz":
        return table.x.shape[1:]
    with np.load(path) as stored:
        others = [name for name in stored.files if name != (source["target"] or "y")]
        return stored["x" if "x" in others else others[0]].shape[1:]


def _sample_shape(table: Table, shape: tuple[int, ...], model: keras.Model) -> tuple[int, ...]:
    """Return the shape of one sample for the model: that of the file, or its numbers in a row or out of one."""
    wanted = tuple(model.inputs[0].shape[1:])
    if len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True)):
        return shape
    if min(len(shape), len(wanted)) <= 1 and None not in wanted and math.prod(shape) == math.prod(wanted):
        return wanted
    raise BadInput(f"{table.name}: a sample has shape {shape}, the model takes {wanted}. Give data as the model was trained on.")


def _class_numbers(table: Table, units: int, path: str | Path) -> np.ndarray:
    """Return the classes as the model's numbers: those of its search, whole numbers as they are, or else names in their order."""
    assert table.classes is not None
    trained = _trained_classes(Path(path).with_name("results.json"))
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


def _trained_classes(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("classes")
    except (ValueError, OSError, AttributeError):
        raise BadInput(f"{path}: cannot be read, so the numbers of the classes are not known. Move the model to another folder.") from None


def _name(label: str) -> str:
    """Return a class's name, the same for 1 and 1.0: CSV files know no whole numbers."""
    return label.removesuffix(".0") if label.removesuffix(".0").lstrip("-").isdecimal() else label


def _loss(model: keras.Model) -> str:
    """Return the loss's name, `""` where the model has none."""
    aim = aims(model, np.zeros(1))
    return aim[0].loss if len(aim) == 1 and aim[0] else ""


def _line(error: Exception) -> Any:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}{'...' if len(text) > 160 else ''}"
