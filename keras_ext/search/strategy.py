"""How one trial uses several devices."""

import math
from typing import Any

import keras

from keras_ext import _backend
from keras_ext._checks import bad_argument, one_of


def check(strategy: str | None) -> str | None:
    """Return `strategy` if Keras's backend knows it."""
    one_of("strategy", strategy, (None, "mirrored"))
    if strategy is not None and keras.backend.backend() == "torch":
        fix = "Keras's PyTorch backend trains a model on one device. Leave it out, or take another backend."
        raise bad_argument("strategy", "None on PyTorch", strategy, fix)
    return strategy


def over_all_devices(tuner: Any, strategy: str | None) -> None:
    """Let each model of `tuner` train on all devices, each with a copy of the weights and its part of every batch; None: on one."""
    if check(strategy) is not None:
        _backend.mirror(tuner)


def in_equal_parts(model: Any, x: Any, y: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Return the arguments of fit so that every batch, the last too, divides into equal parts for the devices of `model`.

    TensorFlow and JAX refuse other batches. Up to one sample for each device is left out of the samples of training and of those of
    validation.
    """
    parts = device_count(model)
    if parts == 1:
        return x, y, kwargs

    def cut(data: Any) -> Any:
        return keras.tree.map_structure(lambda a: a[: len(a) // parts * parts] if hasattr(a, "shape") else a, data)

    def whole(size: int) -> int:
        return -(-size // parts) * parts

    kwargs = {**kwargs, "batch_size": whole(kwargs.get("batch_size") or 32)}
    if kwargs.get("validation_batch_size"):
        kwargs["validation_batch_size"] = whole(kwargs["validation_batch_size"])
    if kwargs.get("validation_data") is not None:
        kwargs["validation_data"] = cut(kwargs["validation_data"])
    return cut(x), cut(y), kwargs


def device_count(model: Any) -> int:
    """Return how many devices train `model`, each on its part of every batch."""
    distribution = keras.distribution.distribution()
    if distribution is not None:
        return math.prod(distribution.device_mesh.shape)
    strategy = getattr(model, "distribute_strategy", None)  # of TensorFlow
    return 1 if strategy is None else strategy.num_replicas_in_sync
