"""`keras-ext predict`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import keras
import numpy as np
import pandas as pd

from keras_ext import _backend
from keras_ext._atomic import write_text
from keras_ext._checks import BadInput
from keras_ext.callbacks.monitor.probe.targets import BINARY, CHOICES, aims
from keras_ext.commands import model_file
from keras_ext.tables import PredictionInterval, TableFeatures
from keras_ext.tables._columns import Category, source
from keras_ext.tables.data.files import existing, listed
from keras_ext.tables.data.images import SUFFIXES, image_files, read_images
from keras_ext.tables.data.npz import inputs_of, read_npz
from keras_ext.tables.data.read_dataframe import is_table
from keras_ext.tables.data.table_file import columns_for, matrix_of


def predict(model_path: str, data_path: str, target: str | None, probabilities: bool, interval: float | None, output: str | None) -> None:
    """Run the command with its options, as `keras_ext_cli.predict` declares them."""
    _backend.prepare_devices()
    model = model_file.load(model_path)
    paths, x = _inputs(Path(data_path), model, target)
    if not len(x):
        raise BadInput(f"{data_path}: holds no samples. Give at least one.")
    predicted = np.asarray(model.predict(x, batch_size=256, verbose=0), "float64")
    bad = np.flatnonzero(~np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1))
    if len(bad):
        raise BadInput(f"{model_path}: predicts NaN or infinity, first for sample {bad[0] + 1}. keras-ext diagnose names the layer.")
    columns = _columns(model, predicted, probabilities)
    if interval is not None:
        columns |= _bounds(model_path, model, predicted, interval)
    if paths:
        columns = {"file": [str(path) for path in paths], **columns}
    text = pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
    if output is None:
        sys.stdout.write(text)
        return
    try:
        write_text(output, text)
    except OSError as error:
        raise BadInput(f"{output}: cannot be written ({error.strerror}). Give another path.") from None
    click.echo(f"written: {output}")


def _inputs(path: Path, model: keras.Model, target: str | None) -> tuple[list[Path], np.ndarray]:
    """Return the images' paths, if they are some, and the inputs as the model takes them."""
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        shape = model_file.image_shape(model)
        if shape is None:
            raise BadInput(
                f"{path}: is of images, the model takes {tuple(model.inputs[0].shape[1:])}. Give data as the model was trained on."
            )
        paths = image_files(path) if path.is_dir() else [existing(path)]
        if not paths:
            raise BadInput(f"{path}: holds no image ({', '.join(SUFFIXES)}). Add some.")
        return paths, read_images(paths, shape)
    features = model_file.features_of(model)
    if features is not None:
        if not is_table(path):
            raise BadInput(f"{path}: is no CSV file, of which the model needs the columns {listed(features.sources)}. Give one.")
        columns = columns_for(path, features)
        encoded = features.encode(columns)
        _tell_unknown(path, features, columns, encoded)
        _tell_gaps(path, features, columns)
        return [], encoded
    if is_table(path):
        return [], model_file.shaped(matrix_of(path, target), model, path.name)
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path)
        target = target or ("y" if "y" in arrays and len(arrays) > 1 else None)
        x = inputs_of(path, arrays, target)
        if x.dtype.kind not in "biuf":
            raise BadInput(f"{path}: the inputs are {x.dtype}, not numbers. Encode them as numbers first.")
        return [], model_file.shaped(x.astype("float32"), model, path.name)
    raise BadInput(f"{path}: is neither .csv nor .npz, nor images. Save the data as one of them.")


def _tell_unknown(path: Path, features: TableFeatures, columns: pd.DataFrame, encoded: np.ndarray) -> None:
    """Say which categories the model never saw, since it predicts all the same."""
    for column, codes in zip(features.columns, encoded.T, strict=True):
        unknown = np.flatnonzero(codes < 0)
        if isinstance(column, Category) and len(unknown):
            first = columns[source(column)].iloc[unknown[0]]
            click.echo(
                f'{path}: column "{column.name}": {len(unknown)} of {len(codes)} values were not in training, first "{first}" in '
                f"{columns.index.name} {columns.index[unknown[0]]}; the model takes them for unknown.",
                err=True,
            )


def _tell_gaps(path: Path, features: TableFeatures, columns: pd.DataFrame) -> None:
    """Say where numbers are missing in columns that had no gaps in training, so that the model cannot tell them from the mean."""
    for column in features.columns:
        if isinstance(column, Category) or column.gaps:
            continue
        gaps = np.flatnonzero(columns[source(column)].isna())
        if len(gaps):
            click.echo(
                f'{path}: column "{column.name}": {len(gaps)} of {len(columns)} numbers are missing, first in '
                f"{columns.index.name} {columns.index[gaps[0]]}, and none were in training; the model takes the mean of training for them.",
                err=True,
            )


def _columns(model: keras.Model, predicted: np.ndarray, all_of_them: bool) -> dict[str, Sequence[object]]:
    """Return the predictions as columns by their headings."""
    predicted = predicted.reshape(len(predicted), -1)
    names, loss = model_file.names_of(model), model_file.loss_of(model)
    is_one_of_several = loss in CHOICES or (loss in BINARY and predicted.shape[1] == 1)
    if names is None and not is_one_of_several:
        if all_of_them:
            raise BadInput("--probabilities is for models that tell classes apart; this one predicts numbers. Leave it out.")
        headings = ["prediction"] if predicted.shape[1] == 1 else [f"prediction_{i + 1}" for i in range(predicted.shape[1])]
        return dict(zip(headings, ([f"{v:.7g}" for v in column] for column in predicted.T), strict=True))
    shares = _probabilities(model, predicted)
    names = names or tuple(str(i) for i in range(shares.shape[1]))
    best = shares.argmax(axis=1)
    columns: dict[str, Sequence[object]] = {
        "prediction": [names[i] for i in best],
        "probability": [f"{row[i]:.4f}" for row, i in zip(shares, best, strict=True)],
    }
    if all_of_them:
        columns |= {f"probability of {name}": [f"{v:.4f}" for v in column] for name, column in zip(names, shares.T, strict=True)}
    return columns


def _bounds(path: str, model: keras.Model, predicted: np.ndarray, level: float) -> dict[str, Sequence[object]]:
    """Return the bounds of the predictions, by their headings."""
    last = model.layers[-1]
    if model_file.names_of(model) is not None:
        raise BadInput("--interval is for models that predict numbers; this one tells classes apart. Take --probabilities.")
    if not isinstance(last, PredictionInterval):
        raise BadInput(f"{path}: keeps no intervals. Search with samples put aside for a test, --test 0.2, to have them.")
    if level not in last.levels:
        raise BadInput(f"--interval must be one of {', '.join(map(str, last.levels))}, got {level:g}.")
    return {name: [f"{v:.7g}" for v in bound] for name, bound in zip(("lower", "upper"), last.interval(predicted, level), strict=True)}


def _probabilities(model: keras.Model, predicted: np.ndarray) -> np.ndarray:
    """Return the probability of each class, also where the model gives logits, or a single number for two classes."""
    (aim,) = aims(model, np.zeros(1)) or (None,)
    from_logits = aim is not None and aim.from_logits
    if from_logits:
        function = keras.ops.sigmoid if predicted.shape[1] == 1 else keras.ops.softmax
        predicted = np.asarray(keras.ops.convert_to_numpy(function(predicted)))
    return np.concatenate([1 - predicted, predicted], axis=1) if predicted.shape[1] == 1 else predicted
