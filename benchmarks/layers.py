"""A layer's own cost: a train step with six of it, less the same train step without."""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks import measure
from benchmarks.compiled import compiled_step, modes
from benchmarks.figure import Case, Figure
from keras_ext import layers
from keras_ext._backend import wait

LAYERS, FEW_LAYERS = 6, 1
MakeLayer = Callable[[int], Any]
# Ours, Keras's. Each dropout has a seed of its own: Keras's layers with the same seed share a mask, which a compiler draws once.
PARTS: dict[str, tuple[MakeLayer, MakeLayer]] = {
    "BatchNormalization": (lambda i: layers.BatchNormalization(), lambda i: keras.layers.BatchNormalization()),
    "Dropout": (lambda i: layers.Dropout(0.1, seed=i + 1), lambda i: keras.layers.Dropout(0.1, seed=i + 1)),
}
_STEPS = {"none": "step without", "ours": "step with ours", "keras": "step with Keras's"}
SHAPES = [(16, 56, 56, 32), (1024, 256)]
SMALL_SHAPES = [(2, 8, 8, 4), (8, 16)]


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each layer on each shape in each mode."""
    for part in PARTS:
        for shape in SMALL_SHAPES if effort.small else SHAPES:
            for mode, jit in modes().items():
                yield Case(f"{part} {_text(shape)} {mode}", partial(_measure, part, shape, mode, jit, effort))


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _measure(part: str, shape: tuple[int, ...], mode: str, jit: bool, effort: measure.Effort) -> Figure:
    keras.utils.clear_session()
    gc.collect()
    ours, theirs = PARTS[part]
    steps = {
        name: _step(make, FEW_LAYERS if effort.small else LAYERS, shape, jit)
        for name, make in {"none": None, "ours": ours, "keras": theirs}.items()
    }
    seconds = measure.interleave(measure.samples(steps, wait, effort), effort)
    own = {name: measure.added(seconds[name], seconds["none"]) for name in ("ours", "keras")}
    return Figure(
        part=part,
        case=_text(shape),
        mode=mode,
        keras_ms=1e3 * measure.spread(own["keras"]).median,
        ours_ms=1e3 * measure.spread(own["ours"]).median,
        ratio=measure.own_cost_ratios(own["ours"], own["keras"]),
        rounds=len(own["ours"]),
        detail={_STEPS[name]: 1e3 * measure.spread(seconds[name]).median for name in seconds},
    )


def _step(make: MakeLayer | None, count: int, shape: tuple[int, ...], jit: bool) -> Callable[[], Any]:
    """Return the train step of a network of `count` blocks with the layer, or without it if `make` is None."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape[1:])
    for i in range(count):
        # A matrix product keeps a compiler from merging one layer with the next, as in a network that learns something.
        x = _mix(shape)(x)
        if make is not None:
            x = make(i)(x)
        x = keras.layers.ReLU()(x)
    if len(shape) == 4:
        x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(1e-4), "mse", jit_compile=jit)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    batch = (rng.normal(size=shape).astype("float32"), rng.normal(size=(shape[0], 1)).astype("float32"), None)
    model.train_on_batch(*batch)  # builds the loss, the metrics and the optimizer
    return compiled_step(model, tuple(None if a is None else ops.convert_to_tensor(a) for a in batch))


def _mix(shape: tuple[int, ...]) -> Any:
    kind = partial(keras.layers.Conv2D, kernel_size=1) if len(shape) == 4 else keras.layers.Dense
    return kind(shape[-1], use_bias=False, kernel_initializer="he_normal")
