"""The base of search spaces of convolutional networks: images with channels, an activation, and filters."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import bad_argument, integers
from keras_ext.search import choices
from keras_ext.search.spaces.space import Space

# Whatever Keras is set to: the inputs are, and TensorFlow has no kernels for the other order on a CPU.
LAST = {"data_format": "channels_last"}


class ImageSpace(Space):
    """A search space of networks on images, whose `convolution` takes the chosen initializer and penalty.

    Args:
        input_shape: (height, width, channels), or (height, width) for images of one channel.
        filters: of the first convolutions, to choose from.
        activations: to choose from, see `choices.activation`.
        **kwargs: the other arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, or as `Space` does.
    """

    def __init__(self, input_shape: Sequence[int], filters: Sequence[int], activations: Sequence[str], **kwargs: Any) -> None:
        super().__init__(integers("input_shape", input_shape), **kwargs)
        if len(self.input_shape) not in (2, 3):
            raise bad_argument("input_shape", "(height, width, channels) or (height, width)", self.input_shape)
        self.filters = integers("filters", filters)
        self.activations = choices.checked_activations(activations)

    @property
    def halvings(self) -> int:
        """How often height and width can be halved, rounded down, until one of them is 1."""
        return min(self.input_shape[:2]).bit_length() - 1

    def prepare(self, x: Any) -> Any:
        """Return the inputs, normalized where mean and variance were given, with their channels on the last axis."""
        x = super().prepare(x)
        return x if len(self.input_shape) == 3 else keras.layers.Reshape((*self.input_shape, 1), dtype=self.exact)(x)

    def convolution(self, hp: Any, filters: int, size: int, activation: str, name: str, strides: int = 1, use_bias: bool = True) -> Any:
        """Return a convolution that keeps height and width, or divides them by `strides` and rounds up; its activation comes after it."""
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=choices.initializer(hp, activation, activations=self.activations),
            kernel_regularizer=self.regularizer(hp),
            name=name,
            **LAST,
        )
