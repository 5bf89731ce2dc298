"""The base of search spaces of convolutional networks: images with channels, an activation, and filters."""

import abc
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_ext._backend.keras_private import conditional_scope
from keras_ext._checks import bad_argument, integers
from keras_ext.search import choices
from keras_ext.search.spaces.space import Space

# Whatever Keras is set to: the inputs are, and TensorFlow has no kernels for the other order on a CPU.
LAST = {"data_format": "channels_last"}


class ImageSpace(Space):
    """A search space of networks on images, whose `convolution` takes the chosen initializer and penalty.

    A subclass gives the `blocks`, whose activation and first filters are chosen before them.

    Args:
        input_shape: (height, width, channels), or (height, width) for images of one channel.
        filters: of the first convolutions, to choose from.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        **kwargs: the other arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, or as `Space` does.
    """

    def __init__(self, input_shape: Sequence[int], filters: Sequence[int], activations: Sequence[str] | None, **kwargs: Any) -> None:
        super().__init__(integers("input_shape", input_shape), **kwargs)
        if len(self.input_shape) not in (2, 3):
            raise bad_argument("input_shape", "(height, width, channels) or (height, width)", self.input_shape)
        self.filters = integers("filters", filters)
        # Its name among other networks, by which its own hyperparameters are called then.
        self.network: str | None = None
        self.activations = self.offered_activations(activations)

    @property
    def halvings(self) -> int:
        """How often height and width can be halved, rounded down, until one of them is 1."""
        return min(self.input_shape[:2]).bit_length() - 1

    def prepare(self, x: Any) -> Any:
        """Return the inputs, normalized where mean and variance were given, with their channels on the last axis."""
        x = super().prepare(x)
        return x if len(self.input_shape) == 3 else keras.layers.Reshape((*self.input_shape, 1), dtype=self.exact)(x)

    def body(self, hp: Any, x: Any) -> Any:
        """Return the features behind the last block."""
        activation = choices.activation(hp, activations=self.activations)
        return self.blocks(hp, x, activation, hp.Choice("filters", list(self.filters)))

    @abc.abstractmethod
    def blocks(self, hp: Any, x: Any, activation: str, filters: int) -> Any:
        """Return the features behind the last block, of shape (batch, features); `filters` are those of the first convolution."""

    @contextlib.contextmanager
    def own_choices(self, hp: Any) -> Iterator[None]:
        """Let hyperparameters exist for this network alone, where it is one of several."""
        with conditional_scope(hp, "network", [self.network]) if self.network else contextlib.nullcontext():
            yield

    def own_name(self, name: str) -> str:
        """Return the name of a hyperparameter of this network alone."""
        return f"{name}_{self.network}" if self.network else name

    def own_normalization(self, hp: Any, *kinds: str) -> list[Any]:
        """Choose among the kinds of normalization of this network."""
        with self.own_choices(hp):
            return self.normalization(hp, *kinds, name=self.own_name("normalization"))

    def convolution(self, hp: Any, filters: int, size: int, activation: str, name: str, strides: int = 1, use_bias: bool = True) -> Any:
        """Return a convolution that keeps height and width, or divides them by `strides` and rounds up; its activation comes after it."""
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=self.initializer(hp, activation, self.activations),
            kernel_regularizer=self.regularizer(hp),
            name=name,
            **LAST,
        )

    def activated(self, x: Any, activation: str, name: str) -> Any:
        """Return `x` behind the activation; a PReLU has a slope for each channel."""
        return choices.activation_layer(activation, f"{activation}_{name}", shared_axes=(1, 2))(x)

    def whole_channels_dropped(self, hp: Any, x: Any) -> Any:
        """Return `x` behind spatial dropout, if this space has that choice and it was chosen."""
        for layer in choices.dropout(hp, "spatial_dropout", spatial=2, data_format=LAST["data_format"]) if self.wide else []:
            x = layer(x)
        return x
