"""A search space of residual convolutional networks."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import integer
from keras_ext.search import choices
from keras_ext.search.spaces.image import LAST, ImageSpace


class ResNet(ImageSpace):
    """Search residual networks of basic blocks: two convolutions of 3 x 3, and the block's input added to what they give.

    After a first convolution of 3 x 3, which keeps the size of small images, come the stages, each of as many blocks. From the second stage
    on, the first block halves height and width (rounded up) and doubles the filters; its input passes a convolution of 1 x 1 with that
    stride, so that it can be added. There are at most as many stages as can halve the image. Each convolution is followed by
    normalization; the activation stands after the first, and after the sum. Behind the last block each channel is averaged, then dropout if
    chosen.

    Chosen are the number of stages, the blocks of a stage, filters, activation, initializer, kind of normalization (batch or layer),
    dropout, optimizer, clipping, learning rate and batch size.

    Args:
        input_shape: (height, width, channels), or (height, width) for images of one channel.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        max_stages: most stages, where the images are large enough.
        max_blocks: most blocks of a stage.
        filters: of the first stage, to choose from.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        name: name of the search space.
        **kwargs: `mean`, `variance` (of an image, of a channel, or one number), and the other
            arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, or only one of `mean` and `variance` is given.

    Examples:
        >>> import keras_tuner
        >>> space = ResNet(input_shape=(32, 32, 3), classes=10)
        >>> space.build(keras_tuner.HyperParameters()).output_shape
        (None, 10)

    References:
        He, Zhang, Ren and Sun (2015), Deep residual learning for image recognition, arXiv:1512.03385: figure 2 for the block, section 3.3
        for projections (their option B), section 4.2 for small images. With `max_stages=3` and 16 filters this is the network of theirs
        for CIFAR-10, of depth 6 n + 2 with n blocks a stage.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int | None = None,
        outputs: int = 1,
        *,
        max_stages: int = 4,
        max_blocks: int = 3,
        filters: Sequence[int] = (16, 32, 64),
        activations: Sequence[str] | None = None,
        name: str = "resnet",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, filters, activations, classes=classes, outputs=outputs, name=name, **kwargs)
        self.max_stages = min(integer("max_stages", max_stages), self.halvings + 1)
        self.max_blocks = integer("max_blocks", max_blocks)

    def blocks(self, hp: Any, x: Any, activation: str, filters: int) -> Any:
        """Return the average of each channel behind the last block."""
        with self.own_choices(hp):
            stages, blocks = hp.Int(self.own_name("stages"), 1, self.max_stages), hp.Int(self.own_name("blocks"), 1, self.max_blocks)
        x = self._normalized(hp, x, filters, 3, activation, "first")
        x = self.activated(x, activation, "first")
        for stage in range(stages):
            for block in range(blocks):
                name = f"{stage + 1}_{block + 1}"
                x = self._block(hp, x, filters * 2**stage, 2 if stage > 0 and block == 0 else 1, activation, name)
        x = keras.layers.GlobalAveragePooling2D(**LAST)(x)
        for layer in choices.dropout(hp):
            x = layer(x)
        return x

    def _block(self, hp: Any, x: Any, filters: int, strides: int, activation: str, name: str) -> Any:
        inner = self._normalized(hp, x, filters, 3, activation, f"{name}_a", strides)
        inner = self.whole_channels_dropped(hp, self.activated(inner, activation, f"{name}_a"))
        inner = self._normalized(hp, inner, filters, 3, activation, f"{name}_b")
        if strides > 1:
            x = self._normalized(hp, x, filters, 1, activation, f"{name}_projection", strides)
        x = keras.layers.Add(name=f"sum_{name}")([x, inner])
        return self.activated(x, activation, f"{name}_b")

    def _normalized(self, hp: Any, x: Any, filters: int, size: int, activation: str, name: str, strides: int = 1) -> Any:
        # The normalization has an offset of its own.
        x = self.convolution(hp, filters, size, activation, f"convolution_{name}", strides, use_bias=False)(x)
        for layer in self.own_normalization(hp, "batch", "layer"):
            x = layer(x)
        return x
