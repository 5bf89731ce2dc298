"""Several training or test steps of a Keras model in one XLA program."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from keras_ext._backend import keras_private
from keras_ext._backend.epoch_steps import Batches, EpochSteps

# XLA's program of one step takes a second or two to compile. It saves some milliseconds of each step, and in each training a third of a
# second, in which TensorFlow prepares the function of Keras.
_SMALLER_BATCHES, _TRAININGS = 200, 1

# No program takes the steps of several models.
StackedSteps: Any = None


def side_by_side() -> int:
    """Return how many models train side by side: one."""
    return 1


def draw_as_building(samples: int, batch_size: int, shuffle: Any) -> None:
    """Draw nothing: here `fit` builds the metrics of a model as it traces the first step."""


def epoch_orders(samples: int) -> Callable[[], np.ndarray]:
    """Return a function that draws the order of the samples of the next epoch, as `fit` does."""
    dataset = keras_private.shuffled_places(samples)

    def draw() -> np.ndarray:
        return next(iter(dataset)).numpy()

    # Once a seed is set, every epoch of a fit has one order: each begins a new iterator, and with it the generator.
    first = draw()
    return (lambda: first) if np.array_equal(first, draw()) else draw


def on_device(arrays: Any) -> Any:
    """Return arrays as a program takes them again and again."""
    return tree.map_structure(lambda array: None if array is None else tf.convert_to_tensor(array), arrays)


def copies(variables: list[Any]) -> list[Any]:
    """Return the values of Keras variables, which stay as they are; without the checks that take three times as long, on one device."""

    def read(variable: Any) -> Any:
        if isinstance(variable, tf.distribute.DistributedValues):
            return tf.convert_to_tensor(variable)
        return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)

    return [read(variable.value) for variable in variables]


def assign(variables: list[Any], values: list[Any]) -> None:
    """Give Keras variables values of their shapes and dtypes."""
    for variable, value in zip(variables, values, strict=True):
        # Keras's own method also checks the value and reads it again, ten times as long.
        variable.value.assign(value, read_value=False)


def training_here(model: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which `model` trains as ever: between its steps there is no work to save."""
    return contextlib.nullcontext()


def data_of_one_step() -> Any:
    """Return data for `fit` of one step that is never read."""
    return tf.data.Dataset.range(1)


def scalars(values: Any) -> list[Any]:
    """Return the values of a vector as scalars."""
    return tf.unstack(values)


def register_number(cls: Any) -> None:
    """Do nothing: TensorFlow asks objects for their tensor."""


class StepProgram:
    """Programs of several training steps, and of several test steps, of one compiled `model`.

    A program is compiled when it first runs, once for each shape of the batches. What XLA cannot compile runs as Keras runs it.
    """

    def __init__(self, model: Any) -> None:
        model.make_train_function(force=True)
        model.make_test_function(force=True)
        self._train = _Steps(model, model.train_step, model.train_function)
        self._test = _Steps(model, model.test_step, model.test_function)

    def functions(self, training: EpochSteps, validation: EpochSteps) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return functions for `model.train_function` and `model.test_function`."""
        return self._train.function(training), self._test.function(validation)


class _Steps:
    def __init__(self, model: Any, step: Callable[[Any], Any], keras_function: Callable[[Any], Any]) -> None:
        self._keras_function = keras_function
        self._compiles: bool | None = None
        # Smaller last batches so far: a second program is worth its compilation after some.
        self._smaller = self._trainings = 0

        @tf.function(jit_compile=True, autograph=False)
        def several(count: Any, batches: Any, arrays: Any) -> Any:
            def body(i: Any) -> Any:
                step(_rows(_at(batches, i), arrays))
                return (i + 1,)

            if tree.flatten(batches)[0].shape[0] == 1:
                body(0)
            else:
                tf.while_loop(lambda i: i < count, body, (tf.constant(0),))
            return model.get_metrics_result()

        self._several = several

    def function(self, epoch: EpochSteps) -> Callable[..., Any]:
        self._trainings += 1

        def run(iterator: Iterator[Any]) -> Any:
            logs: Any = None
            for batches in epoch.parts(iterator, contextlib.nullcontext):
                logs = self._run(batches)
            if logs is None:
                raise StopIteration
            return logs

        return run

    def _run(self, batches: Batches) -> Any:
        self._smaller += batches.room == 1
        is_usual = batches.room > 1 or self._smaller > _SMALLER_BATCHES or self._trainings > _TRAININGS
        if self._compiles is not False and is_usual:
            try:
                logs = self._several(tf.constant(len(batches.batches)), _stacked(batches), batches.arrays)
                self._compiles = True
                return logs
            except Exception:
                if self._compiles:  # it ran before: this error is the training's
                    raise
                self._compiles = False
        # Keras's function takes a list for an iterator of one step each.
        logs: Any = {}
        for batch in batches.batches:
            logs = self._keras_function([_rows(batch, batches.arrays)])
        return logs


def _at(batches: Any, i: Any) -> Any:
    return tree.map_structure(lambda array: None if array is None else array[i], batches)


def _rows(batch: Any, arrays: Any) -> Any:
    """Return a batch that may be the places of its samples in `arrays`."""
    return batch if arrays is None else tree.map_structure(lambda array: None if array is None else tf.gather(array, batch), arrays)


def _stacked(batches: Batches) -> Any:
    """Return the batches as tensors with a first axis of `room`."""

    def stack(*tensors: Any) -> Any:
        if isinstance(tensors[0], np.ndarray):
            return tf.convert_to_tensor(batches.padded(tensors))
        if tensors[0] is None or isinstance(tensors[0], tf.experimental.Optional):
            return None
        stacked = tf.stack(tensors)
        return tf.pad(stacked, [[0, batches.room - len(tensors)], *[[0, 0]] * (len(stacked.shape) - 1)])

    return tree.map_structure(stack, *batches.batches)
