"""How one trial uses several devices."""

from typing import Any

import keras

from keras_ext import _backend
from keras_ext._checks import BadInput

STRATEGIES = ("mirrored",)


def check(strategy: str | None) -> str | None:
    """Return `strategy` if Keras's backend knows it."""
    if strategy is None:
        return None
    if strategy not in STRATEGIES:
        raise BadInput(f"--strategy must be mirrored, got {strategy}.")
    if keras.backend.backend() == "torch":
        raise BadInput("--strategy mirrored: Keras's PyTorch backend trains a model on one device. Leave it out, or take another backend.")
    return strategy


def over_all_devices(tuner: Any, strategy: str | None) -> None:
    """Let each model of `tuner` train on all devices, each with a copy of the weights and its part of every batch; None: on one."""
    if check(strategy) is not None:
        _backend.mirror(tuner)
