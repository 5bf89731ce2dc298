"""Trials whose models compute the same share compiled programs: one after another in one model, or side by side in one program."""

import inspect
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._backend.epoch_steps import Arrays, EpochSteps
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search.batch_hooks import EpochCallbacks, free_steps, may_change_the_model, needs_every_step
from keras_ext.search.free_numbers import input_numbers
from keras_ext.search.stacked_program import Request, StackedProgram
from keras_ext.search.structure import NotComparable, Structure, structure_of
from keras_ext.search.trial_thread import TrialThread

# Structures whose programs are kept: each holds a model and some 20 MiB of programs.
_MOST = 4
# On TensorFlow a program of several steps takes as long to compile as about so many steps of `fit` take.
_STEPS_WORTH_COMPILING = 1000
# Numbers of arrays that stay on the device from trial to trial.
_MOST_NUMBERS = 2**28
_DATA_ARGUMENTS = ("x", "y", "sample_weight", "class_weight", "batch_size", "shuffle", "validation_split", "validation_data",
                   "validation_batch_size")  # fmt: skip
_CONVOLUTIONS = tuple(c for name, c in vars(keras.layers).items() if "Conv" in name and isinstance(c, type))


class _Shared:
    """A model, the programs compiled for it, and the number of steps that trials of its structure have asked for."""

    def __init__(self, model: Any, structure: Structure) -> None:
        self.model, self.structure, self.numbers = model, structure, input_numbers(model)
        self.program: Any = None
        self.probes: dict[Any, Any] = {}
        self.steps = 0


@dataclass(frozen=True)
class _Data:
    """Arguments of `fit` that count the steps of arrays which are on the device, and these arrays."""

    fit: dict[str, Any]
    training: Arrays
    validation: Arrays | None


@dataclass
class SharingTrial:
    """A trial whose model may share.

    Args:
        folder: of the trial.
        program: that took its steps: its "own", "shared", "shared by" so many, or why it could not be shared.
    """

    folder: Path
    program: str = "own"


_trial: ContextVar[SharingTrial | None] = ContextVar("trial", default=None)


class SharedModels:
    """Lets each model that a tuner builds train in programs that were compiled for an earlier one of the same structure.

    One after another, a model trains in the earlier one, which takes over its weights, random state, optimizer and rates. After the
    training it gives all of them back, and has its own again. Side by side, each model keeps its state, and a program takes the steps of
    several at once.

    Args:
        tuner: that builds the models.
        together: most models that train at once.
    """

    def __init__(self, tuner: Any, together: int = 1) -> None:
        self._tuner, self._together = tuner, together
        self._shared: OrderedDict[str, _Shared] = OrderedDict()
        self._arrays: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    @contextmanager
    def sharing(self, folder: str | Path) -> Iterator[SharingTrial]:
        """Let models that are built while the block runs share; weights saved in `folder`, the trial's, are written after the training."""
        trial = SharingTrial(Path(folder))
        token = _trial.set(trial)
        try:
            yield trial
        finally:
            _trial.reset(token)

    def attach(self, model: Any) -> None:
        """Let `model.fit` share, if a trial runs."""
        trial = _trial.get()
        if trial is not None and isinstance(model, keras.Model):
            model.fit = lambda *args, **kwargs: self._fit(trial, model, *args, **kwargs)

    def _fit(self, trial: SharingTrial, model: Any, *args: Any, **kwargs: Any) -> Any:
        del model.fit
        shared, given, trial.program = None, {}, "own"
        parts: Any = ()
        stacks = keras.backend.backend() == "torch" or self._together > 1
        try:
            given = inspect.signature(model.fit).bind(*args, **kwargs).arguments
            shared = self._shared_with(model, given)
            if stacks:
                parts = self._parts_beside(model, given)
        except NotComparable as error:
            shared, trial.program = None, f"own: {error}"
        except TypeError:  # of arguments that fit refuses itself
            shared = None
        try:
            if shared is None:
                return model.fit(*args, **kwargs)
            return self._fit_beside(trial, shared, model, given, *parts) if stacks else self._fit_in(trial, shared, model, given)
        finally:
            self.attach(model)

    def _shared_with(self, model: Any, given: dict[str, Any]) -> _Shared:
        if not model.compiled or model.run_eagerly:
            raise NotComparable("it runs eagerly")
        if keras.distribution.distribution() is not None or _backend.replica_count() > 1:
            raise NotComparable("it is distributed over several devices")
        _build(model, given.get("x"))
        input_numbers(model)
        structure = structure_of(model)
        shared = self._shared.get(structure.key)
        if shared is None:
            shared = _Shared(model, structure)
        self._shared[structure.key] = shared
        self._shared.move_to_end(structure.key)
        while len(self._shared) > max(_MOST, self._together):
            self._shared.popitem(last=False)
        return shared

    def _parts_beside(self, model: Any, given: dict[str, Any]) -> tuple[list[Any], int, _Data]:
        """Return the callbacks, the steps of an epoch, and the data of a fit whose steps a program may take.

        Raises:
            NotComparable: none may.
        """
        callbacks, steps, data = list(given.get("callbacks") or []), _steps(given), self._data(given)
        if steps is None or data is None:
            raise NotComparable("its data is no arrays")
        if model.steps_per_execution != 1 or needs_every_step(callbacks, self._tuner):
            raise NotComparable("a callback acts within its epochs")
        if keras.backend.backend() == "torch" and model.jit_compile:
            raise NotComparable("torch.compile compiles its steps")
        return callbacks, steps, data

    def _fit_beside(
        self, trial: SharingTrial, shared: _Shared, model: Any, given: dict[str, Any], callbacks: list[Any], steps: int, data: _Data
    ) -> Any:
        """Train `model` with the steps that a program takes of all models of its structure."""
        programs = _backend.step_programs()
        if shared.program is None:
            shared.program = StackedProgram(model, self._together, shared.numbers.reading)
        program: StackedProgram = shared.program
        program.steps += steps * (given.get("epochs", 1) - given.get("initial_epoch", 0))

        # PyTorch's steps see such a change at once; compiled ones do not.
        is_checked = keras.backend.backend() == "torch" and may_change_the_model(callbacks, self._tuner)

        def take(trains: bool, state: Any, batches: Any, step: Callable[[Any, Any, Any], Any]) -> Any:
            places = batches.batches
            is_same = not is_checked or _has(model, shared.structure)
            if is_checked and program.refused is None and not _has(program.model, shared.structure):
                # What it traces next would be another step.
                program.refused = "a callback changed the model that it is traced from"
                self._shared.pop(shared.structure.key, None)
            while places:
                request = Request(program, trains, model, programs.state_beside(state), places, batches.arrays)
                if program.refused is None and is_same:
                    _serve(request)
                if request.done:
                    if request.together > 1 or model is not program.model:
                        trial.program = "shared" if request.together == 1 else f"shared by {request.together}"
                    state = programs.take_over(request.state)
                else:
                    began = time.perf_counter()
                    state, request.done = step(state, places[0], batches.arrays), 1
                    if trains:
                        program.note_own_step(time.perf_counter() - began)
                places = places[request.done :]
            return state

        # Layers of the user's own may count or draw in Python where a snapshot calls them.
        if not is_checked and all(
            type(each).__module__.startswith(("keras.", "keras_ext.")) for each in keras_private.flatten_layers(model)
        ):
            _share_probes(shared, callbacks)
        variables = _variables(model)
        if TrialThread.current() is not None:  # its progress bars would mix with those of the others
            given = {**given, "verbose": 0}
        with _saved_once(model, variables, trial.folder):
            history = self._epochs_at_once(model, given, callbacks, steps, data, lambda *epochs: programs.functions(model, *epochs, take))
        if program.refused is not None:
            trial.program = f"own: {program.refused}"
        return history

    def _fit_in(self, trial: SharingTrial, shared: _Shared, model: Any, given: dict[str, Any]) -> Any:
        lent = shared.model
        variables, others = _variables(lent), _variables(model)
        own = _values(variables)
        if lent is not model:
            trial.program = "shared"
            _assign(variables, _values(others))
            if not keras_private.has_built_metrics(model):
                _draw_as_building(given)
        try:
            with shared.numbers.lent_to(input_numbers(model)), _saved_once(lent, variables, trial.folder):
                history = self._train(shared, given)
        except BaseException:
            # It may have ended in mid-step, with a state that is gone: no other trial trains in this model.
            self._shared.pop(shared.structure.key, None)
            _assign(variables, own)
            raise
        if lent is not model:
            _assign(others, _values(variables))
            _assign(variables, own)
        if structure_of(lent).key != shared.structure.key:  # a callback has changed the model
            self._shared.pop(shared.structure.key, None)
        history.set_model(model)
        model.history, model.stop_training = history, lent.stop_training
        return history

    def _train(self, shared: _Shared, given: dict[str, Any]) -> Any:
        lent, callbacks = shared.model, list(given.get("callbacks") or [])
        _share_probes(shared, callbacks)
        steps = _steps(given)
        shared.steps += (steps or 1) * (given.get("epochs", 1) - given.get("initial_epoch", 0))
        if steps is None or not self._runs_at_once(shared, callbacks):
            return type(lent).fit(lent, **given)
        if shared.program is None:
            shared.program = _backend.step_programs().StepProgram(lent)
        return self._epochs_at_once(lent, given, callbacks, steps, self._data(given), shared.program.functions)

    def _epochs_at_once(
        self, model: Any, given: dict[str, Any], callbacks: list[Any], steps: int, data: _Data | None, functions: Callable[..., Any]
    ) -> Any:
        """Fit with each epoch as one step; `functions` returns the functions that take the steps of training and validation."""
        if data is not None and not keras_private.has_built_metrics(model):
            _draw_as_building(given)
            keras_private.build_metrics(model, _taken(data.training.arrays, slice(data.training.batch_size)))
        told = {"verbose": given.get("verbose", "auto"), "epochs": given.get("epochs", 1), "steps": steps, "model": model}
        listed = EpochCallbacks(callbacks, **told)
        training = EpochSteps(
            steps, data and data.training, free_steps(callbacks), listed.on_train_batch_begin, lambda: model.stop_training
        )
        listed.steps = training
        validation = EpochSteps(steps if data is None or data.validation is None else data.validation.steps, data and data.validation)
        kept = [model.train_function, model.test_function, model.steps_per_execution]
        model.train_function, model.test_function = functions(training, validation)
        if keras.backend.backend() != "torch":
            model.steps_per_execution = steps
        try:
            with _own_functions(model, kept):
                return type(model).fit(model, **{**(given if data is None else data.fit), "callbacks": listed})
        finally:
            model.train_function, model.test_function, model.steps_per_execution = kept

    def _runs_at_once(self, shared: _Shared, callbacks: list[Any]) -> bool:
        """Return whether the steps of an epoch run as one program: where none of the callbacks acts between them, and it is faster."""
        lent = shared.model
        if lent.steps_per_execution != 1 or needs_every_step(callbacks, self._tuner):
            return False
        layers = list(keras_private.flatten_layers(lent))
        if not all(layer.supports_jit for layer in layers):
            return False
        # XLA's CPU backend computes a convolution within a loop without its fast kernel, ten times as long.
        if _backend.device_name() == "CPU" and any(isinstance(layer, _CONVOLUTIONS) for layer in layers):
            return False
        return keras.backend.backend() == "jax" or shared.program is not None or shared.steps >= _STEPS_WORTH_COMPILING

    def _data(self, given: dict[str, Any]) -> _Data | None:
        """Return the data of a fit as arrays on the device; None where it is something else, or large."""
        shuffle, held_out = given.get("shuffle", True), given.get("validation_data")
        if not isinstance(shuffle, bool) or given.get("steps_per_epoch") or given.get("validation_steps"):
            return None
        if held_out is not None and not (isinstance(held_out, tuple | list) and len(held_out) in (2, 3)):
            return None
        x, y, weights, class_weight = (given.get(name) for name in ("x", "y", "sample_weight", "class_weight"))
        split = (given.get("validation_split") or 0.0) if held_out is None else 0.0
        arrays, held = self._on_device(x, y, weights, class_weight, split)
        if held_out is not None:
            x, y, weights = (*held_out, None)[:3]
            held, _ = self._on_device(x, y, weights, None)
        if arrays is None or (held is None and (held_out is not None or split)):
            return None
        programs, samples, size = _backend.step_programs(), _count(arrays), given.get("batch_size") or 32
        order = programs.epoch_orders(samples) if shuffle else lambda: np.arange(samples)
        fit = {name: value for name, value in given.items() if name not in _DATA_ARGUMENTS}
        fit |= {"x": programs.data_of_one_step(), "shuffle": False}
        validation = None
        if held is not None:
            held_samples, held_size = _count(held), given.get("validation_batch_size") or size
            validation = Arrays(held, held_samples, held_size, lambda: np.arange(held_samples))
            fit |= {"validation_data": programs.data_of_one_step()}
        return _Data(fit, Arrays(arrays, samples, size, order), validation)

    def _on_device(self, x: Any, y: Any, weights: Any, class_weight: Any, split: float = 0.0) -> tuple[Any, Any]:
        """Return the arrays to train on, and the last ones, which `fit` holds out of so large a share; None for what is no array."""
        key = (id(x), id(y), id(weights), id(class_weight), split)
        if key not in self._arrays:
            try:
                arrays, held = keras_private.arrays_of_fit(x, y, weights, class_weight), None
                if split and arrays is not None:
                    samples = math.floor(_count(arrays) * (1 - split))
                    # The classes have no weights in the validation.
                    held = _taken(keras_private.arrays_of_fit(x, y, weights, None), slice(samples, None))
                    arrays = _taken(arrays, slice(samples)) if 0 < samples < _count(arrays) else None
            except Exception:  # fit says what is wrong
                arrays = None
            if arrays is not None and sum(math.prod(a.shape) for a in tree.flatten((arrays, held)) if a is not None) > _MOST_NUMBERS:
                arrays = None
            parts = (None, None) if arrays is None else tuple(_backend.step_programs().on_device(part) for part in (arrays, held))
            while len(self._arrays) > 3:
                self._arrays.pop(next(iter(self._arrays)))
            # With the data, so that its identity stays its own.
            self._arrays[key] = (parts, (x, y, weights, class_weight))
        return self._arrays[key][0]


@contextmanager
def _own_functions(model: Any, kept: list[Any]) -> Iterator[None]:
    """Let callbacks that evaluate the model, or train it on a batch, do so with its own functions, which are `kept`, on their own data."""
    names = ("train_function", "test_function", "steps_per_execution")

    def own(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("_use_cached_eval_dataset"):  # the validation of `fit`
                return method(*args, **kwargs)
            ours = [getattr(model, name) for name in names]
            vars(model).update(zip(names, kept, strict=True))
            try:
                return method(*args, **kwargs)
            finally:
                kept[:] = [getattr(model, name) for name in names]  # compiled now
                vars(model).update(zip(names, ours, strict=True))

        return run

    methods = ("evaluate", "train_on_batch", "test_on_batch")
    for name in methods:
        setattr(model, name, own(getattr(model, name)))
    try:
        yield
    finally:
        for name in methods:
            delattr(model, name)


def _has(model: Any, structure: Structure) -> bool:
    try:
        return structure_of(model).key == structure.key
    except NotComparable:
        return False


def _share_probes(shared: _Shared, callbacks: list[Any]) -> None:
    for monitor in callbacks:
        if isinstance(monitor, SaturationMonitor):
            monitor.share_probes(shared.probes, shared.numbers.traced)


def _serve(request: Request) -> None:
    """Let the program take the steps of a request, with those of other trials where these are under way."""
    thread = TrialThread.current()
    if thread is None:
        request.program.run([request])
    else:
        thread.pause(request)
        thread.waited -= request.seconds


def _count(arrays: Any) -> int:
    return len(tree.flatten(arrays)[0])


def _taken(arrays: Any, rows: slice) -> Any:
    return tree.map_structure(lambda array: None if array is None else array[rows], arrays)


def _build(model: Any, x: Any) -> None:
    if not keras_private.is_built(model):
        if not (isinstance(model, keras.Sequential) and hasattr(x, "shape")):
            raise NotComparable("its first batch builds it")
        model.build((None, *x.shape[1:]))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _samples(given: dict[str, Any]) -> int | None:
    """Return the samples of an epoch; None where the data is no array."""
    x: Any = given.get("x")
    first: Any = tree.flatten(x)[0] if isinstance(x, dict | list | tuple) else x
    if not (hasattr(first, "shape") and len(first.shape)):
        return None
    share = (given.get("validation_split") or 0.0) if given.get("validation_data") is None else 0.0
    return math.floor(first.shape[0] * (1 - share))


def _steps(given: dict[str, Any]) -> int | None:
    """Return the steps of an epoch; None where the data does not say."""
    if given.get("steps_per_epoch"):
        return given["steps_per_epoch"]
    samples = _samples(given)
    if samples is not None:
        return -(-samples // (given.get("batch_size") or 32))
    try:
        return len(given["x"])
    except (KeyError, TypeError):
        return None


def _draw_as_building(given: dict[str, Any]) -> None:
    samples, shuffle = _samples(given), given.get("shuffle", True)
    size = given.get("batch_size") or (-(-(samples or 0) // given["steps_per_epoch"]) if given.get("steps_per_epoch") else 32)
    if samples is not None:
        _backend.step_programs().draw_as_building(samples, size, shuffle)


def _variables(model: Any) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]


def _values(variables: list[Any]) -> list[Any]:
    return [ops.copy(v) for v in variables]


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def _saved_once(model: Any, variables: list[Any], folder: Path | None) -> Iterator[None]:
    """Write weights that are saved in `folder` while the block runs when it ends: of each file the last.

    KerasTuner saves a trial's weights in each epoch that is the best so far, and reads them when the trial is over.
    """
    waiting: dict[str, list[Any]] = {}
    save: Callable[..., None] = model.save_weights

    def save_weights(filepath: Any, *args: Any, **kwargs: Any) -> None:
        if folder is None or args or kwargs or folder not in Path(filepath).parents:
            save(filepath, *args, **kwargs)
        else:
            waiting[str(filepath)] = _values(variables)

    model.save_weights = save_weights
    try:
        yield
    finally:
        del model.save_weights
    last = _values(variables) if waiting else []
    for path, values in waiting.items():
        _assign(variables, values)
        model.save_weights(path)
    if waiting:
        _assign(variables, last)
