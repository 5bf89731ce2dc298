"""Several training or test steps of a Keras model in one XLA program."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from jax.extend.core import primitives

from keras_ext._backend import keras_private
from keras_ext._backend.epoch_steps import Batches, EpochSteps, Take


def side_by_side() -> int:
    """Return how many models train side by side where nothing else is asked for: on a CPU one after another is as fast."""
    return 1 if jax.default_backend() == "cpu" else 16


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that no memory is left."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def draw_as_building(samples: int, batch_size: int, shuffle: Any) -> None:
    """Draw what `fit` draws where it builds the metrics of a model: it takes a first batch of so many samples, and begins again."""
    if shuffle:
        np.random.permutation(min(batch_size, samples) if shuffle == "batch" else samples)


def epoch_orders(samples: int) -> Callable[[], np.ndarray]:
    """Return a function that draws the order of the samples of the next epoch, as `fit` does."""
    return lambda: np.random.permutation(samples)


def on_device(arrays: Any) -> Any:
    """Return arrays as a program takes them again and again."""
    return jax.tree.map(jnp.asarray, arrays)


@jax.jit
def _copied(values: list[Any]) -> list[Any]:
    return [jnp.copy(value) for value in values]


def copies(variables: list[Any]) -> list[Any]:
    """Return the values of Keras variables, which stay as they are."""
    return _copied([variable.value for variable in variables])


def assign(variables: list[Any], values: list[Any]) -> None:
    """Give Keras variables values of their shapes and dtypes."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def training_here(model: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which `model`, whose variables stay the same, trains with less work between its steps."""
    return keras_private.state_brought_back(model)


def data_of_one_step() -> Any:
    """Return data for `fit` of one step that is never read."""
    return np.zeros((1, 0), "float32")


def scalars(values: Any) -> list[Any]:
    """Return the values of a vector as scalars that widen no dtype, as Python's floats do."""
    # `astype` makes no weak dtype.
    weak = primitives.convert_element_type_p.bind(values, new_dtype=values.dtype, weak_type=True, sharding=None)
    return [weak[i] for i in range(values.shape[0])]


def register_number(cls: Any) -> None:
    """Let functions that JAX compiles take objects of a class, which have a `tensor`, its `rest` or None, and an `interval`."""
    jax.tree_util.register_pytree_node(cls, lambda n: ((n.tensor, n.rest), n.interval), lambda interval, parts: cls(*parts, interval))


def state_beside(state: Any) -> Any:
    """Return the state of a model that a program of several takes over: all of it is there."""
    return state


def take_over(state: Any) -> Any:
    """Return the state after a program's steps."""
    return state


def functions(model: Any, training: EpochSteps, validation: EpochSteps, take: Take) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return functions for `model.train_function` and `model.test_function` that let `take` take the steps of an epoch."""
    return _epoch(model, training, True, take), _epoch(model, validation, False, take)


def _epoch(model: Any, epoch: EpochSteps, trains: bool, take: Take) -> Callable[..., Any]:
    one = jax.jit(model.train_step if trains else model.test_step)

    def step(state: Any, places: Any, arrays: Any) -> Any:
        return one(state, _rows(arrays, places))[1]

    def run(state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
        held = [state]
        for batches in epoch.parts(iterator, lambda: keras_private.state_shown(model, held[0])):
            held[0] = take(trains, held[0], batches, step)
        with keras.StatelessScope(state_mapping=zip(model.metrics_variables, held[0][-1], strict=True)):
            return model.get_metrics_result(), held[0]

    return run


def _rows(arrays: Any, places: Any) -> Any:
    return jax.tree.map(lambda array: array[places], arrays)


class StackedSteps:
    """Steps of several models of one structure at once, each array with a first axis of models (`jax.vmap`).

    Args:
        model: any of them.
        trains: whether the steps train, or test.
        reading: lets a step read the numbers in which the models differ.
    """

    # Keras's own step of one model would be one more program to compile.
    has_own_steps = False

    def __init__(self, model: Any, trains: bool, reading: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._step = reading(model.train_step if trains else model.test_step)
        self._program = jax.jit(self._loop)

    def run(
        self, models: Sequence[Any], states: Sequence[Any], places: Sequence[Sequence[np.ndarray]], arrays: Any, most: int
    ) -> tuple[Sequence[Any], float]:
        """Take as many steps with each of `models` as it has batches in `places`, all of one shape.

        Args:
            models: whose states they are.
            states: of the training of each model.
            places: for each model its batches, as the places of their samples in `arrays`.
            arrays: `(x, y, sample_weight)` or fewer.
            most: models of the largest group: the program is compiled for so many.

        Returns:
            The new states, and the seconds of a step.
        """
        count, steps = len(models), len(places[0])
        began = time.perf_counter()
        # One program to compile, where smaller groups would save little.
        rows = [*range(count), *[0] * (most - count)]
        index = np.zeros((len(rows), 1 << (steps - 1).bit_length(), len(places[0][0])), "int32")
        index[:, :steps] = np.stack([np.stack(places[row]) for row in rows])
        after = jax.block_until_ready(self._program([states[row] for row in rows], steps, index, arrays))
        return after[:count], (time.perf_counter() - began) / steps

    def _loop(self, states: Any, steps: Any, index: Any, arrays: Any) -> Any:
        def of_one(state: Any, places: Any) -> Any:
            return lax.fori_loop(0, steps, lambda i, state: self._step(state, _rows(arrays, places[i]))[1], state)

        after = jax.vmap(of_one)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), index)
        return [jax.tree.map(lambda leaf, row=row: leaf[row], after) for row in range(len(states))]


class StepProgram:
    """Programs of several training steps, and of several test steps, of one compiled `model`.

    A program is compiled when it first runs, once for each shape of the batches.
    """

    def __init__(self, model: Any) -> None:
        self._train, self._test = _Steps(model, model.train_step), _Steps(model, model.test_step)

    def functions(self, training: EpochSteps, validation: EpochSteps) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return functions for `model.train_function` and `model.test_function`."""
        return self._train.function(training), self._test.function(validation)


class _Steps:
    def __init__(self, model: Any, step: Callable[[Any, Any], tuple[Any, Any]]) -> None:
        self._model = model
        # Compiled: a program of several steps traces it once, though it asks for it twice.
        self._step: Any = jax.jit(step)
        self._one = jax.jit(step, donate_argnums=0)
        self._several: Any = jax.jit(self._loop, donate_argnums=0)

    def function(self, epoch: EpochSteps) -> Callable[..., Any]:
        def run(state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
            held: list[Any] = [None, tuple(list(part) for part in state)]
            for batches in epoch.parts(iterator, lambda: keras_private.state_shown(self._model, held[1])):
                held[:] = self._run(held[1], batches)
            if held[0] is None:
                raise StopIteration
            return held[0], tuple(keras_private.Untracked(part) for part in held[1])

        return run

    def _run(self, state: Any, batches: Batches) -> tuple[Any, Any]:
        stacked = _stacked(batches) if batches.room > 1 or batches.arrays is not None else None
        if stacked is not None:
            return self._several(state, len(batches.batches), stacked, batches.arrays)
        logs: Any = {}
        for batch in batches.batches:
            logs, state = self._one(state, batch)
        return logs, state

    def _loop(self, state: Any, count: Any, batches: Any, arrays: Any) -> tuple[Any, Any]:
        def at(i: Any) -> Any:
            batch = jax.tree.map(lambda array: lax.dynamic_index_in_dim(array, i, keepdims=False), batches)
            return batch if arrays is None else jax.tree.map(lambda array: array[batch], arrays)

        def body(i: Any, carried: Any) -> Any:
            return self._step(carried[1], at(i))

        if jax.tree.leaves(batches)[0].shape[0] == 1:
            return self._step(state, at(0))
        # The logs of the last step leave the loop: their shapes are known before the first.
        logs, _ = jax.eval_shape(self._step, state, at(0))
        first = jax.tree.map(lambda spec: jnp.zeros(spec.shape, spec.dtype), logs)
        return lax.fori_loop(0, count, body, (first, state))


def _stacked(batches: Batches) -> Any:
    """Return the batches as arrays with a first axis of `room`; None where they are not arrays."""
    leaves = jax.tree.leaves(batches.batches[0])
    if not all(isinstance(leaf, np.ndarray | jax.Array) for leaf in leaves):
        return None

    def stack(*arrays: Any) -> Any:
        if not all(isinstance(array, np.ndarray) for array in arrays):
            filled = [*arrays, *[arrays[0]] * (batches.room - len(arrays))]
            return jnp.stack(filled)
        return batches.padded(arrays)

    return jax.tree.map(stack, *batches.batches)
