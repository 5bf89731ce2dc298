"""What the monitor adds to a fit: the seconds of a new model's first fit with it, over those without."""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

from benchmarks import measure
from benchmarks.figure import Case, Figure
from keras_ext.callbacks import SaturationMonitor

# A fit takes seconds: fewer rounds than elsewhere, and more time for them.
FITS, SECONDS = 3, 25.0
Build = Callable[[measure.Effort], tuple[Any, Any, Any, int, int]]


class TimedMonitor(SaturationMonitor):
    """A monitor that notes how long its start, which compiles the look and looks once, and each further look take."""

    starts: list[float] = []  # over all fits of one figure
    further: list[float] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Time the start."""
        begin = time.perf_counter()
        super().on_train_begin(logs)
        self.starts.append(time.perf_counter() - begin)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Time the look."""
        begin = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.further.append(time.perf_counter() - begin)


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield a small dense network on the digits and a convolutional one on synthetic pictures."""
    yield Case("SaturationMonitor dense", partial(_measure, "dense, digits", _dense, effort))
    yield Case("SaturationMonitor convolutional", partial(_measure, "convolutional", _convolutional, effort))


def _dense(effort: measure.Effort) -> tuple[Any, Any, Any, int, int]:
    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype("float32"), labels.astype("int32")
    net = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *net])
    return (model, x[:64], y[:64], 32, 1) if effort.small else (model, x, y, 32, 10)


def _convolutional(effort: measure.Effort) -> tuple[Any, Any, Any, int, int]:
    samples = 64 if effort.small else 4096
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(samples, 28, 28, 1)).astype("float32"), rng.integers(0, 10, samples, dtype="int32")
    blocks = [layer for filters in (16, 32) for layer in (keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D())]
    model = keras.Sequential([keras.Input((28, 28, 1)), *blocks, keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    return model, x, y, 64, 1 if effort.small else 3


def _measure(text: str, build: Build, effort: measure.Effort) -> Figure:
    variants = {"with": partial(_fit, build, effort, True), "without": partial(_fit, build, effort, False)}
    for monitored in (True, False):
        _fit(build, replace(effort, small=True), monitored)  # imports and first calls of the framework
    TimedMonitor.starts, TimedMonitor.further = [], []
    seconds = measure.interleave(variants, effort if effort.small else replace(effort, least=FITS, seconds=SECONDS))
    _, x, _, batch, epochs = build(effort)
    return Figure(
        part="SaturationMonitor",
        case=f"{text}: fit of {len(x):,} samples, batch {batch}, {epochs} epochs",
        mode="as Keras chooses",
        keras=1e3 * measure.spread(seconds["without"]).median,
        ours=1e3 * measure.spread(seconds["with"]).median,
        ratio=measure.ratios(seconds["with"], seconds["without"]),
        rounds=len(seconds["with"]),
        percent=True,
        detail={
            "start": 1e3 * measure.spread(TimedMonitor.starts).median,
            "further look": 1e3 * measure.spread(TimedMonitor.further).median,
        },
    )


def _fit(build: Build, effort: measure.Effort, monitored: bool) -> float:
    """Return the seconds of the first fit of a new model; building it is not counted, compiling is."""
    keras.utils.clear_session()
    gc.collect()
    keras.utils.set_random_seed(0)
    model, x, y, batch, epochs = build(effort)
    model.compile("adam", "sparse_categorical_crossentropy")
    callbacks = [TimedMonitor(x, y, on_critical=None)] if monitored else []
    begin = time.perf_counter()
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)  # type: ignore[arg-type]
    return time.perf_counter() - begin
