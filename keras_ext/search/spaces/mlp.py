"""A search space of multilayer perceptrons."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import integer, one_of
from keras_ext.search import choices
from keras_ext.search.spaces.dense import DenseSpace

# Most hidden layers of a network that may do without normalization.
DEEP = 6


class MLP(DenseSpace):
    """Search depth, width, activation, initializer, normalization, dropout, optimizer, clipping, learning rate and batch size.

    A KerasTuner HyperModel: give it to any tuner. Each hidden layer is Dense, batch normalization if chosen, the activation, dropout if
    chosen; the last is softmax over the classes, or linear for regression. Networks of more than six hidden layers have batch or layer
    normalization, a hyperparameter of its own, `normalization_deep`: without, their signals fade or grow from layer to layer.

    Args:
        input_shape: shape of one sample, without the batch; more than one axis is flattened.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        mean: of shape `input_shape`, or broadcast to it; taken off the inputs inside the model. None: the inputs stay as they are.
        variance: likewise; the inputs are divided by its root. A variance of 0 counts as 1, so that a constant input stays harmless.
        max_layers: most hidden layers.
        units: widths to choose from; where a search begins is the one that `choices.units` takes.
        samples: number of training samples, which bounds the batch sizes to choose from; None leaves the batch size to the call of
            `search`.
        features: a `tables.TableFeatures` that has been adapted, for inputs as its `encode` returns them; each model gets a copy.
        batch_sizes: sizes to choose from, with `samples`; 1 and `"full"`, stochastic and full-batch descent, may be among them. See
            `choices.batch_size`.
        name: name of the search space.
        regularization: choose a penalty on the weights, L1, L2 or none, and its strength.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        micro_batch: most samples in memory at once in full-batch descent, see `Space`.
        widths: `"same"`, `"pyramid"` or `"free"`: how the widths of the layers are chosen, see `choices.widths`.
        wide: choose among all parts of the package, see `Space`.
        epochs: of a training, see `Space`.

    Raises:
        ValueError: an argument is out of range, only one of `mean` and `variance` is given, or both them and `features`.

    Examples:
        >>> import keras_tuner
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
        features: keras.layers.Layer | None = None,
        batch_sizes: Sequence[int | str] = (16, 32, 64, 128),
        name: str = "mlp",
        regularization: bool = False,
        activations: Sequence[str] | None = None,
        micro_batch: int = 1024,
        widths: str = "same",
        wide: bool = False,
        epochs: int | None = None,
    ) -> None:
        super().__init__(
            input_shape,
            units,
            features,
            activations,
            classes=classes,
            outputs=outputs,
            mean=mean,
            variance=variance,
            samples=samples,
            batch_sizes=batch_sizes,
            regularization=regularization,
            micro_batch=micro_batch,
            wide=wide,
            epochs=epochs,
            name=name,
        )
        self.max_layers = integer("max_layers", max_layers)
        self.widths = one_of("widths", widths, choices.WIDTHS)

    def body(self, hp: Any, x: Any) -> Any:
        """Return the output of the last hidden layer."""
        activation = choices.activation(hp, activations=self.activations)
        self.choose_units(hp, x)  # of the first layer
        count = choices.layers(hp, self.max_layers)
        widths = choices.widths(hp, count, x.shape[-1], self.classes or self.outputs, self.units, self.widths, self.max_layers)
        for i, units in enumerate(widths, start=1):
            x = self.dense(hp, units, activation, name=f"hidden_{i}")(x)
            for layer in self._normalized(hp, count):
                x = layer(x)
            x = choices.activation_layer(activation, f"{activation}_{i}")(x)
            for layer in choices.dropout(hp):
                x = layer(x)
        return x

    def _normalized(self, hp: Any, count: int) -> list[Any]:
        """Choose a layer of normalization, or none; in a deep network one of two."""
        kinds = ("none", "batch", "layer") if self.wide else ("none", "batch")
        if self.max_layers <= DEEP:
            return self.normalization(hp, *kinds)
        found: list[Any] = []
        with hp.conditional_scope("layers", list(range(1, DEEP + 1))):
            if count <= DEEP:
                found = self.normalization(hp, *kinds)
        with hp.conditional_scope("layers", list(range(DEEP + 1, self.max_layers + 1))):
            if count > DEEP:
                found = self.normalization(hp, "batch", "layer", name="normalization_deep")
        return found
