"""The cost of an optimizer's update: a compiled step that does nothing else, less the same step without an update."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from benchmarks.comparison import Comparison, Step
from benchmarks.compiled import compiled_step, modes
from keras_ext import optimizers

Make = Callable[[], Any]
# Ours, Keras's.
PARTS: dict[str, tuple[Make, Make]] = {
    "SGD, momentum": (partial(optimizers.SGD, momentum=0.9), partial(keras.optimizers.SGD, momentum=0.9)),
    "Adagrad": (optimizers.Adagrad, keras.optimizers.Adagrad),
    "RMSprop": (optimizers.RMSprop, keras.optimizers.RMSprop),
    "Adam": (optimizers.Adam, keras.optimizers.Adam),
}
EMBEDDINGS = {"Adagrad": PARTS["Adagrad"], "Adam, lazy": (partial(optimizers.Adam, lazy=True), keras.optimizers.Adam)}


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


WEIGHTS, SMALL_WEIGHTS = [Weights(64, (64, 64)), Weights(4, (2048, 2048))], [Weights(2, (4, 4))]
TABLE, SMALL_TABLE = Weights(1, (500_000, 64), ids=4096), Weights(1, (50, 4), ids=8)


class Idle(keras.optimizers.Optimizer):
    """Counts the steps, and leaves the weights alone."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Count."""
        self.iterations.assign_add(1)


class UpdateOnly(keras.Model):
    """A model whose train step applies the gradients that it is given as data."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        # Not trainable, so that PyTorch records no operations; the train steps of Keras switch that off around the update.
        about = {"shape": weights.shape, "initializer": "glorot_uniform", "trainable": False}
        self.parts = [self.add_weight(name=f"w{i}", **about) for i in range(weights.count)]
        self.weights_kind = weights
        self.built = True

    def train_step(self, *args: Any) -> Any:
        """Take `data`, or on JAX `state, data`, and return logs, or on JAX `logs, state`."""
        if keras.backend.backend() == "jax":
            (trainable, values, slots, metrics), gradients = args
            values, slots = self.optimizer.stateless_apply(slots, list(gradients), values)
            return {}, (trainable, values, slots, metrics)
        gradients = list(args[0])
        if self.weights_kind.ids:
            import tensorflow as tf

            ids, rows = gradients
            self.optimizer.apply([tf.IndexedSlices(rows, ids, tf.constant(self.weights_kind.shape))], self.parts)
            # Of rows that are scattered into, TensorFlow copies the whole weight where it is read as one.
            return {"last": tf.gather(self.parts[-1].value, [0])[0, 0]}
        self.optimizer.apply(gradients, self.parts)
        # A number of what was updated: who waits for it on a GPU waits for the update.
        return {"last": ops.convert_to_tensor(self.parts[-1])[0, 0]}


def comparisons(small: bool) -> Iterator[Comparison]:
    """Yield each optimizer on each set of weights in each mode, and on an embedding where its gradient names its rows."""
    every = [(part, pair, weights) for part, pair in PARTS.items() for weights in (SMALL_WEIGHTS if small else WEIGHTS)]
    if keras.backend.backend() == "tensorflow":
        every += [(part, pair, SMALL_TABLE if small else TABLE) for part, pair in EMBEDDINGS.items()]
    for part, pair, weights in every:
        for mode, jit in modes().items():
            yield update(part, pair, partial(Idle, learning_rate=0.0), weights, mode, jit)  # type: ignore[call-arg]


def update(part: str, pair: tuple[Make, Make], base: Make, weights: Weights, mode: str, jit: bool) -> Comparison:
    """Return the comparison of what the updates of `pair` add to the step of `base`."""
    return Comparison(part, str(weights), mode, *(partial(update_step, make, weights, jit) for make in (*pair, base)))


def update_step(make: Make, weights: Weights, jit: bool) -> Step:
    """Return a compiled step that applies given gradients to `weights` with the optimizer that `make` returns."""
    keras.utils.set_random_seed(0)
    model = UpdateOnly(weights)
    model.compile(make(), jit_compile=jit)  # type: ignore[arg-type]
    model.optimizer.build(model.parts)
    rng = np.random.default_rng(0)
    if not weights.ids:
        arrays = [rng.normal(size=weights.shape).astype("float32") for _ in range(weights.count)]
    else:
        # As in a text: few ids often, most once.
        ids = np.minimum(rng.zipf(1.3, weights.ids), weights.shape[0]) - 1
        arrays = [ids.astype("int32"), rng.normal(size=(weights.ids, *weights.shape[1:])).astype("float32")]
    return compiled_step(model, tuple(map(ops.convert_to_tensor, arrays)))
