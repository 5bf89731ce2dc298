"""What the studies of searches share: quiet tuners in temporary folders, and the digits with a space for them."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from sklearn import datasets

from keras_ext import layers, optimizers
from keras_ext.automl.tuners import TUNERS
from keras_ext.search.spaces import MLP
from keras_ext.tables import load_digits

# Larger than any search.
NEVER = 10**9


@contextlib.contextmanager
def quiet_tuner(kind: Any, space: Any, **arguments: Any) -> Iterator[Any]:
    """Give a tuner whose project lies in a temporary folder and that prints nothing, for the block."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        tuner = kind(space, directory=folder, project_name="trials", **arguments)
        tuner.oracle.verbose = 0
        yield tuner


def endless_tuner(kind: str, space: Any, epochs: int, **arguments: Any) -> contextlib.AbstractContextManager[Any]:
    """Give the tuner of that name on the command line, which never runs out of trials, for the block."""
    if kind == "hyperband":
        return quiet_tuner(TUNERS[kind], space, max_epochs=epochs, hyperband_iterations=NEVER, **arguments)
    return quiet_tuner(TUNERS[kind], space, max_trials=NEVER, **arguments)


def samples(data: str) -> tuple[np.ndarray, list[str]]:
    """Return the inputs and the classes of a data set by name."""
    if data == "synthetic":
        x, y = datasets.make_classification(
            20_000, 30, n_informative=12, n_redundant=6, n_classes=4, n_clusters_per_class=3, random_state=7
        )
        return x, [f"class {i}" for i in y]
    if data == "digit_images":
        found: Any = datasets.load_digits()
        return found.images[..., None], [str(i) for i in found.target]
    found = getattr(datasets, f"load_{data}")()
    return found.data, [str(found.target_names[i]) for i in found.target]


def digits() -> tuple[Any, Any, tuple[Any, Any]]:
    """Return the digits, a space of networks for them, and what is held out for validation."""
    split = load_digits().split(0.2, 0)
    space = MLP((64,), classes=10, mean=split.x.mean(axis=0), variance=split.x.var(axis=0), samples=len(split.x))
    return split, space, (split.x_validation, split.y_validation)


def optimizer(name: str, rate: float) -> Any:
    """Return Adam, or SGD with momentum."""
    return optimizers.Adam(rate) if name == "adam" else optimizers.SGD(rate, momentum=0.9)


def network(features: int, classes: int, units: int, values: dict[str, Any], initializer: Any, optimizer: Any) -> keras.Model:
    """Return the dense network with so many layers, an activation and a normalization as `values` say."""
    model = keras.Sequential([keras.Input((features,))])
    for _ in range(values["layers"]):
        model.add(keras.layers.Dense(units, kernel_initializer=initializer()))
        if values["normalization"] == "batch":
            model.add(layers.BatchNormalization())
        model.add(keras.layers.Activation(values["activation"]))
    model.add(keras.layers.Dense(classes, "softmax"))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
