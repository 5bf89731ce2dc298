"""The preprocessing between a table and a network: learnt from the samples of training, and kept in the model's file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_ext.automl.goal import Goal
from keras_ext.automl.networks import moments_of, network_of, space_of
from keras_ext.automl.settings import Settings
from keras_ext.search.spaces import Space
from keras_ext.tables import ClassNames, PredictionInterval, TableFeatures
from keras_ext.tables.data.table import Inputs

# Names of the last layers of a finished model: they bring the target's unit back, know the classes, and keep the intervals.
UNIT, CLASSES, INTERVALS = "unit", "classes", "intervals"


@dataclass(frozen=True)
class Preparation:
    """How inputs and targets are brought to a network, and its output back.

    Args:
        features: encodes columns; None for inputs that are one array.
        mean: of such an array, by feature.
        variance: likewise.
        classes: names of the classes; None for regression.
        target_mean: of the numbers to predict, which are trained with mean 0 and variance 1.
        target_stddev: likewise.
        goal: what is searched for; None: the accuracy, or R2.
        class_weights: of the classes, by a name each, where a class is rare.
    """

    features: TableFeatures | None
    mean: np.ndarray | None
    variance: np.ndarray | None
    classes: tuple[str, ...] | None
    target_mean: float = 0.0
    target_stddev: float = 1.0
    goal: Goal | None = None
    class_weights: dict[str, dict[int, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, x: Inputs, y: np.ndarray, classes: tuple[str, ...] | None, goal: Goal | None = None, day_first: Sequence[str] = ()
    ) -> "Preparation":
        """Learn from the samples of training; `day_first` names columns of dates in whose text the day stands before the month."""
        features = mean = variance = None
        if isinstance(x, dict):
            features = TableFeatures()
            features.adapt(x, day_first)
        else:
            mean, variance = x.mean(axis=0, dtype="float64"), x.var(axis=0, dtype="float64")
        unit = (0.0, 1.0) if classes else (float(y.mean()), float(y.std()) or 1.0)
        weights = _class_weights(y) if goal is not None and goal.is_imbalanced else {}
        return cls(features, mean, variance, classes, *unit, goal=goal, class_weights=weights)

    def learnt_again(self, x: Inputs, y: np.ndarray) -> "Preparation":
        """Return the same preparation, learnt from other samples."""
        columns = () if self.features is None else self.features.columns
        day_first = [column.date.column for column in columns if column.date is not None and column.date.day_first]
        return Preparation.of(x, y, self.classes, self.goal, day_first)

    def inputs(self, x: Inputs) -> Any:
        """Return inputs as the network takes them."""
        return x if self.features is None else self.features.encode(x)

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Return targets as the network is trained on them."""
        return y if self.classes else ((y.astype("float64") - self.target_mean) / self.target_stddev).astype("float32")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample as the network takes it."""
        return np.asarray(self.mean).shape if self.features is None else (len(self.features.columns),)

    def space(self, samples: int, batch_sizes: Sequence[int], network: str = "mlp", **kwargs: Any) -> Space:
        """Return the search space of networks for what has been prepared.

        Args:
            samples: of training.
            batch_sizes: to choose from.
            network: as `networks.network_of` returned it.
            **kwargs: `max_layers`, `widths`, and arguments of the search space.
        """
        if self.features is None:
            mean, variance = moments_of(network, self.mean, self.variance)
            kwargs |= {"mean": mean, "variance": variance}
        else:
            kwargs["features"] = self.features
        return space_of(
            network,
            self.input_shape,
            classes=None if self.classes is None else len(self.classes),
            samples=samples,
            batch_sizes=batch_sizes,
            **kwargs,
        )

    def space_for(self, settings: Settings, samples: int) -> Space:
        """Return the search space that `settings` ask for.

        Raises:
            BadInput: they do not go with the shape of the samples.
        """
        network = network_of(settings.network, self.input_shape, settings.max_layers, settings.widths)
        space = self.space(
            samples,
            settings.batch_sizes,
            network,
            max_layers=settings.max_layers,
            widths=settings.widths,
            wide=settings.wide,
            epochs=settings.epochs,
        )
        space.class_weights = self.class_weights
        if self.goal is not None and not self.goal.is_plain:
            space.score = replace(self.goal, scale=self.target_stddev, offset=self.target_mean)
        return space

    def finished(self, model: Any) -> Any:
        """Return a trained `model` whose output is in the target's own unit, or which knows the names of its classes."""
        if self.classes:
            y, loss = ClassNames(self.classes, name=CLASSES)(model.output), "sparse_categorical_crossentropy"
        else:
            last = keras.layers.Rescaling(self.target_stddev, self.target_mean, name=UNIT, dtype="float32")
            y, loss = last(model.output), "mean_squared_error"
        return self._compiled(model, y, loss)

    def with_intervals(self, model: Any, radii: dict[float, float]) -> Any:
        """Return a finished `model` of numbers that keeps the radii of its prediction intervals."""
        return self._compiled(model, PredictionInterval(radii, name=INTERVALS)(model.output), model.loss)

    def _compiled(self, model: Any, output: Any, loss: str) -> Any:
        whole = keras.Model(model.input, output, name=model.name)
        plain = ["accuracy" if self.classes else "r2_score"]
        whole.compile(model.optimizer, loss, metrics=plain if self.goal is None else self.goal.metrics())
        return whole


def _class_weights(y: np.ndarray) -> dict[str, dict[int, float]]:
    """Return weights that make the classes equal in the loss, and their roots, scaled so that the mean weight of a sample is 1.

    >>> _class_weights(np.array([0, 0, 0, 1]))["balanced"]
    {0: 0.6666666666666666, 1: 2.0}
    """
    counts = np.bincount(y)
    # A class without samples, which no split leaves, has no weight.
    weights = {"balanced": len(y) / (np.count_nonzero(counts) * np.maximum(counts, 1))}
    root = np.sqrt(weights["balanced"])
    weights["root"] = root * len(y) / np.sum(root * counts)
    return {name: dict(enumerate(map(float, values))) for name, values in weights.items()}
