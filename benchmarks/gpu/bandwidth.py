"""Which share of the device's copy bandwidth a part reaches: the bytes that it moves at least, over its time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.gpu.gradients import Step, passes, settled
from benchmarks.groups import clipping, layers, optimizers
from benchmarks.measuring import measure
from benchmarks.measuring.compiled import modes
from benchmarks.measuring.figure import Figure
from benchmarks.measuring.measure import Spread
from benchmarks.studies import frame

# Larger than any cache: what is read again comes from memory again.
SHAPE, SMALL_SHAPE = (256, 56, 56, 64), (2, 4, 4, 4)
WEIGHTS, SMALL_WEIGHTS = optimizers.Weights(4, (4096, 4096)), optimizers.Weights(2, (4, 4))
POLICIES = ("float32", "mixed_bfloat16")
# How often a tensor as large as the input is read or written at least. With both passes in one program the gradient is there from the
# start. BatchNormalization: x for its statistics; x, dy and y, with the sums that the way back needs; x, dy and dx.
TIMES = {
    ("BatchNormalization", "forward"): 3,
    ("BatchNormalization", "forward and backward"): 7,
    ("Dropout", "forward"): 2,
    ("Dropout", "forward and backward"): 4,
}
# Weights, two moments and gradients in, the first three out; with clipping the gradients once before, for their norm.
UPDATES = {
    "Adam": (7, optimizers.PARTS["Adam"]),
    "Adam, clipped by global_norm": (8, clipping.PARTS["global_norm"]),
}


@dataclass(frozen=True)
class Moved:
    """A part's time, and what it moves at least.

    Args:
        figure: the times of ours and Keras's, and their ratio.
        bytes: that are read and written at least.
        ours: share of the copy bandwidth that ours reaches.
        keras: the same of Keras's.
    """

    figure: Figure
    bytes: int
    ours: float
    keras: float


def share(bytes_moved: int, milliseconds: float, copied: float) -> float:
    """Return which share of the bandwidth `copied`, in bytes a second, it is to move so many bytes in that time.

    >>> share(4_000_000_000, 2.0, 4e12)
    0.5
    """
    return bytes_moved / (milliseconds / 1e3) / copied


def copied(effort: measure.Effort) -> Spread:
    """Return the bytes a second that a copy reads and writes: `x + 1`, since not every framework copies when it is asked to."""
    size = 2**14 if effort.small else 2**26
    x = ops.zeros((size,), "float32")
    sample = measure.samples({"copy": lambda: ops.add(x, 1.0)}, settled, effort)
    return measure.spread([2 * 4 * size / seconds for seconds in measure.interleave(sample, effort)["copy"]])


def cases(effort: measure.Effort, bandwidth: float) -> Iterator[tuple[str, Callable[[], Moved]]]:
    """Yield a title and what measures it: each layer forward and with its way back, Adam, and Adam with clipping, in each mode."""
    for mode, jit in modes().items():
        for part in layers.PARTS:
            for policy in POLICIES:
                for way in ("forward", "forward and backward"):
                    yield f"{part}, {way}, {policy}", partial(_layer, part, way, policy, mode, jit, effort, bandwidth)
        for part in UPDATES:
            yield part, partial(_update, part, mode, jit, effort, bandwidth)


def _layer(part: str, way: str, policy: str, mode: str, jit: bool, effort: measure.Effort, bandwidth: float) -> Moved:
    keras.utils.clear_session()
    setting = layers.Setting(SMALL_SHAPE if effort.small else SHAPE, policy=policy)
    steps = {}
    for name, make in zip(("ours", "keras"), layers.PARTS[part], strict=True):
        layer = make(0, setting)
        layer.build(setting.shape)
        rng = np.random.default_rng(0)
        x, dy = (ops.convert_to_tensor(rng.standard_normal(setting.shape, "float32"), layer.compute_dtype) for _ in range(2))
        steps[name] = passes(layer, x, dy, jit)[way != "forward"]
    size = int(np.prod(setting.shape)) * (4 if policy == "float32" else 2)
    return _moved(part, f"{setting}, {way}", mode, steps, TIMES[part, way] * size, effort, bandwidth)


def _update(part: str, mode: str, jit: bool, effort: measure.Effort, bandwidth: float) -> Moved:
    keras.utils.clear_session()
    times, pair = UPDATES[part]
    weights = SMALL_WEIGHTS if effort.small else WEIGHTS
    steps = {name: optimizers.update_step(make, weights, jit) for name, make in zip(("ours", "keras"), pair, strict=True)}
    size = 4 * weights.count * int(np.prod(weights.shape))
    return _moved(part, str(weights), mode, steps, times * size, effort, bandwidth)


def _moved(part: str, case: str, mode: str, steps: dict[str, Step], size: int, effort: measure.Effort, bandwidth: float) -> Moved:
    seconds = measure.interleave(measure.samples(steps, settled, effort), effort)
    ours, theirs = (1e3 * measure.spread(seconds[name]).median for name in ("ours", "keras"))
    ratio = measure.ratios(seconds["ours"], seconds["keras"])
    figure = Figure(part=part, case=case, mode=mode, keras=theirs, ours=ours, ratio=ratio, rounds=len(seconds["ours"]))
    return Moved(figure, size, share(size, ours, bandwidth), share(size, theirs, bandwidth))


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return records of `Moved` as a table in Markdown."""
    head = ["part", "case", "mode", "GB at least", "Keras's ms", "ours ms", "ours / Keras's", "Keras's share of a copy's", "ours"]
    rows = []
    for record in records:
        figure, shares = record["figure"], [record["keras"], record["ours"]]
        times = [f"{figure[name]:.3f}" for name in ("keras", "ours")]
        cells = [f"{record['bytes'] / 1e9:.2f}", *times, str(Spread(**figure["ratio"])), *(f"{s:.0%}" for s in shares)]
        rows.append([figure["part"], figure["case"], figure["mode"], *cells])
    return frame.markdown(head, rows)
