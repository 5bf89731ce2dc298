"""The cost of an optimizer's update: a compiled step that does nothing else."""

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
from keras_ext import optimizers
from keras_ext._backend import wait

PARTS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {"Adam": (lambda: optimizers.Adam(), lambda: keras.optimizers.Adam())}
# How many weights, of which shape.
WEIGHTS = [(64, (64, 64)), (4, (2048, 2048))]
SMALL_WEIGHTS = [(2, (4, 4))]


class UpdateOnly(keras.Model):
    """A model whose train step applies the gradients that it is given as data."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        # Not trainable, so that PyTorch records no operations; the train steps of Keras switch that off around the update.
        self.parts = [self.add_weight(shape=shape, initializer="glorot_uniform", trainable=False, name=f"w{i}") for i in range(count)]
        self.built = True

    def train_step(self, *args: Any) -> Any:
        """Take `data`, or on JAX `state, data`, and return logs, or on JAX `logs, state`."""
        if keras.backend.backend() != "jax":
            self.optimizer.apply(list(args[0]), self.parts)
            return {"iterations": ops.convert_to_tensor(self.optimizer.iterations)}
        (trainable, values, slots, metrics), gradients = args
        values, slots = self.optimizer.stateless_apply(slots, list(gradients), values)
        return {}, (trainable, values, slots, metrics)


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each optimizer on each set of weights in each mode."""
    for part in PARTS:
        for count, shape in SMALL_WEIGHTS if effort.small else WEIGHTS:
            for mode, jit in modes().items():
                text = f"{count} of {shape[0]} x {shape[1]}"
                yield Case(f"{part} {text} {mode}", partial(_measure, part, text, count, shape, mode, jit, effort))


def _measure(part: str, text: str, count: int, shape: tuple[int, ...], mode: str, jit: bool, effort: measure.Effort) -> Figure:
    keras.utils.clear_session()
    gc.collect()
    steps = {name: _step(make, count, shape, jit) for name, make in zip(("ours", "keras"), PARTS[part], strict=True)}
    seconds = measure.interleave(measure.samples(steps, wait, effort), effort)
    return Figure(
        part=part,
        case=text,
        mode=mode,
        keras=1e3 * measure.spread(seconds["keras"]).median,
        ours=1e3 * measure.spread(seconds["ours"]).median,
        ratio=measure.ratios(seconds["ours"], seconds["keras"]),
        rounds=len(seconds["ours"]),
    )


def _step(make: Callable[[], Any], count: int, shape: tuple[int, ...], jit: bool) -> Callable[[], Any]:
    keras.utils.set_random_seed(0)
    model = UpdateOnly(count, shape)
    model.compile(make(), jit_compile=jit)  # type: ignore[arg-type]
    model.optimizer.build(model.parts)
    rng = np.random.default_rng(0)
    return compiled_step(model, tuple(ops.convert_to_tensor(rng.normal(size=shape).astype("float32")) for _ in range(count)))
