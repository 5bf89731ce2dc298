"""One backend's figures on its GPU, in this process, one after the other while there is time."""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import click
import keras
import numpy as np
from keras import ops

import keras_ext
from benchmarks.gpu import bandwidth
from benchmarks.gpu.gradients import settled
from benchmarks.groups import monitor
from benchmarks.measuring import machine, measure
from benchmarks.measuring.compiled import compiled_step
from benchmarks.measuring.figure import Figure
from benchmarks.measuring.measure import QUICK, Effort
from benchmarks.page import report
from benchmarks.studies import digits_search
from keras_ext.search import Settings

# So that all of it takes under eight minutes: no step takes three, and none begins after so many seconds.
LAST_START = 5 * 60
EFFORT = Effort(seconds=1.0, least=5)
TRIALS, EPOCHS, PICTURES = 8, 20, 64
# Where the result of a step goes, its title, and the step.
Step = tuple[str, str, Callable[[], dict[str, Any]]]


def figures(small: bool, last_start: float = LAST_START, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Return what `on_gpu-<backend>.json` holds; what no time was left for is named."""
    backend, effort, began = keras.backend.backend(), QUICK if small else EFFORT, clock()
    header = machine.header(f"python -m benchmarks.studies.on_gpu --backend {backend}{' --small' if small else ''}")
    copied = bandwidth.copied(effort)
    kept: dict[str, Any] = {"header": header, "backend": backend, "copied": asdict(copied)}
    kept |= {"moved": [], "figures": [], "searches": [], "left out": []}
    for place, title, step in _steps(effort, copied.median):
        if clock() - began > last_start:
            kept["left out"].append(title)
            continue
        click.echo(f"{clock() - began:4.0f} s  {title}", err=True)
        kept[place].append(step())
    return kept | {"seconds": clock() - began}


def _steps(effort: Effort, copied: float) -> Iterator[Step]:
    for title, measured in bandwidth.cases(effort, copied):
        yield "moved", title, lambda measured=measured: asdict(measured())
    side, pictures = (32, 2) if effort.small else (224, PICTURES)
    yield "figures", "ResNet50, float32", lambda: asdict(_resnet(side, pictures, "float32", effort))
    yield "figures", "the monitor in a fit", lambda: asdict(monitor.dense(effort))
    yield "figures", "the monitor with a ResNet50", lambda: asdict(monitor.residual(side, effort))
    settings = Settings(trials=1, epochs=1) if effort.small else Settings(trials=TRIALS, epochs=EPOCHS)
    yield "searches", "a search on the digits", partial(digits_search.figures, settings)
    if not effort.small:
        yield "figures", "ResNet50, mixed_bfloat16", lambda: asdict(_resnet(side, pictures, "mixed_bfloat16", effort))


def _resnet(side: int, pictures: int, policy: str, effort: Effort) -> Figure:
    """Return the time of a train step after `upgrade` over that of the step before, with Adam."""
    keras.utils.clear_session()
    gc.collect()
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        theirs: Any = keras.applications.ResNet50(weights=None, input_shape=(side, side, 3), classes=10)
        theirs.compile("adam", "sparse_categorical_crossentropy")
        ours = keras_ext.upgrade(theirs, optimizer=True)
    finally:
        keras.config.set_dtype_policy(before)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((pictures, side, side, 3), "float32"), rng.integers(0, 10, pictures, dtype="int32")
    steps = {}
    for name, model in (("ours", ours), ("keras", theirs)):
        model.train_on_batch(x, y)  # builds the loss, the metrics and the optimizer
        steps[name] = compiled_step(model, (ops.convert_to_tensor(x), ops.convert_to_tensor(y), None))
    seconds = measure.interleave(measure.samples(steps, settled, effort), effort)
    return Figure.of(
        part="ResNet50 after upgrade",
        case=f"a train step of {pictures} pictures of {side} x {side}, {policy}",
        mode="as Keras chooses",
        ours=seconds["ours"],
        keras=seconds["keras"],
    )


def section(kept: dict[str, Any]) -> str:
    """Return the figures as tables in Markdown."""
    copied = measure.Spread(*(kept["copied"][name] / 1e9 for name in ("median", "low", "high")))
    parts = [f"A copy moves {copied.median:,.0f} GB/s ({copied.low:,.0f} to {copied.high:,.0f}). All of it took {kept['seconds']:.0f} s."]
    if kept["moved"]:
        parts.append(bandwidth.table(kept["moved"]))
    if kept["figures"]:
        parts.append(report.rows(kept["figures"]))
    parts += [digits_search.section(found) for found in kept["searches"]]
    if kept["left out"]:
        parts.append(f"No time was left for: {', '.join(kept['left out'])}.")
    return "\n\n".join(parts)
