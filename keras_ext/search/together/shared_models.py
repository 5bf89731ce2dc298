"""Trials whose models compute the same share compiled programs: one after another in one model, or side by side in one program."""

import inspect
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext._backend.epoch_steps import EpochSteps
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search.strategy import device_count
from keras_ext.search.together.batch_hooks import EpochCallbacks, free_steps, may_change_the_model, needs_every_step
from keras_ext.search.together.fit_data import FitArrays, FitData, draw_as_building, rows_of, steps_of_epoch
from keras_ext.search.together.fit_methods import assign, copies_of, own_functions, saved_once
from keras_ext.search.together.free_numbers import InputNumbers, has_own_layers, input_numbers
from keras_ext.search.together.stacked_program import Request, StackedProgram
from keras_ext.search.together.structure import NotComparable, Structure, structure_of
from keras_ext.search.together.trial_thread import TrialThread

# Structures whose programs are kept: each holds a model and some 20 MiB of programs.
_MOST = 4
# So many snapshots of models of one structure foretell enough others for a program that is compiled with care.
_SNAPSHOTS_WORTH_COMPILING = 150
# Of recurrent layers, whose snapshots take longer.
_RECURRENT_WORTH_COMPILING = 20
# On TensorFlow a program of several steps takes as long to compile as about so many steps of `fit` take.
_STEPS_WORTH_COMPILING = 1000
_CONVOLUTIONS = tuple(c for name, c in vars(keras.layers).items() if "Conv" in name and isinstance(c, type))


class _Shared:
    """A model, the programs compiled for it, and the number of steps that trials of its structure have taken."""

    def __init__(self, model: Any, structure: Structure, numbers: InputNumbers) -> None:
        self.model, self.structure, self.numbers = model, structure, numbers
        self.program: Any = None
        self.probes: dict[Any, Any] = {}
        self.steps = 0
        self.is_fast_in_xla = _is_fast_in_xla(model)
        self.snapshots_worth_compiling: int | None = None
        if self.is_fast_in_xla:
            is_recurrent = any(isinstance(layer, keras.layers.RNN) for layer in keras_private.flatten_layers(model))
            self.snapshots_worth_compiling = _RECURRENT_WORTH_COMPILING if is_recurrent else _SNAPSHOTS_WORTH_COMPILING


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
        prunes: whether most trials may end after an epoch.
    """

    def __init__(self, tuner: Any, together: int = 1, prunes: bool = False) -> None:
        self._tuner, self._together, self._prunes = tuner, together, prunes
        self._shared: OrderedDict[str, _Shared] = OrderedDict()
        self._arrays = FitArrays()

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
        # MirroredStrategy traces its replicas in turn: each would read the other's hyperparameter tensors.
        if keras.distribution.distribution() is not None or device_count(model) > 1:
            raise NotComparable("it is distributed over several devices")
        _build(model, given.get("x"))
        # The variable that holds them is part of the structure.
        numbers = input_numbers(model)
        structure = structure_of(model)
        shared = self._shared.get(structure.key)
        if shared is None:
            shared = _Shared(model, structure, numbers)
        self._shared[structure.key] = shared
        self._shared.move_to_end(structure.key)
        while len(self._shared) > max(_MOST, self._together):
            self._shared.popitem(last=False)
        return shared

    def _parts_beside(self, model: Any, given: dict[str, Any]) -> tuple[list[Any], int, FitData]:
        """Return the callbacks, the steps of an epoch, and the data of a fit whose steps a program may take.

        Raises:
            NotComparable: none may.
        """
        callbacks, steps, data = list(given.get("callbacks") or []), steps_of_epoch(given), self._arrays.of(given)
        if steps is None or data is None:
            raise NotComparable("its data is no arrays")
        if model.steps_per_execution != 1 or needs_every_step(callbacks, self._tuner):
            raise NotComparable("a callback acts within its epochs")
        if keras.backend.backend() == "torch" and model.jit_compile:
            raise NotComparable("torch.compile compiles its steps")
        return callbacks, steps, data

    def _fit_beside(
        self, trial: SharingTrial, shared: _Shared, model: Any, given: dict[str, Any], callbacks: list[Any], steps: int, data: FitData
    ) -> Any:
        """Train `model` with the steps that a program takes of all models of its structure."""
        programs = _backend.step_programs()
        if shared.program is None:
            shared.program = StackedProgram(model, self._together, shared.numbers.reading)
        program: StackedProgram = shared.program
        ahead = self._epochs_ahead(given)
        program.steps += steps * ahead

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
        if not is_checked and not has_own_layers(keras_private.flatten_layers(model)):
            _share_probes(shared, callbacks)
        variables = _variables(model)
        if TrialThread.current() is not None:  # its progress bars would mix with those of the others
            given = {**given, "verbose": 0}
        with saved_once(model, variables, trial.folder):
            history = self._epochs_at_once(model, given, callbacks, steps, data, lambda *epochs: programs.functions(model, *epochs, take))
        program.steps += steps * (len(history.epoch) - ahead)
        if program.refused is not None:
            trial.program = f"own: {program.refused}"
        return history

    def _fit_in(self, trial: SharingTrial, shared: _Shared, model: Any, given: dict[str, Any]) -> Any:
        lent = shared.model
        variables, others = _variables(lent), _variables(model)
        own = copies_of(variables)
        if lent is not model:
            trial.program = "shared"
            assign(variables, copies_of(others))
            if not keras_private.has_built_metrics(model):
                draw_as_building(given)
        try:
            with shared.numbers.lent_to(input_numbers(model)), saved_once(lent, variables, trial.folder):
                history = self._train(shared, given)
        except BaseException:
            # It may have ended in mid-step, with a state that is gone: no other trial trains in this model.
            self._shared.pop(shared.structure.key, None)
            assign(variables, own)
            raise
        if lent is not model:
            assign(others, copies_of(variables))
            assign(variables, own)
        if may_change_the_model(given.get("callbacks") or (), self._tuner) and not _has(lent, shared.structure):
            self._shared.pop(shared.structure.key, None)
        history.set_model(model)
        model.history, model.stop_training = history, lent.stop_training
        return history

    def _train(self, shared: _Shared, given: dict[str, Any]) -> Any:
        lent, callbacks = shared.model, list(given.get("callbacks") or [])
        _share_probes(shared, callbacks)
        steps = steps_of_epoch(given)
        if steps is None or not self._runs_at_once(shared, callbacks, steps * self._epochs_ahead(given)):
            history = type(lent).fit(lent, **given)
        else:
            if shared.program is None:
                shared.program = _backend.step_programs().StepProgram(lent)
            history = self._epochs_at_once(lent, given, callbacks, steps, self._arrays.of(given), shared.program.functions)
        shared.steps += (steps or 1) * len(history.epoch)
        return history

    def _epochs_ahead(self, given: dict[str, Any]) -> int:
        """Return the epochs that a fit is likely to take: of pruned trials most end after the first."""
        planned = given.get("epochs", 1) - given.get("initial_epoch", 0)
        return min(planned, 1) if self._prunes else planned

    def _epochs_at_once(
        self, model: Any, given: dict[str, Any], callbacks: list[Any], steps: int, data: FitData | None, functions: Callable[..., Any]
    ) -> Any:
        """Fit with each epoch as one step; `functions` returns the functions that take the steps of training and validation."""
        if data is not None and not keras_private.has_built_metrics(model):
            draw_as_building(given)
            keras_private.build_metrics(model, rows_of(data.training.arrays, slice(data.training.batch_size)))
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
            with own_functions(model, kept), _backend.step_programs().training_here(model):
                return type(model).fit(model, **{**(given if data is None else data.fit), "callbacks": listed})
        finally:
            model.train_function, model.test_function, model.steps_per_execution = kept

    def _runs_at_once(self, shared: _Shared, callbacks: list[Any], ahead: int) -> bool:
        """Return whether the steps of an epoch run as one program: where none of the callbacks acts between them, and it is faster."""
        lent = shared.model
        if lent.steps_per_execution != 1 or needs_every_step(callbacks, self._tuner) or not shared.is_fast_in_xla:
            return False
        return keras.backend.backend() == "jax" or shared.program is not None or shared.steps + ahead >= _STEPS_WORTH_COMPILING


def _has(model: Any, structure: Structure) -> bool:
    try:
        return structure_of(model).key == structure.key
    except NotComparable:
        return False


def _is_fast_in_xla(model: Any) -> bool:
    """Return whether XLA can compile the layers, and to fast code."""
    layers = list(keras_private.flatten_layers(model))
    # XLA's CPU backend computes a convolution within a loop without its fast kernel, ten times as long.
    is_slow = _backend.device_name() == "CPU" and any(isinstance(layer, _CONVOLUTIONS) for layer in layers)
    return not is_slow and all(layer.supports_jit for layer in layers)


def _share_probes(shared: _Shared, callbacks: list[Any]) -> None:
    for monitor in callbacks:
        if isinstance(monitor, SaturationMonitor):
            monitor.share_probes(shared.probes, shared.numbers.traced, shared.snapshots_worth_compiling)


def _serve(request: Request) -> None:
    """Let the program take the steps of a request, with those of other trials where these are under way."""
    thread = TrialThread.current()
    if thread is None:
        request.program.run([request])
    else:
        thread.pause(request)
        thread.waited -= request.seconds


def _build(model: Any, x: Any) -> None:
    if not keras_private.is_built(model):
        if not (isinstance(model, keras.Sequential) and hasattr(x, "shape")):
            raise NotComparable("its first batch builds it")
        model.build((None, *x.shape[1:]))
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _variables(model: Any) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]
