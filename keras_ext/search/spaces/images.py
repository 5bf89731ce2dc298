"""A search space of convolutional and residual networks together."""

from collections.abc import Sequence
from typing import Any

from keras_ext.search.spaces.cnn import CNN
from keras_ext.search.spaces.image import ImageSpace
from keras_ext.search.spaces.resnet import ResNet


class ImageNetworks(ImageSpace):
    """Search the networks of `CNN` and those of `ResNet`: the kind is the hyperparameter "network".

    Blocks, stages, kernels and normalization are chosen for each by itself: `blocks_cnn`, `blocks_resnet` and so on. The rest is chosen for
    both.

    Args:
        input_shape: (height, width, channels), or (height, width) for images of one channel; at least 2 pixels high and wide.
        classes: number of classes, at least 2; None for regression.
        outputs: numbers to predict, in regression.
        max_blocks: most blocks of a CNN.
        max_stages: most stages of a ResNet.
        blocks_of_stage: most blocks of such a stage.
        filters: of the first convolutions, to choose from.
        kernels: heights and widths of a CNN's kernels to choose from.
        activations: to choose from, see `choices.activation`; None: the usual ones, or all with `wide`.
        name: name of the search space.
        **kwargs: `mean`, `variance` (of an image, of a channel, or one number), and the other arguments of `Space`.

    Raises:
        ValueError: an argument is out of range, or only one of `mean` and `variance` is given.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> ImageNetworks(input_shape=(28, 28), classes=10).build(hp).output_shape, hp["network"]
        ((None, 10), 'cnn')

    References:
        Those of `CNN` and `ResNet`.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int | None = None,
        outputs: int = 1,
        *,
        max_blocks: int = 4,
        max_stages: int = 4,
        blocks_of_stage: int = 3,
        filters: Sequence[int] = (16, 32, 64),
        kernels: Sequence[int] = (3, 5),
        activations: Sequence[str] | None = None,
        name: str = "images",
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, filters, activations, classes=classes, outputs=outputs, name=name, **kwargs)
        shared: dict[str, Any] = {"filters": filters, "activations": activations, "classes": classes, "outputs": outputs, **kwargs}
        self.networks: dict[str, ImageSpace] = {
            "cnn": CNN(input_shape, max_blocks=max_blocks, kernels=kernels, **shared),
            "resnet": ResNet(input_shape, max_stages=max_stages, max_blocks=blocks_of_stage, **shared),
        }
        for each, space in self.networks.items():
            space.network = each

    def blocks(self, hp: Any, x: Any, activation: str, filters: int) -> Any:
        """Return the features behind the last block of the chosen network."""
        chosen = hp.Choice("network", list(self.networks))
        for name in self.networks:
            with hp.conditional_scope("network", [name]):
                pass  # so that KerasTuner builds one of each before the first trial
        return self.networks[chosen].blocks(hp, x, activation, filters)
