"""The kinds of networks that a search may be over, and the search space of each."""

import math
from collections.abc import Sequence
from typing import Any

from keras_ext._checks import BadInput, one_of
from keras_ext.search.spaces import CNN, LSTM, MLP, ImageNetworks, ResidualMLP, ResNet, Space
from keras_ext.search.spaces.mlp import DEEP

NETWORKS = ("auto", "mlp", "residual", "cnn", "resnet", "lstm")
# Of a block of a residual network, without a first layer.
_LAYERS_OF_BLOCK = 2
# Channels by which images are known.
_CHANNELS = (1, 3, 4)


def network_of(network: str, shape: Sequence[int], max_layers: int | None = None, widths: str = "same") -> str:
    """Return the network that is searched for samples of this shape: `network` itself, or for `"auto"` the one that their shape says.

    - `"images"`, CNNs and ResNets together: height, width and 1, 3 or 4 channels.
    - `"lstm"`: two axes, time and features.
    - `"residual"`: else, where networks may have more than six hidden layers, all of one width.
    - `"mlp"`: else.

    Args:
        network: one of `NETWORKS`.
        shape: of one sample.
        max_layers: most hidden layers; None: that of the search space.
        widths: of the hidden layers.

    Raises:
        ValueError: `network` is unknown.
        BadInput: it does not go with samples of this shape, or with the other arguments.

    Examples:
        >>> [network_of("auto", shape) for shape in ((64,), (28, 28, 1), (20, 3))]
        ['mlp', 'images', 'lstm']
    """
    one_of("network", network, NETWORKS)
    axes = len(shape)
    if network == "auto":
        is_image = axes == 3 and shape[2] in _CHANNELS and min(shape[:2]) > 1
        flat = "residual" if (max_layers or 0) > DEEP and widths == "same" else "mlp"
        network = "images" if is_image else "lstm" if axes == 2 else flat
    reported = " x ".join(map(str, shape))
    if network in ("cnn", "resnet") and (axes not in (2, 3) or (network == "cnn" and min(shape[:2]) < 2)):
        raise BadInput(f"`network` {network} needs samples of height and width, and channels if any, got {reported}. Take mlp.")
    if network == "lstm" and axes != 2:
        raise BadInput(f"`network` lstm needs samples of time and features, got {reported}. Take mlp.")
    if widths != "same" and network != "mlp":
        raise BadInput(f"`widths` {widths} goes with `network` mlp, got {network}. Leave it out.")
    fewest = 1 + _LAYERS_OF_BLOCK if network in ("residual", "resnet", "images") else 1
    if max_layers is not None and max_layers < fewest:
        raise BadInput(f"`max_layers` must be at least {fewest} with `network` {network}, got {max_layers}. Take another one.")
    return network


def space_of(network: str, input_shape: Sequence[int], max_layers: int | None = None, widths: str = "same", **kwargs: Any) -> Space:
    """Return the search space of a network that `network_of` returned; `kwargs` are arguments of `Space`.

    >>> space_of("residual", (4,), max_layers=9).blocks
    (1, 2, 4)
    """
    if network == "mlp":
        return MLP(tuple(input_shape), **({} if max_layers is None else {"max_layers": max_layers}), widths=widths, **kwargs)
    if network == "residual":
        if max_layers is None:
            return ResidualMLP(input_shape, **kwargs)
        most = (max_layers - 1) // _LAYERS_OF_BLOCK
        return ResidualMLP(input_shape, blocks=[blocks for blocks in (1, 2, 4, 8, 16) if blocks <= most], **kwargs)
    if network == "lstm":
        return LSTM(input_shape, **({} if max_layers is None else {"max_layers": max_layers}), **kwargs)
    cnn: dict[str, Any] = {} if max_layers is None else {"max_blocks": max_layers}
    if network == "cnn":
        return CNN(input_shape, **cnn, **kwargs)
    stages, blocks = (4, 3) if max_layers is None else _stages_and_blocks(max_layers)
    if network == "resnet":
        return ResNet(input_shape, max_stages=stages, max_blocks=blocks, **kwargs)
    return ImageNetworks(input_shape, **cnn, max_stages=stages, blocks_of_stage=blocks, **kwargs)


def moments_of(network: str, mean: Any, variance: Any) -> tuple[Any, Any]:
    """Return mean and variance as a network needs them: of each number, or of each channel or feature, wherever in the sample it stands.

    >>> import numpy as np
    >>> moments_of("lstm", np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]))
    (array([1.]), array([2.]))
    """
    if network in ("mlp", "residual") or mean.ndim < 2:
        return mean, variance
    # Of an image without channels, and of a series of single numbers, all numbers are of one kind.
    axes = tuple(range(mean.ndim - 1)) if network == "lstm" or mean.ndim == 3 else tuple(range(mean.ndim))
    overall = mean.mean(axis=axes)
    return overall, variance.mean(axis=axes) + ((mean - overall) ** 2).mean(axis=axes)


def _stages_and_blocks(max_layers: int) -> tuple[int, int]:
    """Return the most stages and blocks a stage that a ResNet of so many layers with weights has room for, four stages if it can."""
    blocks = (max_layers - 1) // _LAYERS_OF_BLOCK
    stages = min(4, blocks)
    return stages, math.floor(blocks / stages)
