"""The parts beside the layers with weights, as hyperparameters: normalization, dropout, and penalties on the weights."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ext._backend.keras_private import conditional_scope
from keras_ext._checks import bad_argument, in_range, one_of
from keras_ext.layers import BatchNormalization, Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

_NORMALIZATIONS = {
    "none": lambda: [],
    "batch": lambda: [BatchNormalization()],
    "layer": lambda: [keras.layers.LayerNormalization()],
}
_DROPOUTS = (Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D)


def normalization(
    hp: Any, name: str = "normalization", kinds: Sequence[str] = ("none", "batch"), batch_sizes: Sequence[int] = ()
) -> list[Any]:
    """Choose batch normalization or none; returns a list of no or one layer, to stand before the activation.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        kinds: to choose from: "none", "batch" and "layer", which is Keras's LayerNormalization.
        batch_sizes: what the hyperparameter "batch_size" chooses from, if there is one. A batch of one sample has no variance: with a 1
            among them, the kind is a choice for the other sizes only, and for 1 the first of `kinds` that is not "batch", or "none".

    Raises:
        ValueError: `kinds` is empty, or has another name.

    Examples:
        >>> import keras_tuner
        >>> normalization(keras_tuner.HyperParameters())
        []
    """
    if not isinstance(kinds, list | tuple) or not kinds or not all(isinstance(kind, str) and kind in _NORMALIZATIONS for kind in kinds):
        raise bad_argument("kinds", f"a sequence of some of {', '.join(map(repr, _NORMALIZATIONS))}", kinds)
    several = [size for size in batch_sizes if size > 1]
    if "batch" not in kinds or len(several) == len(batch_sizes):
        chosen = hp.Choice(name, list(kinds))
    else:
        chosen = next((kind for kind in kinds if kind != "batch"), "none")
        if several:
            with conditional_scope(hp, "batch_size", several):
                chosen = hp.Choice(name, list(kinds)) or chosen  # None where the scope is not active
    return _NORMALIZATIONS[chosen]()


def dropout(hp: Any, name: str = "dropout", largest: float = 0.5, spatial: int = 0, **kwargs: Any) -> list[Any]:
    """Choose a dropout rate from 0 to `largest` in steps of .1; returns a list of no or one layer.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        largest: the highest rate.
        spatial: 0: each number is dropped by itself. 1, 2 or 3: whole channels of sequences, images or volumes.
        **kwargs: of the layer.

    Raises:
        ValueError: `spatial` is something else.

    Examples:
        >>> import keras_tuner
        >>> dropout(keras_tuner.HyperParameters())
        []

    References:
        Tompson, Goroshin, Jain, LeCun and Bregler (2015), arXiv:1411.4280, section 3.2, for whole channels: neighbours in a channel
        say nearly the same, so that dropping one of them hides nothing.
    """
    one_of("spatial", spatial, range(len(_DROPOUTS)))
    rate = hp.Float(name, 0.0, largest, step=0.1)
    return [_DROPOUTS[spatial](rate, **kwargs)] if rate > 0 else []


def regularizer(hp: Any, name: str = "regularizer", strengths: tuple[float, float] = (1e-6, 1e-2)) -> Any:
    """Choose a penalty on the weights, L1 or L2, with its strength on a logarithmic scale, or none; returns a Keras regularizer or None.

    Each penalty has a strength of its own, `regularizer_l1` and `regularizer_l2`, which exists only where that penalty was chosen.

    Args:
        hp: KerasTuner's hyperparameters.
        name: of the hyperparameter.
        strengths: lowest and highest; where a search begins is their geometric mean.

    Raises:
        ValueError: `strengths` is not a rising pair of numbers above 0.

    Examples:
        >>> import keras_tuner
        >>> hp = keras_tuner.HyperParameters()
        >>> hp.values["regularizer"] = "l2"
        >>> round(regularizer(hp).l2, 6)
        0.0001
    """
    if not isinstance(strengths, list | tuple) or len(strengths) != 2:
        raise bad_argument("strengths", "a pair of numbers, the lowest and the highest", strengths)
    low = in_range("strengths", strengths[0], 0.0, closed="neither")
    high = in_range("strengths", strengths[1], low, closed="neither")
    classes = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
    chosen, made = hp.Choice(name, ["none", *classes]), None
    for option in classes:
        with conditional_scope(hp, name, [option]):
            if option == chosen:
                made = classes[option](hp.Float(f"{name}_{option}", low, high, default=(low * high) ** 0.5, sampling="log"))
    return made
