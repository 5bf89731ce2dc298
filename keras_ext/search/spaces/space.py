"""The base of all search spaces: the layers before and after the body of a network, how it is compiled, and how it is trained."""

import abc
import math
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_ext import initializers
from keras_ext._checks import bad_argument, flag, integer, items
from keras_ext.schedules import FullBatch
from keras_ext.search import choices
from keras_ext.search.choices.batch_sizes import checked_batch_sizes, offered_batch_sizes
from keras_ext.search.folds import Folds
from keras_ext.search.strategy import in_equal_parts
from keras_ext.search.tuners.grid import coarse

# What varies in a grid: of some hyperparameters these values, of others coarse ones.
_IN_GRID: dict[str, tuple[Any, ...]] = {
    "optimizer": ("adam", "sgd"),
    "sgd": ("momentum",),
    "dropout": (0.0, 0.2),
    "class_weight": ("none", "balanced"),
}
_COARSE = ("activation", "layers", "blocks", "stages", "units", "filters", "network", "direction", "normalization", "learning_rate")


class Space(keras_tuner.HyperModel, abc.ABC):
    """A search space of networks: a subclass gives the `body`, between the normalized inputs and the last layer.

    A KerasTuner HyperModel: give it to any tuner. The last layer is softmax over the classes, or linear for regression. Optimizer,
    clipping, learning rate and, with `samples`, the batch size are chosen too.

    Three attributes change what is searched. `score` has `name`, `direction` and a function `metrics` that returns new metrics to compile
    with; None: accuracy, or R2. `class_weights` are weights of the classes by a name each, from which a trial chooses; beside them it
    may choose none. `folds` are a `search.folds.Folds`, which parts the samples into those of training and of validation, another way in
    each of the tuner's `executions_per_trial`; such a search must be watched.

    Args:
        input_shape: shape of one sample, without the batch.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        mean: of `input_shape`, or of a shape that broadcasts to it; taken off the inputs inside the model. None: the inputs stay as they
            are.
        variance: likewise; the inputs are divided by its root. A variance of 0 counts as 1, so that a constant input stays harmless.
        samples: number of training samples, which bounds the batch sizes to choose from; None leaves the batch size to the call of
            `search`.
        batch_sizes: sizes to choose from, with `samples`; 1 and `"full"`, stochastic and full-batch descent, may be among them. See
            `choices.batch_size`.
        regularization: choose a penalty on the weights, L1, L2 or none, and its strength.
        micro_batch: most samples in memory at once in full-batch descent. More are taken in parts, whose gradients the optimizer collects,
            see `schedules.FullBatch`; batch normalization then sees the parts, and arrays alone can be trained on.
        wide: choose among all parts of the package: every activation and clipping rule, scaled initializers, layer normalization, whole
            channels to drop, penalties as with `regularization`, Adam's betas and RMSprop's rho.
        epochs: of a training. With `samples` and `wide`, the course of the learning rate is a choice too; Hyperband's trials have their own
            number.
        name: name of the search space.

    Raises:
        ValueError: an argument is out of range, only one of `mean` and `variance` is given, or they do not broadcast to `input_shape`.

    Examples:
        >>> class Linear(Space):
        ...     def body(self, hp, x):
        ...         return x
        >>> Linear((4,), classes=3, name="linear").build(keras_tuner.HyperParameters()).count_params()
        15
    """

    def __init__(
        self,
        input_shape: Sequence[int | None],
        classes: int | None = None,
        outputs: int = 1,
        mean: Any = None,
        variance: Any = None,
        samples: int | None = None,
        batch_sizes: Sequence[int | str] = (16, 32, 64, 128),
        regularization: bool = False,
        micro_batch: int = 1024,
        wide: bool = False,
        epochs: int | None = None,
        name: str = "space",
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise bad_argument("name", "text without `/`, or None", name)
        super().__init__(name=name)
        if (mean is None) != (variance is None):
            raise ValueError("`mean` and `variance` must be given together, got one of them. Give both, or neither.")
        self.input_shape: tuple[Any, ...] = _checked_shape(input_shape)
        self.classes = None if classes is None else integer("classes", classes, 2)
        self.outputs = integer("outputs", outputs)
        self.mean, self.variance = (_broadcasting(n, v, self.input_shape) for n, v in (("mean", mean), ("variance", variance)))
        self.samples = None if samples is None else integer("samples", samples)
        self.batch_sizes = checked_batch_sizes(batch_sizes, "batch_sizes")
        self.wide = flag("wide", wide)
        self.regularization = flag("regularization", regularization) or self.wide
        self.micro_batch = integer("micro_batch", micro_batch)
        self.epochs = None if epochs is None else integer("epochs", epochs)
        # Of an epoch of the schedules; what trains a network again on more samples sets it.
        self.samples_of_epoch = self.samples
        self.score: Any = None
        self.class_weights: dict[str, dict[int, float]] = {}
        self.folds: Folds | None = None

    @abc.abstractmethod
    def body(self, hp: Any, x: Any) -> Any:
        """Return what the last layer takes, of shape (batch, features), from what `prepare` returned."""

    @property
    def objective(self) -> keras_tuner.Objective:
        """The objective of a search of this space: `score` on the samples of validation, by default the accuracy, or R2 for regression."""
        if self.score is not None:
            return keras_tuner.Objective(f"val_{self.score.name}", self.score.direction)
        return keras_tuner.Objective("val_accuracy" if self.classes else "val_r2_score", "max")

    def changes_structure(self, name: str) -> bool:
        """Return whether the hyperparameter `name` changes the program of a training step: all but rates, strengths and first weights."""
        return not name.startswith(choices.NUISANCE)

    def coarse_values(self, hp: Any) -> list[Any]:
        """Return the values of a hyperparameter in a grid: few of those that matter most, and of the others the default."""
        if hp.name in _IN_GRID:
            return [value for value in hp.values if value in _IN_GRID[hp.name]] or [hp.default]
        return coarse(hp) if hp.name.startswith(_COARSE) else [hp.default]

    @property
    def exact(self) -> str:
        """The dtype of what must not be rounded: the inputs before they are of unit scale, and the predictions."""
        return keras.config.dtype_policy().variable_dtype

    def input(self) -> Any:
        """Return the symbolic input of a network."""
        return keras.Input(self.input_shape)

    def prepare(self, x: Any) -> Any:
        """Return the inputs with mean 0 and variance 1, where these were given."""
        if self.mean is None:
            return x
        # Axes of any size have one mean and variance, and so have those along which neither differs.
        shape = np.broadcast_shapes(self.mean.shape, self.variance.shape, (1,) * len(self.input_shape))
        axes = [i for i, size in enumerate(shape) if size > 1]
        mean, variance = (np.broadcast_to(v, shape).reshape([shape[i] for i in axes]) for v in (self.mean, self.variance))
        variance = np.where(variance > 0, variance, 1.0)
        axis = tuple(i + 1 for i in axes) or None
        return keras.layers.Normalization(axis=axis, mean=mean, variance=variance, dtype=self.exact)(x)

    def build(self, hp: Any) -> keras.Model:
        """Return a compiled model; its optimizer is built, so that a checkpoint brings its state back too."""
        if self.samples is not None:
            choices.batch_size(hp, self.samples, sizes=self.batch_sizes)
        if self.class_weights:
            hp.Choice("class_weight", ["none", *self.class_weights])
        inputs = self.input()
        x = self.body(hp, self.prepare(inputs))
        last = keras.layers.Dense(
            self.classes or self.outputs,
            activation="softmax" if self.classes else "linear",
            kernel_initializer=initializers.GlorotUniform(),
            name="output",
            dtype=self.exact,
        )
        model = keras.Model(inputs, last(x), name=self.name)
        optimizer = choices.optimizer(
            hp,
            gradient_accumulation_steps=self._parts(hp),
            rules=choices.ALL_CLIPPINGS if self.wide else choices.CLIPPINGS,
            averages=self.wide,
            steps=self._steps(hp) if self.wide else None,
        )
        loss, plain = ("sparse_categorical_crossentropy", "accuracy") if self.classes else ("mean_squared_error", "r2_score")
        model.compile(optimizer, loss, metrics=[plain] if self.score is None else self.score.metrics())
        model.optimizer.build(model.trainable_variables)
        return model

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any = None, **kwargs: Any) -> Any:
        """Train `model` with the chosen batch size, and on the samples of the training's folds; arguments as those of `model.fit`."""
        if self.folds is not None:
            x, y, kwargs = self.folds.of_this_training(x, y, kwargs)
        if self._parts(hp) is not None:
            data = FullBatch(x, y, kwargs.pop("sample_weight", None), micro_batch=self.micro_batch)
            kwargs.pop("batch_size", None)
            kwargs.setdefault("validation_batch_size", self.micro_batch)
            return model.fit(data, **{**kwargs, "callbacks": [data.callback(), *(kwargs.get("callbacks") or [])]})
        if self.samples is not None:
            kwargs.setdefault("batch_size", hp.get("batch_size"))
            self._validate_in_large_batches(kwargs)
        if self.class_weights and hp.get("class_weight") != "none":
            kwargs.setdefault("class_weight", self.class_weights[hp.get("class_weight")])
        x, y, kwargs = in_equal_parts(model, x, y, kwargs)
        return model.fit(x, y, **kwargs)

    def _validate_in_large_batches(self, kwargs: dict[str, Any]) -> None:
        """Let validation take equal batches of up to four times the largest of training: it keeps no activations for gradients.

        One batch is one program to compile, and the same for each batch size of training.
        """
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, tuple | list) and "validation_batch_size" not in kwargs:
            first = keras.tree.flatten(held_out[0])[0]
            if getattr(first, "shape", ()):
                most = 4 * max(offered_batch_sizes(self.samples or 1, self.batch_sizes))
                kwargs["validation_batch_size"] = math.ceil(len(first) / math.ceil(len(first) / most))

    def _parts(self, hp: Any) -> int | None:
        """Return the number of parts of the chosen batch, where that is all samples and they are too many for one."""
        is_full = self.samples is not None and "full" in self.batch_sizes and hp.get("batch_size") == self.samples
        return math.ceil(self.samples / self.micro_batch) if is_full and self.samples > self.micro_batch else None

    def _steps(self, hp: Any) -> int | None:
        """Return the steps of a training as Keras counts them, each batch one; None where they are not known."""
        if self.epochs is None or self.samples_of_epoch is None:
            return None
        an_epoch = self._parts(hp) or math.ceil(self.samples_of_epoch / min(hp.get("batch_size"), self.samples_of_epoch))
        return an_epoch * hp.values.get("tuner/epochs", self.epochs)

    def offered_activations(self, activations: Any) -> tuple[str, ...]:
        """Return the activations to choose from: those that were given, or for None all or the usual ones."""
        if activations is None:
            return choices.ALL_ACTIVATIONS if self.wide else choices.ACTIVATIONS
        return choices.checked_activations(activations)

    def initializer(self, hp: Any, activation: str, activations: Any = None, gates: int | None = None) -> Any:
        """Choose an initializer as `choices.initializer` does."""
        return choices.initializer(hp, activation, activations=activations, gates=gates, gains=self.wide)

    def normalization(self, hp: Any, *kinds: str, name: str = "normalization") -> list[Any]:
        """Choose among kinds of normalization as `choices.normalization` does, which must know whether batches may have one sample."""
        sizes = [] if self.samples is None else offered_batch_sizes(self.samples, self.batch_sizes)
        return choices.normalization(hp, name, kinds=kinds, batch_sizes=sizes)

    def regularizer(self, hp: Any) -> Any:
        """Choose a penalty on the weights, if this space has that choice; None otherwise."""
        return choices.regularizer(hp) if self.regularization else None


def _checked_shape(input_shape: Any) -> tuple[int | None, ...]:
    """Return a shape as a tuple; what an axis of any size means is the subclass's matter."""
    sizes = items(input_shape)
    if sizes is None:
        raise bad_argument("input_shape", "a sequence of sizes, one for each axis of a sample", input_shape, "Such as (64,).")
    return tuple(None if size is None else integer("size in input_shape", size) for size in sizes)


def _broadcasting(name: str, value: Any, input_shape: tuple[int | None, ...]) -> Any:
    """Return `value` as an array that broadcasts to a sample; an axis of any size takes one value."""
    if value is None:
        return None
    known = tuple(1 if size is None else size for size in input_shape)
    try:
        value = np.asarray(value, dtype="float64")
    except (TypeError, ValueError, OverflowError):
        raise bad_argument(name, "an array of numbers", value) from None
    if not np.isfinite(value).all():
        raise bad_argument(name, "an array of finite numbers", value, "Leave out the samples that are not.")
    try:
        fits = np.broadcast_shapes(value.shape, known) == known
    except ValueError:
        fits = False
    if not fits:
        raise bad_argument(name, f"an array whose shape broadcasts to `input_shape`, {input_shape}", value.shape)
    return value
