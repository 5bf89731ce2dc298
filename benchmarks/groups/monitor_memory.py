"""The monitor's memory: the peak of a fit with it, over that of the fit alone, beside what a training step of 256 samples adds."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np

from benchmarks.groups.memory import lower_mark, mark
from benchmarks.measuring import measure
from benchmarks.measuring.figure import Case, Figure
from keras_ext.callbacks import SaturationMonitor

SAMPLES = 256
KINDS = ("ResNet50, pictures of 32 x 32", "100 dense layers of 64 units", "8 dense layers of 1,024 units", "a small convolutional network")


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each network; the small effort takes the last alone."""
    for kind in KINDS[-1:] if effort.small else KINDS:
        yield Case(f"SaturationMonitor, memory, {kind}", partial(_measure, kind, effort))


def _measure(kind: str, effort: measure.Effort) -> Figure:
    rounds = 1
    rises: dict[str, list[float]] = {"step": [], "monitor": []}
    for _ in range(rounds):
        for name in rises:
            words = [sys.executable, "-m", "benchmarks.groups.monitor_memory", kind, name]
            rises[name].append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    return Figure.of(
        part="SaturationMonitor",
        case=f"{kind}: rise of a fit's peak memory by the monitor ({SAMPLES} samples), over that by a step of {SAMPLES}",
        mode="as Keras chooses",
        ours=rises["monitor"],
        keras=rises["step"],
        unit="MB",
    )


def rise(kind: str, what: str) -> float:
    """Return by how many MB the peak of this process rises over that of a fit in batches of 32."""
    model, x = _network(kind)
    y = np.random.default_rng(0).integers(0, 10, len(x), dtype="int32")
    model.compile("adam", "sparse_categorical_crossentropy")
    lower_mark()  # a child begins with its parent's
    model.fit(x[:64], y[:64], batch_size=32, verbose=0)
    before = mark()
    if what == "step":
        model.fit(x, y, batch_size=SAMPLES, epochs=2, verbose=0)
    else:
        monitor = SaturationMonitor(x, y, probe_size=SAMPLES, on_critical=None)
        model.fit(x[:64], y[:64], batch_size=32, epochs=2, verbose=0, callbacks=[monitor])
    # No ratio can be taken of nothing.
    return max(mark() - before, 0.1)


def _network(kind: str) -> tuple[Any, np.ndarray]:
    shape = {KINDS[0]: (32, 32, 3), KINDS[1]: (64,), KINDS[2]: (1024,), KINDS[3]: (28, 28, 1)}[kind]
    x = np.random.default_rng(0).normal(size=(2 * SAMPLES, *shape)).astype("float32")
    if kind == KINDS[0]:
        return keras.applications.ResNet50(weights=None, input_shape=shape, classes=10), x
    if kind == KINDS[3]:
        blocks = [layer for f in (16, 32) for layer in (keras.layers.Conv2D(f, 3, activation="relu"), keras.layers.MaxPooling2D())]
        hidden = [*blocks, keras.layers.Flatten()]
    else:
        hidden = [keras.layers.Dense(shape[0], "relu") for _ in range(100 if kind == KINDS[1] else 8)]
    return keras.Sequential([keras.Input(shape), *hidden, keras.layers.Dense(10, "softmax")]), x


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    print(json.dumps(rise(*sys.argv[1:])))
