"""The private names of Keras and KerasTuner that the package needs, each with its reason.

`tests/test_keras_private.py` reports when one changes.
"""

import contextlib
import copy
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np


def flatten_layers(layer: Any) -> Iterator[Any]:
    """Yield every layer inside `layer`, depth first.

    `model.layers` is public but shows a model's own layers alone: blocks inside a custom layer, or layers kept in its lists, have no
    public way to them.
    """
    yield from layer._flatten_layers(include_self=False, recursive=True)


def own_trainable_variables(layer: Any) -> list[Any]:
    """Return the weights of a layer's own that a step changes unless the layer is frozen.

    `layer.trainable_variables` is public, but is empty for a frozen layer, and `layer.weights` has moving statistics and those of the
    layers inside too.
    """
    return list(layer._trainable_variables)


def is_built(model: Any) -> bool:
    """Return True where the model and every layer inside it have their weights."""
    return model.built and all(layer.built for layer in flatten_layers(model))


def variable_index(optimizer: Any, variable: Any) -> int:
    """Return the place of `variable` in the list that `optimizer` was built on.

    Keras's own example of a custom optimizer (docstring of `keras.optimizers.Optimizer`) calls it; there is no public name.
    """
    return optimizer._get_variable_index(variable)


def trainable_variables(optimizer: Any) -> list[Any]:
    """Return the weights that `optimizer` was built on, which has no public name for them."""
    return list(optimizer._trainable_variables)


def rate_function(optimizer: Any) -> dict[str, Any]:
    """Return `learning_rate` as an argument where it is a function: its config is a text that not every process can read."""
    rate = getattr(optimizer, "_learning_rate", None)
    is_function = callable(rate) and not isinstance(rate, (keras.Variable, keras.optimizers.schedules.LearningRateSchedule))
    return {"learning_rate": rate} if is_function else {}


def rate_of(optimizer: Any) -> Any:
    """Return the variable, schedule or function of an optimizer's rate; `learning_rate` is public, and computes a number of it."""
    return getattr(optimizer, "_learning_rate", None)


def arguments_of_loss(loss: Any) -> list[dict[str, Any]]:
    """Return the arguments that a loss of Keras hands to its function; an attribute of the same name is for its config alone."""
    arguments = getattr(loss, "_fn_kwargs", None)
    return [] if arguments is None else [arguments]


def held_states(model: Any) -> list[Any]:
    """Return the holders, with an attribute `state`, of variables of a model that are none of its weights: its own seed generators.

    What is added there is an input of the model's compiled steps, and in no file. No public name adds a variable to a built model.
    """
    return model._seed_generators


def excluded_from_weight_decay(optimizer: Any) -> tuple[list[Any], list[str]]:
    """Return the weights that a Keras optimizer excludes from weight decay, or patterns of names; its config does not tell them.

    Raises:
        ValueError: weights are excluded, and the optimizer is not built, so that nothing reports which they are.
    """
    keys = getattr(optimizer, "_exclude_from_weight_decay", None)
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if not keys and not pattern:
        return [], []
    if optimizer.built:
        # On TensorFlow it is asked about the framework's variables, whose names have the path in them.
        ask = (lambda v: v.value) if keras.backend.backend() == "tensorflow" else (lambda v: v)
        return [v for v in trainable_variables(optimizer) if not optimizer._use_weight_decay(ask(v))], []
    if keys:
        raise ValueError("The optimizer excludes single weights from weight decay. Build it first, so that it knows them.")
    return [], [pattern.pattern] if pattern else []


def is_functional_or_sequential(model: Any) -> bool:
    """Return whether Keras knows how `model` is put together, so that it can be cloned with other layers.

    Its class for functional models has no public name.
    """
    from keras.src.models.functional import Functional

    return isinstance(model, (keras.Sequential, Functional))


def deep_copy(layer: Any) -> Any:
    """Return a copy of `layer` and all inside it, with variables of its own; its calls, and what a model was compiled with, stay behind.

    `copy.deepcopy` asks Keras for a config, and not every class has one. So each object of Keras gets an empty twin, which is then filled.
    What tracks new attributes knows the old ones by their addresses, and nothing public tells it others.
    """
    from keras.src.saving.keras_saveable import KerasSaveable
    from keras.src.utils.tracking import DotNotTrackScope, Tracker

    instead = _compiled_into(layer) if isinstance(layer, keras.Model) else {}
    found: dict[int, tuple[Any, dict[str, Any]]] = {}
    shared: dict[int, Any] = {}
    waiting, seen = [layer], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, types.ModuleType):  # such as a generator's backend
            shared[id(each)] = each
        elif isinstance(each, KerasSaveable | keras.random.SeedGenerator):
            own = {**vars(each), **instead} if each is layer else vars(each)
            if each is layer and isinstance(layer, keras.Model):
                # TensorFlow's list of the parts of a checkpoint has the optimizer, and is made again.
                own = {name: value for name, value in own.items() if not name.startswith("_self_")}
            found[id(each)] = each, own
            waiting += own.values()
        elif isinstance(each, Mapping):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
    memo = shared | {key: object.__new__(type(each)) for key, (each, _) in found.items()}
    if not is_functional_or_sequential(layer):
        # The graph that the layer is in; a copy is in none.
        memo |= {id(vars(layer)[name]): [] for name in ("_inbound_nodes", "_outbound_nodes") if name in vars(layer)}
    with DotNotTrackScope():
        for key, (_, own) in found.items():
            vars(memo[key]).update({name: copy.deepcopy(value, memo) for name, value in own.items()})
    for key in found:
        for tracker in [value for value in vars(memo[key]).values() if isinstance(value, Tracker)]:
            tracker.stored_ids = {name: {id(value) for value in store} for name, (_, store) in tracker.config.items()}
    return memo[id(layer)]


def _compiled_into(model: Any) -> dict[str, Any]:
    """Return what `compile` and `fit` leave in a model, as it is before them."""
    plain = keras.Model()
    before = dict(vars(plain))
    plain.compile("sgd", "mse")
    layer = vars(keras.layers.Layer())
    return {name: before.get(name) for name in vars(plain) if name not in layer and name in vars(model)}


def compile_arguments(model: Any) -> dict[str, Any]:
    """Return the arguments of `compile` as they were given; `model.get_compile_config` is public, and tells functions by their names."""
    return dict(model._compile_config.config)


def has_built_metrics(model: Any) -> bool:
    """Return whether the loss and metrics that `model` was compiled with have their variables: a fit builds them with its first batch."""
    return all(part is None or part.built for part in (model._compile_metrics, model._compile_loss))


def build_metrics(model: Any, batch: Any) -> None:
    """Give a model's loss and metrics their variables, as a fit does with its first batch `(x, y)` or `(x, y, sample_weight)`."""
    model._symbolic_build(data_batch=batch)


@contextlib.contextmanager
def state_shown(model: Any, state: Any) -> Iterator[None]:
    """Let callbacks find this state of a training step in the variables of `model` while the block runs; on JAX alone.

    In mid-training `fit` keeps the state beside the model, and a callback that asks for the model brings it there.
    """
    names = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")
    model._jax_state, model._jax_state_synced = dict(zip(names, state, strict=False)), False
    yield
    model._jax_state_synced = False


class Untracked(Sequence[Any]):
    """Values that a model does not track: for each list that is one of its attributes, Keras looks at each element, several times an epoch.

    Args:
        values: as a list.
    """

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __getitem__(self, place: Any) -> Any:
        return self._values[place]

    def __len__(self) -> int:
        return len(self._values)


@contextlib.contextmanager
def state_brought_back(model: Any) -> Iterator[None]:
    """Let `fit` bring the state of a training step into the variables of `model` at once while the block runs; on JAX alone.

    Keras looks for all variables and checks each value again, several times an epoch: a tenth of the time of a short one.
    """
    variables = {
        "trainable_variables": model.trainable_variables,
        "non_trainable_variables": model.non_trainable_variables,
        "optimizer_variables": model.optimizer.variables,
        "metrics_variables": model.metrics_variables,
    }
    checked = model.jax_state_sync

    def sync() -> None:
        state = getattr(model, "_jax_state", None)
        if not state or model._jax_state_synced:
            return
        if any(len(variables[name]) != len(values) for name, values in state.items()):
            checked()
            return
        for name, values in state.items():
            for variable, value in zip(variables[name], values, strict=True):
                variable._direct_assign(value)
        model._jax_state_synced = True

    model.jax_state_sync = sync
    try:
        yield
    finally:
        del model.jax_state_sync


def arrays_of_fit(x: Any, y: Any, sample_weight: Any, class_weight: Any) -> Any:
    """Return `(x, y, sample_weight)`, or fewer, as NumPy arrays, cast and weighted as `fit` does it; None where they are no arrays.

    What takes the arguments of `fit` apart has no public name.
    """
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter, can_convert_arrays

    if not can_convert_arrays((x, y, sample_weight)):
        return None
    samples = len(keras.tree.flatten(x)[0])
    adapter = ArrayDataAdapter(x, y, sample_weight, batch_size=samples, shuffle=False, class_weight=class_weight)
    return next(iter(adapter.get_numpy_iterator()))


def shuffled_places(samples: int) -> Any:
    """Return a tf.data.Dataset of one element, the places of so many samples in the order that `fit` draws from the same seeds."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    dataset = ArrayDataAdapter(keras.ops.arange(samples), batch_size=samples, shuffle=True).get_tf_dataset()
    return dataset.map(lambda places: keras.ops.reshape(places, (-1,)))


def torch_loader(samples: int, batch_size: int, shuffle: Any) -> Any:
    """Return the DataLoader that `fit` takes so many samples from: it draws from PyTorch's generator as `fit` does."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    return ArrayDataAdapter(np.zeros((samples, 0)), batch_size=batch_size, shuffle=shuffle).get_torch_dataloader()


def call_of_step(model: Any, x: Any, training: bool) -> Any:
    """Return what `model` predicts in a step: a layer that has no argument `training` is not given it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def loss_tracker(model: Any) -> Any:
    """Return the mean of the losses that a step updates; among the public `metrics` it has no place of its own."""
    return model._loss_tracker


@contextlib.contextmanager
def torch_cond(cond: Callable[..., Any]) -> Iterator[None]:
    """Let Keras's PyTorch backend branch with `cond(condition, true_fn, false_fn)` while the block runs.

    Its own asks a tensor for a bool, which a traced tensor has not. Optimizers that scale a loss or collect gradients branch.
    """
    from keras.src.backend.torch import core

    kept = core.cond
    core.cond = cond
    try:
        yield
    finally:
        core.cond = kept


def session() -> Any:
    """Return Keras's session, which `clear_session` replaces for all threads; it holds the names given, the dtype policy and more."""
    from keras.src.backend.common import global_state

    return global_state.GLOBAL_STATE_TRACKER, global_state.GLOBAL_SETTINGS_TRACKER


def set_session(kept: Any) -> None:
    """Bring a session back."""
    from keras.src.backend.common import global_state

    global_state.GLOBAL_STATE_TRACKER, global_state.GLOBAL_SETTINGS_TRACKER = kept


def trusts_lambdas() -> Any:
    """Return a context in which Keras rebuilds lambdas from configs: those of a model of this process, which is no file from elsewhere.

    The public `enable_unsafe_deserialization` is for the whole process and cannot be undone.
    """
    from keras.src.saving.serialization_lib import SafeModeScope

    return SafeModeScope(safe_mode=False)


def without_autocast() -> Any:
    """Return a context in which variables are what they are, inside the call of a layer of mixed precision too.

    There they read as cast copies, and on PyTorch an assignment goes to that copy and is lost. No public name ends a layer's scope.
    """
    from keras.src.backend import AutocastScope

    return AutocastScope(None)


def source_of(tensor: Any) -> Any:
    """Return the first Input that a symbolic tensor comes from, or None for anything else.

    The order behind an Input distinguishes layers that are otherwise alike. `keras.utils.get_source_inputs` is public, but
    walks each way through the network once: for the branches of a deep residual network it does not come back.
    """
    while True:
        history = getattr(tensor, "_keras_history", None)
        if history is None:
            return None
        node = history.operation._inbound_nodes[history.node_index]
        if node.is_input:
            return history.operation
        tensor = node.input_tensors[0]


def producers_of(operation: Any) -> Iterator[Any]:
    """Yield the operations whose symbolic outputs `operation` was called on; layers are operations.

    `layer.input` is public, but raises for a layer that was called twice, and what made a tensor has no public name.
    """
    for node in operation._inbound_nodes:
        for tensor in node.input_tensors:
            yield operation_of(tensor)


def operation_of(tensor: Any) -> Any:
    """Return the operation that a symbolic tensor is an output of."""
    return tensor._keras_history.operation


def overwrites_with_gradient(variable: Any) -> bool:
    """True where the "gradient" is the variable's next value (the scales of float8 training), not a direction."""
    return getattr(variable, "overwrite_with_gradient", False)


@contextlib.contextmanager
def conditional_scope(hp: Any, parent: str, values: Any) -> Iterator[None]:
    """Open KerasTuner's conditional scope, whose parent may stand outside of the scopes around it.

    KerasTuner looks for the parent among the hyperparameters under the same conditions alone, so that within a scope nothing could depend
    on what was chosen before the scope.
    """
    around = hp._conditions
    known = [each.conditions for each in hp.space if each.name == parent]
    if not known or around in known:
        with hp.conditional_scope(parent, values):
            yield
        return
    from keras_tuner.src.engine.conditions import Parent

    condition = Parent(parent, values)
    scopes = hp.active_scopes if condition.is_active(hp.values) else hp.inactive_scopes
    scopes.append([*around, condition])
    around.append(condition)
    try:
        yield
    finally:
        around.pop()


# KerasTuner's own function, and those that take its place: the searches of several threads have one each, and the last one counts.
_saves: list[Callable[[str, Any], str]] = []
_saves_lock = threading.Lock()


def _save_json(path: str, content: Any) -> str:
    return _saves[-1](path, content)


@contextlib.contextmanager
def keras_tuner_saves_json_with(save: Callable[[str, Any], str]) -> Iterator[None]:
    """Let KerasTuner write its state files with `save(path, content)`, which returns the JSON text, while the block runs.

    Oracle, tuner and trials all save through this one function of KerasTuner's, and there is no argument or class to give it by. It is that
    of all threads: a chief's oracle saves in those of its server.
    """
    from keras_tuner.src import utils

    with _saves_lock:
        if utils.save_json is not _save_json:
            _saves[:] = [utils.save_json]
            utils.save_json = _save_json
        _saves.append(save)
    try:
        yield
    finally:
        with _saves_lock:
            _saves.remove(save)
            if len(_saves) == 1:
                utils.save_json = _saves[0]


def begins_without_data() -> bool:
    """Return True where `fit` begins a step before it asks for its data: of data of unknown length the last step is none."""
    return keras.backend.backend() != "torch"


def has_keras_tuners_loop(tuner: Any) -> bool:
    """Return whether KerasTuner's own loop runs the trials of `tuner` in this process alone; a private method of it runs each."""
    from keras_tuner.src.engine.base_tuner import BaseTuner

    names = ("search", "_try_run_and_update_trial", "_run_and_update_trial")
    methods = [(getattr(type(tuner), name), getattr(BaseTuner, name)) for name in names]
    # Our tuners' own `search` checks their settings, and goes on with KerasTuner's. A chief runs no trial: it serves its workers.
    return not is_distributed() and all(own is kerastuners or own.__module__.startswith("keras_ext.") for own, kerastuners in methods)


def is_distributed() -> bool:
    """Return whether this process is the chief or a worker of a distributed search of KerasTuner, as its environment variables tell it."""
    from keras_tuner.src.distribute.utils import has_chief_oracle

    return has_chief_oracle()


def own_oracle(tuner: Any) -> Any:
    """Return the oracle that a tuner was made with.

    That of a worker of KerasTuner's distributed search is a client of the chief's, which hides the seed and limits of its own.
    """
    return tuner.oracle if isinstance(tuner.oracle, keras_tuner.Oracle) else tuner.oracle._oracle


def keras_tuner_records(tuner: Any, trial: Any, run: Callable[[], Any]) -> None:
    """Give the oracle of `tuner` what `run` returns for a trial, or its error, as KerasTuner's own search does with `run_trial`.

    The functions that check results of every kind and make metrics of them have no public name.
    """
    from keras_tuner import errors
    from keras_tuner.src.engine import tuner_utils

    oracle = tuner.oracle
    try:
        found = run()
        tuner_utils.validate_trial_results(found, oracle.objective, "Tuner.run_trial()")
        metrics = tuner_utils.convert_to_metrics_dict(found, oracle.objective)
        oracle.update_trial(trial.trial_id, metrics, step=tuner_utils.get_best_step(found, oracle.objective))
        trial.status = "COMPLETED"
    except errors.FatalError:
        raise
    except Exception as error:
        trial.status = "FAILED" if isinstance(error, errors.FailedTrialError) else "INVALID"
        trial.message = traceback.format_exc()
