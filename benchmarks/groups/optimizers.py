"""The cost of an optimizer's update: a compiled step that does nothing else, less the same step without an update."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.measuring import measure
from benchmarks.measuring.compiled import compiled_step, modes
from benchmarks.measuring.figure import Case, Figure
from keras_ext import optimizers
from keras_ext._backend import wait

Make = Callable[[], Any]
PARTS: dict[str, tuple[Make, Make]] = {
    "SGD, momentum": (lambda: optimizers.SGD(momentum=0.9), lambda: keras.optimizers.SGD(momentum=0.9)),
    "Adagrad": (optimizers.Adagrad, keras.optimizers.Adagrad),
    "RMSprop": (optimizers.RMSprop, keras.optimizers.RMSprop),
    "Adam": (optimizers.Adam, keras.optimizers.Adam),
}
EMBEDDINGS: dict[str, tuple[Make, Make]] = {
    "Adagrad": (optimizers.Adagrad, keras.optimizers.Adagrad),
    "Adam, lazy": (lambda: optimizers.Adam(lazy=True), keras.optimizers.Adam),
}


@dataclass(frozen=True)
class Weights:
    """What is updated: `count` weights of `shape`; with `ids` the gradient names so many of their rows, some of them twice."""

    count: int
    shape: tuple[int, ...]
    ids: int | None = None

    def __str__(self) -> str:
        """Return it as a table names it."""
        text = f"{self.count} of {' x '.join(f'{n:,}' for n in self.shape)}"
        return f"{text}, {self.ids:,} ids" if self.ids else text


WEIGHTS = [Weights(64, (64, 64)), Weights(4, (2048, 2048))]
SMALL_WEIGHTS = [Weights(2, (4, 4))]
TABLE, SMALL_TABLE = Weights(1, (500_000, 64), ids=4096), Weights(1, (50, 4), ids=8)


class Idle(keras.optimizers.Optimizer):
    """Counts the steps, and leaves the weights alone."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0)

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Count."""
        self.iterations.assign_add(1)


class UpdateOnly(keras.Model):
    """A model whose train step applies the gradients that it is given as data."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        # Not trainable, so that PyTorch records no operations; the train steps of Keras switch that off around the update.
        self.parts = [
            self.add_weight(shape=weights.shape, initializer="glorot_uniform", trainable=False, name=f"w{i}") for i in range(weights.count)
        ]
        self.weights_kind = weights
        self.built = True

    def train_step(self, *args: Any) -> Any:
        """Take `data`, or on JAX `state, data`, and return logs, or on JAX `logs, state`."""
        if keras.backend.backend() != "jax":
            self.optimizer.apply(self._gradients(args[0]), self.parts)
            # A number of what was updated: who waits for it on a GPU waits for the update.
            return {"last": ops.convert_to_tensor(self.parts[-1])[0, 0]}
        (trainable, values, slots, metrics), gradients = args
        values, slots = self.optimizer.stateless_apply(slots, list(gradients), values)
        return {}, (trainable, values, slots, metrics)

    def _gradients(self, data: Any) -> list[Any]:
        if not self.weights_kind.ids:
            return list(data)
        import tensorflow as tf

        ids, rows = data
        return [tf.IndexedSlices(rows, ids, tf.constant(self.weights_kind.shape))]


def cases(effort: measure.Effort) -> Iterator[Case]:
    """Yield each optimizer on each set of weights in each mode, and on an embedding where its gradient names its rows."""
    every = [(part, pair, weights) for part, pair in PARTS.items() for weights in (SMALL_WEIGHTS if effort.small else WEIGHTS)]
    if keras.backend.backend() == "tensorflow":
        every += [(part, pair, SMALL_TABLE if effort.small else TABLE) for part, pair in EMBEDDINGS.items()]
    for part, pair, weights in every:
        for mode, jit in modes().items():
            yield Case(f"{part} {weights} {mode}", partial(compare, part, *pair, weights, mode, jit, effort))


def compare(
    part: str, ours: Make, theirs: Make, weights: Weights, mode: str, jit: bool, effort: measure.Effort, base: Make = Idle
) -> Figure:
    """Return what the update of `ours` adds to the step of `base`, over what that of `theirs` adds."""
    keras.utils.clear_session()
    gc.collect()
    steps = {name: update_step(make, weights, jit) for name, make in (("none", base), ("ours", ours), ("keras", theirs))}
    # A step that does nothing takes microseconds: as many of the others would take minutes.
    idle = measure.samples({"none": steps.pop("none")}, wait, effort)
    seconds = measure.interleave({**idle, **measure.samples(steps, wait, effort)}, effort)
    own = {name: measure.added(seconds[name], seconds["none"]) for name in ("ours", "keras")}
    return Figure.of(
        part=part,
        case=str(weights),
        mode=mode,
        ours=own["ours"],
        keras=own["keras"],
        own=True,
        detail={"step without": 1e3 * measure.spread(seconds["none"]).median},
    )


def update_step(make: Make, weights: Weights, jit: bool) -> Callable[[], Any]:
    """Return a compiled step that applies given gradients to `weights` with the optimizer that `make` returns."""
    keras.utils.set_random_seed(0)
    model = UpdateOnly(weights)
    model.compile(make(), jit_compile=jit)  # type: ignore[arg-type]
    model.optimizer.build(model.parts)
    rng = np.random.default_rng(0)
    if weights.ids:
        # As in a text: few ids often, most once.
        ids = np.minimum(rng.zipf(1.3, weights.ids), weights.shape[0]) - 1
        data = (ops.convert_to_tensor(ids, "int32"), ops.convert_to_tensor(rng.normal(size=(weights.ids, *weights.shape[1:])), "float32"))
    else:
        data = tuple(ops.convert_to_tensor(rng.normal(size=weights.shape).astype("float32")) for _ in range(weights.count))
    return compiled_step(model, data)
