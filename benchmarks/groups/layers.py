"""A layer's own time: a train step with six of it, less the same train step without."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.comparison import Comparison, Step
from benchmarks.compiled import compiled_step, modes
from keras_ext import layers

LAYERS, FEW_LAYERS = 6, 1


@dataclass(frozen=True)
class Setting:
    """What the layer works on: the shape of a batch, the axis of its channels, the layer's dtype policy."""

    shape: tuple[int, ...]
    axis: int = -1
    policy: str = "float32"

    def __str__(self) -> str:
        """Return it as a person reads it."""
        axis = "" if self.axis == -1 else f", channels on axis {self.axis}"
        return " x ".join(map(str, self.shape)) + axis + ("" if self.policy == "float32" else f", {self.policy}")


# Ours, Keras's.
PARTS = {name: (getattr(layers, name), getattr(keras.layers, name)) for name in ("BatchNormalization", "Dropout")}
IMAGES, DENSE = Setting((16, 56, 56, 32)), Setting((1024, 256))
HALF, CHANNELS_FIRST = Setting(IMAGES.shape, policy="mixed_bfloat16"), Setting((16, 32, 56, 56), axis=1)
SETTINGS = {"BatchNormalization": [IMAGES, HALF, CHANNELS_FIRST, Setting((64, 7, 7, 1024)), DENSE], "Dropout": [IMAGES, DENSE]}
SMALL_SETTINGS = [Setting((2, 4, 8, 8), axis=1, policy="mixed_bfloat16"), Setting((8, 16))]


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each layer in each setting in each mode."""
    for part, settings in SETTINGS.items():
        for setting in SMALL_SETTINGS if small else settings:
            for mode, jit in modes().items():
                steps = (partial(train_step, kind, small, setting, jit) for kind in (*PARTS[part], None))
                yield Comparison(part, str(setting), mode, *steps)


def train_step(kind: Any, small: bool, setting: Setting, jit: bool) -> Step:
    """Return the train step of a network of blocks with a layer of that kind, or without it if `kind` is None."""
    model, batch = network(kind, small, setting, jit)
    model.train_on_batch(*batch)  # builds the loss, the metrics and the optimizer
    return compiled_step(model, tuple(None if a is None else ops.convert_to_tensor(a) for a in batch))


def network(kind: Any, small: bool, setting: Setting, jit: bool) -> tuple[Any, tuple[Any, Any, None]]:
    """Return the compiled network and a batch for it. All but the layer is float32: half matrix products are slow on a CPU."""
    keras.utils.set_random_seed(0)
    shape = setting.shape
    x = inputs = keras.Input(shape[1:])
    # With the channels elsewhere the last axis is mixed: TensorFlow has no such convolution on the CPU.
    convolves = len(shape) == 4 and setting.axis == -1
    mix = partial(keras.layers.Conv2D, kernel_size=1) if convolves else keras.layers.Dense
    for i in range(FEW_LAYERS if small else LAYERS):
        # A matrix product keeps a compiler from merging one layer with the next, as in a network that learns something.
        x = mix(shape[-1], use_bias=False, kernel_initializer="he_normal")(x)
        if kind is not None and kind in PARTS["Dropout"]:
            # Keras's layers with the same seed share a mask, which a compiler draws once.
            x = kind(0.1, seed=i + 1, dtype=setting.policy)(x)
        elif kind is not None:
            x = kind(setting.axis, dtype=setting.policy)(x)
        x = keras.layers.ReLU(dtype="float32")(x)
    if len(shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(1e-4), "mse", jit_compile=jit)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return model, (rng.normal(size=shape).astype("float32"), rng.normal(size=(shape[0], 1)).astype("float32"), None)
