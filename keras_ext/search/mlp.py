"""A search space of multilayer perceptrons."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_ext import initializers
from keras_ext._checks import whole, wholes
from keras_ext.layers import TableFeatures
from keras_ext.search import choices
from keras_ext.search.strategy import in_equal_parts


class MLP(keras_tuner.HyperModel):
    """Search depth, width, activation, initializer, normalization, dropout, optimizer, clipping, learning rate and batch size.

    A KerasTuner HyperModel: give it to any tuner. Each hidden layer is Dense, batch normalization if chosen, the activation, dropout if
    chosen; the last is softmax over the classes, or linear for regression.

    Args:
        input_shape: shape of one sample, without the batch; more than one axis is flattened.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        mean: of shape `input_shape`, or broadcast to it; taken off the inputs inside the model. None: the inputs stay as they are.
        variance: likewise; the inputs are divided by its root. A variance of 0 counts as 1, so that a constant input stays harmless.
        max_layers: most hidden layers.
        units: widths to choose from.
        samples: number of training samples, which bounds the batch sizes to choose from; None leaves the batch size to the call of
            `search`.
        features: a `layers.TableFeatures` that has been adapted, for inputs as its `encode` returns them; each model gets a copy.
        batch_sizes: sizes to choose from, with `samples`.
        name: name of the search space.

    Raises:
        ValueError: `classes`, `outputs`, `max_layers`, `units`, `samples` or `batch_sizes` is out of range, only one of `mean` and
            `variance` is given, or both them and `features`.

    Example:
        >>> space = MLP(input_shape=(4,), classes=3)
        >>> model = space.build(keras_tuner.HyperParameters())
        >>> model.output_shape
        (None, 3)
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int | None = None,
        outputs: int = 1,
        mean: Any = None,
        variance: Any = None,
        max_layers: int = 4,
        units: Sequence[int] = (32, 64, 128, 256),
        samples: int | None = None,
        features: TableFeatures | None = None,
        batch_sizes: Sequence[int] = (16, 32, 64, 128),
        name: str = "mlp",
    ) -> None:
        super().__init__(name=name)
        if (mean is None) != (variance is None):
            raise ValueError("`mean` and `variance` must be given together, got one of them. Give both, or neither.")
        if features is not None and mean is not None:
            raise ValueError(
                "`features` and `mean` cannot both be given: TableFeatures normalizes by itself. Leave `mean` and `variance` out."
            )
        self.input_shape = tuple(input_shape)
        self.classes = None if classes is None else whole("classes", classes, 2)
        self.outputs = whole("outputs", outputs)
        self.mean, self.variance = mean, variance
        self.max_layers = whole("max_layers", max_layers)
        self.units = wholes("units", units)
        self.samples = None if samples is None else whole("samples", samples)
        self.features = features
        self.batch_sizes = wholes("batch_sizes", batch_sizes)

    @property
    def objective(self) -> keras_tuner.Objective:
        """What a search of this space maximises: validation accuracy, or R2 for regression."""
        return keras_tuner.Objective("val_accuracy" if self.classes else "val_r2_score", "max")

    def build(self, hp: Any) -> keras.Model:
        """Return a compiled model; its optimizer is built, so that a checkpoint brings its state back too."""
        if self.samples is not None:
            choices.batch_size(hp, self.samples, sizes=self.batch_sizes)
        x = inputs = keras.Input(self.input_shape)
        # What must not be rounded: the inputs before they are of unit scale, and the predictions.
        exact = keras.config.dtype_policy().variable_dtype
        if self.features is not None:
            x = TableFeatures.from_config(self.features.get_config())(x)
        if len(self.input_shape) > 1:
            x = keras.layers.Flatten(dtype=exact)(x)
        if self.mean is not None:
            size = math.prod(self.input_shape)
            mean, variance = (np.broadcast_to(v, self.input_shape).reshape(size) for v in (self.mean, self.variance))
            x = keras.layers.Normalization(mean=mean, variance=np.where(variance > 0, variance, 1.0), dtype=exact)(x)
        activation = choices.activation(hp)
        units = hp.Choice("units", list(self.units))
        for i in range(hp.Int("layers", 1, self.max_layers)):
            x = keras.layers.Dense(units, kernel_initializer=choices.initializer(hp, activation), name=f"hidden_{i + 1}")(x)
            for layer in choices.normalization(hp):
                x = layer(x)
            x = keras.layers.Activation(activation, name=f"{activation}_{i + 1}")(x)
            for layer in choices.dropout(hp):
                x = layer(x)
        last = "softmax" if self.classes else "linear"
        output = keras.layers.Dense(
            self.classes or self.outputs, activation=last, kernel_initializer=initializers.GlorotUniform(), name="output", dtype=exact
        )
        x = output(x)
        model = keras.Model(inputs, x, name=self.name)
        if self.classes:
            model.compile(choices.optimizer(hp), "sparse_categorical_crossentropy", metrics=["accuracy"])
        else:
            model.compile(choices.optimizer(hp), "mean_squared_error", metrics=["r2_score"])
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any = None, **kwargs: Any) -> Any:
        """Train `model` with the chosen batch size; arguments as those of `model.fit`."""
        if self.samples is not None:
            kwargs.setdefault("batch_size", hp.get("batch_size"))
        x, y, kwargs = in_equal_parts(model, x, y, kwargs)
        return model.fit(x, y, **kwargs)
