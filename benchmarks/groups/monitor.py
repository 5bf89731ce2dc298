"""What the monitor adds to a fit's time and memory, and what a snapshot costs as the network grows deeper."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import keras_tuner
import numpy as np

from benchmarks import apart, searching
from benchmarks.comparison import Comparison, Step
from benchmarks.groups.memory import lower_mark, mark
from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.probe.probe import Probe, affordable

SAMPLES = 256
# A fit takes seconds and returns them itself, in ms: fewer rounds than elsewhere, and more time for them.
FITS: dict[str, Any] = {"timed": False, "percent": True, "rounds": 3, "seconds": 25.0}
RESNET, PICTURES = "ResNet50, pictures of 32 x 32", "a small convolutional network"
DEEP, WIDE = "100 dense layers of 64 units", "8 dense layers of 1,024 units"
_of_monitor = partial(Comparison, "SaturationMonitor")


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield a search, fits, steps and snapshots of a ResNet50, snapshots of deep networks, and the rise of a fit's peak memory."""
    trials, epochs = (1, 1) if small else (3, 10)
    case = f"digits, {trials} trials of KerasTuner's RandomSearch of {epochs} epochs"
    yield _of_monitor(case, "as Keras chooses", *_watched_and_not(_search, trials, epochs), **FITS)
    for name, samples, batch, most in (("dense, digits", 1797, 32, 10), ("convolutional", 60_000, 64, 3)):
        samples, epochs = (64, 1) if small else (samples, most)
        case = f"{name}: fit of {samples:,} samples, batch {batch}, {epochs} epochs"
        yield _of_monitor(case, "as Keras chooses", *_watched_and_not(_fit, name, samples, batch, epochs), **FITS)
    for side in (32,) if small else (32, 224):
        yield residual(side, small)
    for count in (2,) if small else (10, 100, 300):
        samples = 8 if small else SAMPLES
        case = f"a snapshot of {count} dense layers of 64 units, {samples} samples, over a training step of as many"
        yield _of_monitor(case, "without XLA", *(partial(snapshot_or_step, is_snapshot, count, samples) for is_snapshot in (True, False)))
    for kind in (PICTURES,) if small else (RESNET, DEEP, WIDE, PICTURES):
        case = f"{kind}: rise of a fit's peak memory by the monitor ({SAMPLES} samples), over that by a step of {SAMPLES}"
        builders = [partial(partial, apart.run, memory_rise, kind, what) for what in ("monitor", "step")]
        yield _of_monitor(case, "as Keras chooses", *builders, timed=False, unit="MB", rounds=1, seconds=0.0)


def _watched_and_not(run: Callable[..., float], *arguments: Any) -> Iterator[Callable[[], Step]]:
    """Yield what builds `run(is_watched, *arguments)` with the monitor and without, after a first one of a single epoch."""

    def build(is_watched: bool) -> Step:
        run(is_watched, *arguments[:-1], 1)
        return partial(run, is_watched, *arguments)

    yield from (partial(build, is_watched) for is_watched in (True, False))


def _milliseconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)


def _search(is_watched: bool, trials: int, epochs: int) -> float:
    """Run a search's trials, from building a model to its file."""
    keras.utils.clear_session()
    split, space, held_out = searching.digits()
    callbacks = [SaturationMonitor(split.x, split.y, on_critical=None)] if is_watched else []
    fit = {"validation_data": held_out, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
    with searching.quiet_tuner(keras_tuner.RandomSearch, space, objective=space.objective, max_trials=trials, seed=1) as tuner:
        return _milliseconds(lambda: tuner.search(split.x, split.y, **fit))


def _fit(is_watched: bool, name: str, samples: int, batch: int, epochs: int) -> float:
    """Fit a new network; building it is not counted, compiling is."""
    keras.utils.clear_session()
    if name == "convolutional":
        model, shape = network(PICTURES)
        x, y = pictures(samples, shape)
    else:
        digits: Any = searching.load_digits()
        x, y = (digits.x[:samples] / 16).astype("float32"), digits.y[:samples].astype("int32")
        model = dense(64, 2)
    model.compile("adam", "sparse_categorical_crossentropy")
    callbacks = [SaturationMonitor(x, y, on_critical=None)] if is_watched else []
    return _milliseconds(lambda: model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks))


def pictures(samples: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return normal numbers and ten classes."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, *shape)).astype("float32"), rng.integers(0, 10, samples, dtype="int32")


def dense(units: int, count: int) -> Any:
    """Return a network of `count` hidden layers, on as many inputs as each has units."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(units, "relu", kernel_initializer="he_normal") for _ in range(count)]
    return keras.Sequential([keras.Input((units,)), *hidden, keras.layers.Dense(10, "softmax")])


def network(kind: str, side: int = 32) -> tuple[Any, tuple[int, ...]]:
    """Return a network of ten classes and the shape of its inputs."""
    if kind in (DEEP, WIDE):
        return (dense(64, 100), (64,)) if kind == DEEP else (dense(1024, 8), (1024,))
    keras.utils.set_random_seed(0)
    if kind == RESNET:
        return keras.applications.ResNet50(weights=None, input_shape=(side, side, 3), classes=10), (side, side, 3)
    blocks = [layer for f in (16, 32) for layer in (keras.layers.Conv2D(f, 3, activation="relu"), keras.layers.MaxPooling2D())]
    return keras.Sequential([keras.Input((28, 28, 1)), *blocks, keras.layers.Flatten(), keras.layers.Dense(10, "softmax")]), (28, 28, 1)


def residual(side: int, small: bool) -> Comparison:
    """Return the comparison of 500 steps with an epoch's five snapshots and the steps alone, from one of each."""
    samples, steps, snapshots = (2, 5, 3) if small else (64, 500, 5)
    detail: dict[str, float] = {}

    def pair() -> Iterator[Step]:
        model, shape = network(RESNET, side)
        x, y = pictures(8 if small else SAMPLES, shape)
        model.compile("adam", "sparse_categorical_crossentropy")
        probe = Probe(model, affordable(model, (x, y, None)))
        step, snapshot = (lambda: model.train_on_batch(x[:samples], y[:samples])), (lambda: probe.snapshot(0, 0))
        detail.update({"first step": _milliseconds(step), "first snapshot": _milliseconds(snapshot)})
        yield lambda: detail["first snapshot"] + (snapshots - 1) * _milliseconds(snapshot)
        yield lambda: detail["first step"] + (steps - 1) * _milliseconds(step)

    both = pair()
    case = f"ResNet50, pictures of {side} x {side}: {steps} steps of {samples} and {snapshots} snapshots, from one of each"
    return _of_monitor(case, "as Keras chooses", both.__next__, both.__next__, added=True, **FITS, detail=detail)


def snapshot_or_step(is_snapshot: bool, count: int, samples: int) -> Step:
    """Return a snapshot of a deep network or a training step of it, without XLA."""
    x, y = pictures(samples, (64,))
    model = dense(64, count)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)  # type: ignore[arg-type]
    probe = Probe(model, (x, y, None))
    # Both give numbers of the host back, so that there is nothing to wait for.
    return lambda: (probe.snapshot(1, 0) if is_snapshot else model.train_on_batch(x, y)) and None


def memory_rise(kind: str, what: str) -> float:
    """Return by how many MB the peak of this process rises over that of a fit in batches of 32."""
    model, shape = network(kind)
    x, y = pictures(2 * SAMPLES, shape)
    model.compile("adam", "sparse_categorical_crossentropy")
    lower_mark()
    model.fit(x[:64], y[:64], batch_size=32, verbose=0)
    before = mark()
    if what == "step":
        model.fit(x, y, batch_size=SAMPLES, epochs=2, verbose=0)
    else:
        monitor = SaturationMonitor(x, y, probe_size=SAMPLES, on_critical=None)
        model.fit(x[:64], y[:64], batch_size=32, epochs=2, verbose=0, callbacks=[monitor])
    # No ratio can be taken of nothing.
    return max(mark() - before, 0.1)
