"""Peak memory: of a train step with six layers, less that without, and of a process that updates weights; each in a new process."""

import ctypes
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import apart
from benchmarks.comparison import Comparison
from benchmarks.compiled import jax_state, modes
from benchmarks.groups import layers, optimizers
from keras_ext._backend import wait

SETTING, SMALL_SETTING = layers.Setting((64, 56, 56, 32)), layers.Setting((2, 8, 8, 4))
WEIGHTS, SMALL_WEIGHTS = optimizers.Weights(8, (2048, 2048)), optimizers.Weights(2, (4, 4))
STEPS, MB = 3, 1e6


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each layer in each mode whose memory can be seen (what XLA's code takes inside TensorFlow cannot), and each optimizer."""
    how: dict[str, Any] = {"timed": False, "unit": "MB", "rounds": 3, "seconds": 0.0}
    for part in layers.PARTS:
        for mode, jit in modes().items():
            if mode != "XLA":
                steps = [partial(partial, apart.run, layer_peak, part, which, jit, small) for which in (0, 1, None)]
                yield Comparison(part, f"{SMALL_SETTING if small else SETTING}, peak memory", mode, *steps, **how)
    for part in ("Adam",) if small else optimizers.PARTS:
        for mode, jit in modes().items():
            steps = [partial(partial, apart.run, update_peak, part, which, jit, small) for which in (0, 1)]
            yield Comparison(part, f"{SMALL_WEIGHTS if small else WEIGHTS}, peak memory of the process", mode, *steps, **how)


def layer_peak(part: str, which: int | None, jit: bool, small: bool) -> float:
    """Return the peak of a train step in MB; on JAX what the compiled step says it needs for intermediate values."""
    kind = None if which is None else layers.PARTS[part][which]
    model, batch = layers.network(kind, small, SMALL_SETTING if small else SETTING, jit)
    model.train_on_batch(*batch)
    if keras.backend.backend() == "jax":
        import jax

        data = tuple(None if a is None else np.asarray(a) for a in batch)
        compiled = jax.jit(model.train_step).lower(jax_state(model), data).compile()
        return compiled.memory_analysis().temp_size_in_bytes / MB  # type: ignore[union-attr]
    # What building and compiling took is given back first.
    lower_mark()
    for _ in range(STEPS):
        model.train_on_batch(*batch)
    return mark()


def update_peak(part: str, which: int, jit: bool, small: bool) -> float:
    """Return the peak in MB of a process that updates weights."""
    step = optimizers.update_step(optimizers.PARTS[part][which], SMALL_WEIGHTS if small else WEIGHTS, jit)
    for _ in range(STEPS):
        wait(step())
    return mark()


def lower_mark() -> None:
    """Set the high-water mark of this process's resident memory to what it needs now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def mark() -> float:
    """Return the high-water mark in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MB
