"""What the monitor adds to a fit, beside what TensorBoard's histograms add, and what a look costs as the network grows deeper."""

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import keras_tuner
import numpy as np
from sklearn.datasets import load_digits

from benchmarks.groups import monitor_memory
from benchmarks.measuring import measure
from benchmarks.measuring.figure import Case, Figure
from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.looking.probe import Probe
from keras_ext.callbacks.looking.sample_cost import affordable
from keras_ext.search import load_digits as load_digits_table
from keras_ext.search.spaces import MLP

# A fit takes seconds: fewer rounds than elsewhere, and more time for them.
FITS, SECONDS = 3, 25.0
MakeCallback = Callable[[Any, Any], Any]
Build = Callable[[measure.Effort], tuple[Any, Any, Any, int, int]]


class TimedMonitor(SaturationMonitor):
    """A monitor that notes how long its start, which compiles the look and looks once, and each look at an epoch's end take."""

    starts: list[float] = []  # over all fits of one figure
    further: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Time the start."""
        begin = time.perf_counter()
        super().on_epoch_begin(epoch, logs)
        if epoch == 0:
            self.starts.append(time.perf_counter() - begin)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Time the look."""
        begin = time.perf_counter()
        super().on_epoch_end(epoch, logs)
        self.further.append(time.perf_counter() - begin)


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield fits of a small dense network on the digits and a convolutional one on synthetic pictures, and looks at deep networks."""
    yield Case("SaturationMonitor in a search", partial(_in_a_search, effort))
    yield Case("SaturationMonitor dense", partial(dense, effort))
    yield Case("SaturationMonitor convolutional", partial(_measure, "convolutional", _convolutional, effort))
    if keras.backend.backend() == "tensorflow":  # Keras's own callback needs it
        yield Case("SaturationMonitor beside TensorBoard", partial(_beside_tensorboard, effort))
    for side in (32,) if effort.small else (32, 224):
        yield Case(f"SaturationMonitor, ResNet50, {side} x {side}", partial(residual, side, effort))
    for layers in (2, 3) if effort.small else (10, 100, 300):
        yield Case(f"SaturationMonitor, {layers} layers", partial(look, layers, effort))
    yield from monitor_memory.cases(effort)


def dense(effort: measure.Effort) -> Figure:
    """Return what the monitor adds to a fit of a small dense network on the digits."""
    return _measure("dense, digits", _dense, effort)


def _dense(effort: measure.Effort) -> tuple[Any, Any, Any, int, int]:
    images, labels = load_digits(return_X_y=True)
    x, y = (images / 16).astype("float32"), labels.astype("int32")
    net = [keras.layers.Dense(64, "relu"), keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((64,)), *net])
    return (model, x[:64], y[:64], 32, 1) if effort.small else (model, x, y, 32, 10)


def _convolutional(effort: measure.Effort) -> tuple[Any, Any, Any, int, int]:
    samples = 64 if effort.small else 60_000
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(samples, 28, 28, 1)).astype("float32"), rng.integers(0, 10, samples, dtype="int32")
    blocks = [layer for filters in (16, 32) for layer in (keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D())]
    model = keras.Sequential([keras.Input((28, 28, 1)), *blocks, keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
    return model, x, y, 64, 1 if effort.small else 3


def _measure(text: str, build: Build, effort: measure.Effort) -> Figure:
    """Return the time of a fit with the monitor over that of the fit alone."""
    figure, _ = _compared(text, build, effort, {"ours": _monitor, "keras": None})
    detail = {"start": 1e3 * measure.spread(TimedMonitor.starts).median, "further look": 1e3 * measure.spread(TimedMonitor.further).median}
    return replace(figure, percent=True, detail=detail)


def _in_a_search(effort: measure.Effort) -> Figure:
    """Return the time of a search's trials with the monitor over that of the same without, from building a model to its file."""
    trials, epochs = (1, 1) if effort.small else (3, 10)
    split = load_digits_table().split(0.2, 0)
    space = MLP((64,), classes=10, mean=split.x.mean(axis=0), variance=split.x.var(axis=0), samples=len(split.x))

    def seconds_of(callback: MakeCallback | None) -> float:
        keras.utils.clear_session()
        gc.collect()
        keras.utils.set_random_seed(0)
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            tuner = keras_tuner.RandomSearch(space, space.objective, max_trials=trials, seed=1, directory=folder, project_name="trials")
            callbacks = [callback(split.x, split.y)] if callback else []
            begin = time.perf_counter()
            held_out = (split.x_validation, split.y_validation)
            tuner.search(split.x, split.y, validation_data=held_out, epochs=epochs, verbose=0, callbacks=callbacks)
            return time.perf_counter() - begin

    seconds_of(_monitor)
    variants = {"ours": partial(seconds_of, _monitor), "keras": partial(seconds_of, None)}
    seconds = measure.interleave(variants, effort if effort.small else replace(effort, least=FITS, seconds=SECONDS))
    return replace(_figure(f"digits, {trials} trials of KerasTuner's RandomSearch of {epochs} epochs", seconds), percent=True)


def _beside_tensorboard(effort: measure.Effort) -> Figure:
    """Return the time of a fit with the monitor over that with Keras's TensorBoard and its histograms."""
    with tempfile.TemporaryDirectory() as folder:
        callbacks = {"ours": _monitor, "keras": partial(_histograms, folder), "neither": None}
        figure, seconds = _compared("dense, digits, beside TensorBoard(histogram_freq=1)", _dense, effort, callbacks)
    return replace(figure, detail={"fit without either": 1e3 * measure.spread(seconds["neither"]).median})


def _compared(
    text: str, build: Build, effort: measure.Effort, callbacks: dict[str, MakeCallback | None]
) -> tuple[Figure, dict[str, list[float]]]:
    """Return the figure of the fits with `callbacks["ours"]` over those with `callbacks["keras"]`, and the seconds of all."""
    variants = {name: partial(_fit, build, effort, callback) for name, callback in callbacks.items()}
    for callback in callbacks.values():
        _fit(build, replace(effort, small=True), callback)  # imports and first calls of the framework
    TimedMonitor.starts, TimedMonitor.further = [], []
    seconds = measure.interleave(variants, effort if effort.small else replace(effort, least=FITS, seconds=SECONDS))
    _, x, _, batch, epochs = build(effort)
    figure = _figure(f"{text}: fit of {len(x):,} samples, batch {batch}, {epochs} epochs", seconds)
    return figure, seconds


def _figure(case: str, seconds: dict[str, list[float]]) -> Figure:
    return Figure.of(
        part="SaturationMonitor",
        case=case,
        mode="as Keras chooses",
        ours=seconds["ours"],
        keras=seconds["keras"],
    )


def residual(side: int, effort: measure.Effort) -> Figure:
    """Return the time of 500 steps with the five looks of an epoch over that of the steps, from one look and one step timed in turn."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    samples, steps, looks = (2, 5, 3) if effort.small else (64, 500, 5)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(256, side, side, 3)).astype("float32"), rng.integers(0, 10, 256, dtype="int32")
    model: Any = keras.applications.ResNet50(weights=None, input_shape=(side, side, 3), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    probe = Probe(model, affordable(model, (x, y, None)))
    first = [_timed(each) for each in (lambda: model.train_on_batch(x[:samples], y[:samples]), lambda: probe.look(0, 0))]
    variants = {
        "step": lambda: _timed(lambda: model.train_on_batch(x[:samples], y[:samples])),
        "look": lambda: _timed(lambda: probe.look(1, 0)),
    }
    seconds = measure.interleave(variants, effort if effort.small else replace(effort, least=FITS, seconds=SECONDS))
    alone = [first[0] + (steps - 1) * step for step in seconds["step"]]
    both = [time_alone + first[1] + (looks - 1) * look for time_alone, look in zip(alone, seconds["look"], strict=True)]
    return Figure.of(
        part="SaturationMonitor",
        case=f"ResNet50, pictures of {side} x {side}: {steps} steps of {samples} and {looks} looks, from one of each",
        mode="as Keras chooses",
        ours=both,
        keras=alone,
        percent=True,
        detail={"first look": 1e3 * first[1], "further look": 1e3 * measure.spread(seconds["look"]).median, "first step": 1e3 * first[0]},
    )


def _timed(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def look(layers: int, effort: measure.Effort) -> Figure:
    """Return the time of a look at 256 samples over that of a training step of 256 samples, without XLA."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    samples = 8 if effort.small else 256
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(samples, 64)).astype("float32"), rng.integers(0, 10, samples, dtype="int32")
    hidden = [keras.layers.Dense(64, "relu", kernel_initializer="he_normal") for _ in range(layers)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    probe = Probe(model, (x, y, None))
    begin = time.perf_counter()
    probe.look(0, 0)
    first = time.perf_counter() - begin
    # Both give numbers of the host back, so that there is nothing to wait for.
    steps = {"look": lambda: probe.look(1, 0), "step": lambda: model.train_on_batch(x, y)}
    seconds = measure.interleave(measure.samples(steps, lambda _: None, effort), effort)
    return Figure.of(
        part="SaturationMonitor",
        case=f"a look at {layers} dense layers of 64 units, {samples} samples, over a training step of as many",
        mode="without XLA",
        ours=seconds["look"],
        keras=seconds["step"],
        detail={"first look": 1e3 * first},
    )


def _monitor(x: Any, y: Any) -> Any:
    return TimedMonitor(x, y, on_critical=None)


def _histograms(folder: str, x: Any, y: Any) -> Any:
    return keras.callbacks.TensorBoard(tempfile.mkdtemp(dir=folder), histogram_freq=1)


def _fit(build: Build, effort: measure.Effort, callback: MakeCallback | None) -> float:
    """Return the seconds of the first fit of a new model; building it is not counted, compiling is."""
    keras.utils.clear_session()
    gc.collect()
    keras.utils.set_random_seed(0)
    model, x, y, batch, epochs = build(effort)
    model.compile("adam", "sparse_categorical_crossentropy")
    callbacks = [callback(x, y)] if callback else []
    begin = time.perf_counter()
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)  # type: ignore[arg-type]
    return time.perf_counter() - begin
