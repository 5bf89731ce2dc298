"""Training or test steps of several Keras models of one structure in one PyTorch program."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from keras import StatelessScope, ops, tree
from torch.fx.experimental.proxy_tensor import make_fx

from keras_ext._backend import keras_private, torch_random
from keras_ext._backend.epoch_steps import EpochSteps, Take
from keras_ext._backend.torch_tracing import PythonState, Traceable, cond_of_both, stacking
from keras_ext._backend.torch_tracing import register_number as register_number
from keras_ext._backend.torch_tracing import scalars as scalars


def side_by_side() -> int:
    """Return how many models train side by side where nothing else is asked for."""
    return 16


def draw_as_building(samples: int, batch_size: int, shuffle: Any) -> None:
    """Draw what `fit` draws where it builds the metrics of a model: it takes a first batch of so many samples, and begins again."""
    next(iter(keras_private.torch_loader(samples, batch_size, shuffle)))


def epoch_orders(samples: int) -> Callable[[], np.ndarray]:
    """Return a function that draws the order of the samples of the next epoch, as `fit` does."""
    sampler = keras_private.torch_loader(samples, samples, True).batch_sampler
    return lambda: np.array(next(iter(sampler)))


def on_device(arrays: Any) -> Any:
    """Return arrays as a program takes them again and again."""
    return tree.map_structure(lambda array: None if array is None else ops.convert_to_tensor(array), arrays)


def copies(variables: list[Any]) -> list[Any]:
    """Return the values of Keras variables, which stay as they are."""
    return [variable.value.detach().clone() for variable in variables]


def assign(variables: list[Any], values: list[Any]) -> None:
    """Give Keras variables values of their shapes and dtypes."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def training_here(model: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which `model` trains as ever: between its steps there is no work to save."""
    return contextlib.nullcontext()


def data_of_one_step() -> Any:
    """Return data for `fit` of one step that is never read."""
    return np.zeros((1, 0), "float32")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that no memory is left."""
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def state_beside(state: Any) -> Any:
    """Return what a program of several models takes over beside a model: the state of the random generators, the trial's own."""
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def take_over(state: Any) -> Any:
    """Let the generators go on where the program's steps left them."""
    of_cpu, of_device = state
    torch.set_rng_state(of_cpu)
    if of_device is not None:
        torch.cuda.set_rng_state(of_device)


def functions(model: Any, training: EpochSteps, validation: EpochSteps, take: Take) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return functions for `model.train_function` and `model.test_function` that let `take` take the steps of an epoch."""
    model.make_train_function(force=True)
    model.make_test_function(force=True)
    train, test = model.train_function, model.test_function
    return _epoch(model, training, True, train, take), _epoch(model, validation, False, test, take)


def _epoch(model: Any, epoch: EpochSteps, trains: bool, one: Callable[[Any], Any], take: Take) -> Callable[[Any], Any]:
    def step(state: Any, places: Any, arrays: Any) -> Any:
        one([_rows(arrays, torch.as_tensor(places))])
        return state

    def run(data: Any) -> Any:
        for batches in epoch.parts(iter(()), contextlib.nullcontext):
            take(trains, None, batches, step)
        return model.get_metrics_result()

    return run


def _rows(arrays: Any, places: Any) -> Any:
    return tree.map_structure(lambda array: None if array is None else array[places], arrays)


class StackedSteps:
    """Steps of several models of one structure at once, each tensor with a first axis of models.

    `torch.func.vmap` makes one step of many, and `make_fx` leaves of it the kernels alone: neither Keras nor autograd runs again.

    Args:
        model: any of them.
        trains: whether the steps train, or test.
        reading: lets a step read the numbers in which the models differ.
    """

    # Keras's own step of one model can take the place of the program.
    has_own_steps = True

    def __init__(self, model: Any, trains: bool, reading: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._model, self._trains = model, trains
        self._step = reading(self._train_step if trains else self._test_step)
        self._programs: dict[Any, Any] = {}
        self._unused: list[int] | None = None

    def run(
        self, models: Sequence[Any], states: Sequence[Any], places: Sequence[Sequence[np.ndarray]], arrays: Any, most: int
    ) -> tuple[Sequence[Any], float]:
        """Take as many steps with each of `models` as it has batches in `places`, all of one shape.

        Returns:
            The new states, and the seconds of the last step.

        Args:
            models: get their new state.
            states: of their random generators.
            places: for each model its batches, as the places of their samples in `arrays`.
            arrays: `(x, y, sample_weight)` or fewer.
            most: models of the largest group.
        """
        count = len(models)
        # Programs for powers of two: each takes half a second to trace.
        size = min(most, 1 << (count - 1).bit_length())
        rows = [*range(count), *[0] * (size - count)]
        tensors = [_tensors(model, self._trains) for model in models]
        state = [[torch.stack([tensors[row][part][i] for row in rows]) for i in range(len(tensors[0][part]))] for part in range(4)]
        drawing = state[0][0].device
        place = int(drawing.type == "cuda")
        generators = [torch.Generator(drawing) for _ in rows]
        for generator, row in zip(generators, rows, strict=True):
            generator.set_state(states[row][place])
        began = time.perf_counter()
        for step in range(len(places[0])):
            began = time.perf_counter()
            index = torch.as_tensor(np.stack([places[row][step] for row in rows]), device=state[0][0].device)
            batch = _rows(arrays, index)
            program = self._program(state, batch)
            with torch_random.drawing_from(generators):
                state = program(state, batch)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            for part in range(4):
                for i, stacked in enumerate(state[part]):
                    torch._foreach_copy_([each[part][i] for each in tensors], list(stacked[:count].unbind()))  # pyright: ignore[reportPrivateImportUsage]
        after = [(*s[:place], g.get_state(), *s[place + 1 :]) for s, g in zip(states, generators, strict=False)]
        return after, seconds

    def _program(self, state: Any, batch: Any) -> Any:
        key = tuple(None if leaf is None else (tuple(leaf.shape), leaf.dtype) for leaf in tree.flatten(batch))
        if key not in self._programs:
            before = PythonState(self._model)
            if self._unused is None:
                self._unused = _without_gradient(self._model, tree.map_structure(lambda a: None if a is None else a[0], batch))
            stacked = torch.func.vmap(lambda state, batch: self._step(state, batch), randomness="different")
            variables = [v for part in _variables(self._model) for v in part]
            both = keras_private.torch_cond(lambda condition, a, b: cond_of_both(condition, a, b, variables))
            drawing = torch_random.drawing_from([torch.Generator(each.device) for each in state[0][0]])
            try:
                with stacking(), both, drawing, torch.no_grad(), Traceable(self._model):
                    traced = make_fx(lambda state, batch: stacked(state, batch))(_copies(state), batch)
            finally:
                changed = before.restore()
            if changed:
                raise TypeError(f"{changed} changes with each call, and a program would not change it")
            if any(torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) for node in traced.graph.nodes):
                raise TypeError("it draws from PyTorch's generator, which trials do not share")
            traced.graph.eliminate_dead_code()
            traced.recompile()
            self._programs[key] = traced
        return self._programs[key]

    def _train_step(self, state: Any, batch: Any) -> Any:
        model, (trained, others, slots, metrics) = self._model, state

        def loss(weights: list[Any]) -> Any:
            return _loss(model, [weights, others, slots, metrics], batch, training=True)

        gradients, (others, metrics) = torch.func.grad(loss, has_aux=True)(trained)
        used = [None if i in (self._unused or ()) else gradient for i, gradient in enumerate(gradients)]
        with torch.no_grad(), _scope(model, [trained, others, slots, metrics]) as scope:
            model.optimizer.apply(used, model.trainable_variables)
            trained = _values(scope, model.trainable_variables)
            slots = _values(scope, model.optimizer.variables)
        return [trained, others, slots, metrics]

    def _test_step(self, state: Any, batch: Any) -> Any:
        with torch.no_grad():
            _, (others, metrics) = _loss(self._model, state, batch, training=False)
        return [state[0], others, state[2], metrics]


class _Scope(StatelessScope):
    """Values of variables, of which a forward pass assigns new ones as alone: no gradient flows through them."""

    def add_update(self, update: Any) -> None:
        """Keep the new value of a variable."""
        super().add_update((update[0], update[1].detach() if isinstance(update[1], torch.Tensor) else update[1]))


def _loss(model: Any, state: Any, batch: Any, training: bool) -> Any:
    """Return the loss of a batch as `optimizer` scales it, and the next values of the other variables and the metrics'."""
    x, y, weights = (*batch, None, None)[:3]
    with _scope(model, state) as scope:
        predicted = keras_private.call_of_step(model, x, training)
        given = state[0] if training else []
        if any(scope.get_current_value(v) is not value for v, value in zip(model.trainable_variables, given, strict=False)):
            raise TypeError("its forward pass assigns trained weights")
        loss = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights, training=training)
        keras_private.loss_tracker(model).update_state(loss, sample_weight=next(iter(tree.flatten(x))).shape[0])
        scaled = model.optimizer.scale_loss(loss) if training else loss
        model.compute_metrics(x, y, predicted, sample_weight=weights)
        return scaled, (_values(scope, model.non_trainable_variables), _values(scope, model.metrics_variables))


def _copies(state: Any) -> Any:
    """Return a state that a trace may overwrite: it computes."""
    return [[tensor.detach().clone() for tensor in part] for part in state]


def _without_gradient(model: Any, batch: Any) -> list[int]:
    """Return the places of the weights on which the loss does not depend: an optimizer leaves them alone."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.enable_grad():
        state = _copies(_tensors(model, True))
        leaves = [tensor.requires_grad_() for tensor in state[0]]
        loss, _ = _loss(model, state, batch, training=True)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [i for i, gradient in enumerate(gradients) if gradient is None]


def _variables(model: Any) -> list[list[Any]]:
    return [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables]


def _tensors(model: Any, trains: bool) -> list[list[Any]]:
    variables = _variables(model)
    return [[v.value.detach() for v in (part if trains or i != 2 else [])] for i, part in enumerate(variables)]


def _scope(model: Any, state: Any) -> StatelessScope:
    pairs = [pair for part, values in zip(_variables(model), state, strict=True) for pair in zip(part, values, strict=False)]
    return _Scope(state_mapping=pairs, collect_losses=True)


def _values(scope: StatelessScope, variables: list[Any]) -> list[Any]:
    return [scope.get_current_value(v) for v in variables]
