"""A layer's own cost: a train step with six of it, less the same train step without."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.measuring import measure
from benchmarks.measuring.compiled import compiled_step, modes
from benchmarks.measuring.figure import Case, Figure
from keras_ext import layers
from keras_ext._backend import wait

LAYERS, FEW_LAYERS = 6, 1


@dataclass(frozen=True)
class Setting:
    """What the layer works on: the shape of a batch, the axis of its channels, the layer's dtype policy."""

    shape: tuple[int, ...]
    axis: int = -1
    policy: str = "float32"

    def __str__(self) -> str:
        """Return it as a person reads it."""
        text = " x ".join(str(size) for size in self.shape)
        if self.axis != -1:
            text += f", channels on axis {self.axis}"
        return text if self.policy == "float32" else f"{text}, {self.policy}"


MakeLayer = Callable[[int, Setting], Any]
# Ours, Keras's. Each dropout has a seed of its own: Keras's layers with the same seed share a mask, which a compiler draws once.
PARTS: dict[str, tuple[MakeLayer, MakeLayer]] = {
    "BatchNormalization": (
        lambda i, setting: layers.BatchNormalization(setting.axis, dtype=setting.policy),
        lambda i, setting: keras.layers.BatchNormalization(setting.axis, dtype=setting.policy),
    ),
    "Dropout": (
        lambda i, setting: layers.Dropout(0.1, seed=i + 1, dtype=setting.policy),
        lambda i, setting: keras.layers.Dropout(0.1, seed=i + 1, dtype=setting.policy),
    ),
}
_STEPS = {"none": "step without", "ours": "step with ours", "keras": "step with Keras's"}
IMAGES = Setting((16, 56, 56, 32))
DENSE = Setting((1024, 256))
HALVES = [replace(IMAGES, policy=policy) for policy in ("mixed_float16", "mixed_bfloat16")]
SETTINGS = {
    "BatchNormalization": [
        IMAGES,
        *HALVES,
        Setting((16, 32, 56, 56), axis=1),
        Setting((16, 56, 56, 3)),
        Setting((64, 7, 7, 1024)),
        DENSE,
    ],
    "Dropout": [IMAGES, *HALVES, DENSE],
}
SMALL_SETTINGS = [Setting((2, 8, 8, 4)), Setting((2, 4, 8, 8), axis=1, policy="mixed_bfloat16"), Setting((8, 16))]


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each layer in each setting in each mode."""
    for part, settings in SETTINGS.items():
        for setting in SMALL_SETTINGS if effort.small else settings:
            for mode, jit in modes().items():
                yield Case(f"{part} {setting} {mode}", partial(own_cost, part, setting, mode, jit, effort))


def own_cost(part: str, setting: Setting, mode: str, jit: bool, effort: measure.Effort) -> Figure:
    """Return what six of our layer add to a train step, over what six of Keras's add."""
    keras.utils.clear_session()
    gc.collect()
    ours, theirs = PARTS[part]
    steps = {
        name: train_step(make, FEW_LAYERS if effort.small else LAYERS, setting, jit)
        for name, make in {"none": None, "ours": ours, "keras": theirs}.items()
    }
    seconds = measure.interleave(measure.samples(steps, wait, effort), effort)
    own = {name: measure.added(seconds[name], seconds["none"]) for name in ("ours", "keras")}
    return Figure.of(
        part=part,
        case=str(setting),
        mode=mode,
        ours=own["ours"],
        keras=own["keras"],
        own=True,
        detail={_STEPS[name]: 1e3 * measure.spread(seconds[name]).median for name in seconds},
    )


def train_step(make: MakeLayer | None, count: int, setting: Setting, jit: bool) -> Callable[[], Any]:
    """Return the train step of a network of `count` blocks with the layer, or without it if `make` is None."""
    model, batch = network(make, count, setting, jit)
    model.train_on_batch(*batch)  # builds the loss, the metrics and the optimizer
    return compiled_step(model, tuple(None if a is None else ops.convert_to_tensor(a) for a in batch))


def network(make: MakeLayer | None, count: int, setting: Setting, jit: bool) -> tuple[Any, tuple[Any, Any, None]]:
    """Return the compiled network and a batch for it. All but the layer is float32: half matrix products are slow on a CPU."""
    keras.utils.set_random_seed(0)
    shape = setting.shape
    x = inputs = keras.Input(shape[1:])
    for i in range(count):
        # A matrix product keeps a compiler from merging one layer with the next, as in a network that learns something.
        x = _mix(setting)(x)
        if make is not None:
            x = make(i, setting)(x)
        x = keras.layers.ReLU(dtype="float32")(x)
    if len(shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(1e-4), "mse", jit_compile=jit)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return model, (rng.normal(size=shape).astype("float32"), rng.normal(size=(shape[0], 1)).astype("float32"), None)


def _mix(setting: Setting) -> Any:
    # With the channels elsewhere the last axis is mixed: TensorFlow has no such convolution on the CPU.
    convolves = len(setting.shape) == 4 and setting.axis == -1
    kind = partial(keras.layers.Conv2D, kernel_size=1) if convolves else keras.layers.Dense
    return kind(setting.shape[-1], use_bias=False, kernel_initializer="he_normal")
