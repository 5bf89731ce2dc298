"""A search space of convolutional networks."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._checks import bad_argument, integer, integers
from keras_ext.search import choices
from keras_ext.search.spaces.image import LAST, ImageSpace


class CNN(ImageSpace):
    """Search convolutional networks: blocks of convolution, normalization if chosen, activation and pooling.

    Each block halves height and width (rounded down, by the largest of two by two) and has twice the filters of the one before; there are
    at most as many blocks as leave a pixel. Behind them each channel is averaged, or all are flattened, then dropout if chosen.

    Chosen are the number of blocks, filters, size of the kernel, average or flatten (a choice only where more than one pixel is left),
    activation, initializer, normalization, dropout, optimizer, clipping, learning rate and batch size.

    Args:
        input_shape: (height, width, channels), or (height, width) for images of one channel; at least 2 pixels high and wide.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        max_blocks: most blocks, where the images are large enough.
        filters: of the first block, to choose from.
        kernels: heights and widths of the kernels to choose from.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        name: name of the search space.
        **kwargs: `mean`, `variance` (of an image, of a channel, or one number), and the other
            arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, or only one of `mean` and `variance` is given.

    Examples:
        >>> import keras_tuner
        >>> space = CNN(input_shape=(28, 28), classes=10)
        >>> space.build(keras_tuner.HyperParameters()).output_shape
        (None, 10)

    References:
        LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition, section II, for convolution and
        pooling in turn; Simonyan and Zisserman (2015), arXiv:1409.1556, for filters that double where the image halves; Lin, Chen and Yan
        (2014), arXiv:1312.4400, section 3.2, for the average of each channel in place of flattening.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int | None = None,
        outputs: int = 1,
        *,
        max_blocks: int = 4,
        filters: Sequence[int] = (16, 32, 64),
        kernels: Sequence[int] = (3, 5),
        activations: Sequence[str] | None = None,
        name: str = "cnn",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, filters, activations, classes=classes, outputs=outputs, name=name, **kwargs)
        if self.halvings < 1:
            raise bad_argument("input_shape", "of images at least 2 pixels high and wide", self.input_shape)
        self.max_blocks = min(integer("max_blocks", max_blocks), self.halvings)
        self.kernels = integers("kernels", kernels)

    def blocks(self, hp: Any, x: Any, activation: str, filters: int) -> Any:
        """Return the features behind the last block."""
        with self.own_choices(hp):
            size, count = hp.Choice(self.own_name("kernel"), list(self.kernels)), hp.Int(self.own_name("blocks"), 1, self.max_blocks)
        for i in range(1, count + 1):
            x = self.convolution(hp, filters * 2 ** (i - 1), size, activation, f"convolution_{i}")(x)
            for layer in self.own_normalization(hp, "none", "batch"):
                x = layer(x)
            x = keras.layers.MaxPooling2D(name=f"pooling_{i}", **LAST)(self.activated(x, activation, str(i)))
            x = self.whole_channels_dropped(hp, x)
        x = self._flat(hp, x)
        for layer in choices.dropout(hp):
            x = layer(x)
        return x

    def _flat(self, hp: Any, x: Any) -> Any:
        """Return `x` of shape (batch, features). The average of one pixel is that pixel: no choice there."""
        height, width = self.input_shape[:2]
        several = [n for n in range(1, self.max_blocks + 1) if (height >> n) * (width >> n) > 1]
        chosen = None
        if several:
            with self.own_choices(hp), hp.conditional_scope(self.own_name("blocks"), several):
                chosen = hp.Choice(self.own_name("flat"), ["average", "flatten"])
        return keras.layers.GlobalAveragePooling2D(**LAST)(x) if chosen == "average" else keras.layers.Flatten(**LAST)(x)
