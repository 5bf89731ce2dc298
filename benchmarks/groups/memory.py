"""A layer's own memory: the peak of a train step with six of it, less that of the same step without; and a process's with an optimizer."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.groups import optimizers
from benchmarks.groups.layers import FEW_LAYERS, LAYERS, PARTS, Setting, network
from benchmarks.groups.optimizers import Weights
from benchmarks.measuring import measure
from benchmarks.measuring.compiled import jax_state, modes
from benchmarks.measuring.figure import Case, Figure
from keras_ext._backend import wait

SETTING, SMALL_SETTING = Setting((64, 56, 56, 32)), Setting((2, 8, 8, 4))
WEIGHTS, SMALL_WEIGHTS = Weights(8, (2048, 2048)), Weights(2, (4, 4))
_STEPS, _MB = 3, 1e6


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each layer in each mode whose memory can be seen (what XLA's code takes inside TensorFlow cannot), and each optimizer."""
    for part in PARTS:
        for mode, jit in modes().items():
            if mode != "XLA":
                yield Case(f"{part} {mode}, memory", partial(_measure, part, mode, jit, effort.small))
    for part in list(optimizers.PARTS)[-1:] if effort.small else optimizers.PARTS:
        for mode, jit in modes().items():
            yield Case(f"{part} {mode}, memory", partial(_measure_process, part, mode, jit, effort.small))


def _peaks(part: str, names: Sequence[str], jit: bool, small: bool) -> dict[str, list[float]]:
    """Return the peaks of each variant, a process for each of its rounds."""
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(2 if small else 3):
        for name in names:
            words = [sys.executable, "-m", "benchmarks.groups.memory", part, name, str(int(jit)), str(int(small))]
            peaks[name].append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    return peaks


def _measure_process(part: str, mode: str, jit: bool, small: bool) -> Figure:
    peaks = _peaks(part, ("ours", "keras"), jit, small)
    return Figure.of(
        part=part,
        case=f"{SMALL_WEIGHTS if small else WEIGHTS}, peak memory of the process",
        mode=mode,
        ours=peaks["ours"],
        keras=peaks["keras"],
        unit="MB",
    )


def _measure(part: str, mode: str, jit: bool, small: bool) -> Figure:
    peaks = _peaks(part, ("none", "ours", "keras"), jit, small)
    rounds = len(peaks["none"])
    median = {name: measure.spread(values).median for name, values in peaks.items()}
    own = {name: measure.added(peaks[name], [median["none"]] * rounds) for name in ("ours", "keras")}
    return Figure.of(
        part=part,
        case=f"{SMALL_SETTING if small else SETTING}, peak memory",
        mode=mode,
        ours=own["ours"],
        keras=own["keras"],
        own=True,
        unit="MB",
        detail={"step without": median["none"]},
    )


def peak(part: str, name: str, jit: bool, small: bool) -> float:
    """Return the peak of a train step's memory in MB, in a process of its own; with an optimizer that of the process since it began."""
    if part in optimizers.PARTS:
        lower_mark()  # a child begins with its parent's
        step = optimizers.update_step(optimizers.PARTS[part][name == "keras"], SMALL_WEIGHTS if small else WEIGHTS, jit)
        for _ in range(_STEPS):
            wait(step())
        return mark()
    make = {"none": None, "ours": PARTS[part][0], "keras": PARTS[part][1]}[name]
    model, batch = network(make, FEW_LAYERS if small else LAYERS, SMALL_SETTING if small else SETTING, jit)
    model.train_on_batch(*batch)
    if keras.backend.backend() == "jax":
        return _jax_peak(model, batch)
    # What building and compiling took is given back first.
    lower_mark()
    for _ in range(_STEPS):
        model.train_on_batch(*batch)
    return mark()


def lower_mark() -> None:
    """Set the high-water mark of this process's resident memory to what it needs now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def mark() -> float:
    """Return the high-water mark in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / _MB


def _jax_peak(model: Any, batch: Any) -> float:
    import jax

    data = tuple(None if a is None else np.asarray(a) for a in batch)
    compiled = jax.jit(model.train_step).lower(jax_state(model), data).compile()
    return compiled.memory_analysis().temp_size_in_bytes / _MB  # type: ignore[union-attr]


if __name__ == "__main__":
    part, name, jit, small = sys.argv[1:]
    result = peak(part, name, bool(int(jit)), bool(int(small)))
    print(json.dumps(result), flush=True)
    os._exit(0)
