"""Trials under way at the same time take their steps in one program, and each trains as it would alone."""

import csv
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext import _backend, layers
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch
from keras_ext.search.together import stacked_program
from keras_ext.search.together.side_by_side import Turns, models_at_once
from keras_ext.search.together.trial_thread import Rung, TrialThread

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 6)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")
stacks = pytest.mark.skipif(BACKEND == "tensorflow", reason="on TensorFlow trials train one after another")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Let programs take the steps from the first on, whatever time they take."""
    monkeypatch.setattr(stacked_program, "_STEPS_WORTH_TRACING", 0)
    monkeypatch.setattr(stacked_program.StackedProgram, "_compare", lambda *_: None)


def build(hp):
    keras.utils.set_random_seed(hp.Int("seed", 1, 10**6))
    model = keras.Sequential([keras.Input((6,))])
    for _ in range(hp.Choice("layers", [1])):
        model.add(keras.layers.Dense(8, use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(keras.layers.Activation("tanh"))
        model.add(layers.Dropout(0.2, seed=3))
    model.add(keras.layers.Dense(2, "softmax"))
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def search(folder, together, kind=keras_tuner.RandomSearch, make=build, callbacks=(), view=None, fit=None, pruner=None, **arguments):
    tuner = kind(make, "val_loss", seed=1, directory=folder, project_name="p", **arguments)
    watch(tuner, SaturationMonitor(X, Y, on_critical=None), seed=0, together=together, view=view, pruner=pruner)
    epochs = {} if kind is keras_tuner.Hyperband else {"epochs": 3}
    data = {"x": X[:110], "y": Y[:110], "validation_data": (X[110:], Y[110:]), "verbose": 0}
    tuner.search(**{**data, **epochs, **(fit or {})}, callbacks=list(callbacks))
    return tuner


def records(tuner):
    return {record.trial: record for record in results(tuner)}


def assert_as_alone(tuner, alone):
    ours, theirs = records(tuner), records(alone)
    assert ours.keys() == theirs.keys()
    for trial, record in theirs.items():
        assert ours[trial].hyperparameters == record.hyperparameters
        assert ours[trial].epochs == record.epochs
        assert ours[trial].score == (None if record.score is None else pytest.approx(record.score, rel=1e-4))
        assert ours[trial].symptoms == record.symptoms


@stacks
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (keras_tuner.RandomSearch, {"max_trials": 5}),
        (keras_tuner.RandomSearch, {"max_trials": 2, "executions_per_trial": 2}),
    ],
)
def test_each_trial_trains_as_alone(tmp_path, kind, arguments):
    together = search(tmp_path / "together", 3, kind, **arguments)
    assert any(record.program.startswith("shared by") for record in results(together))
    assert_as_alone(together, search(tmp_path / "off", "off", kind, **arguments))


@stacks
def test_hyperband_goes_on_with_the_state_of_a_trial(tmp_path):
    tuner = search(tmp_path, 3, keras_tuner.Hyperband, max_epochs=4, factor=2)
    promoted = [name for name, trial in tuner.oracle.trials.items() if "tuner/trial_id" in trial.hyperparameters.values]
    assert promoted
    assert all(records(tuner)[name].program.startswith("shared") for name in promoted)
    model = tuner.get_best_models(1)[0]
    loss = model.evaluate(X[110:], Y[110:], verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(results(tuner)[0].score, rel=1e-4)


@stacks
def test_trials_of_another_structure_train_by_themselves(tmp_path):
    def make(hp):
        hp.Choice("layers", [1, 2])
        return build(hp)

    together = search(tmp_path / "together", 4, make=make, max_trials=5)
    assert_as_alone(together, search(tmp_path / "off", "off", make=make, max_trials=5))
    layers_of = {record.trial: record.hyperparameters["layers"] for record in results(together)}
    for record in results(together):
        partners = sum(n == record.hyperparameters["layers"] for n in layers_of.values())
        assert int(record.program.removeprefix("shared by ")) <= partners if "by" in record.program else record.program in ("own", "shared")
    assert any("by" in record.program for record in results(together))


@stacks
def test_callbacks_belong_to_their_trial(tmp_path):
    def own(folder):
        return [
            keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=0.01, restore_best_weights=True),
            keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1.0, factor=0.5),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            Writes(folder),
        ]

    for name, together in (("together", 3), ("off", "off")):
        search(tmp_path / name, together, callbacks=own(tmp_path / f"{name} log"), max_trials=4)
    written = [
        {p.name: list(csv.reader(p.open())) for p in sorted((tmp_path / f"{name} log").glob("*.csv"))} for name in ("together", "off")
    ]
    assert written[0].keys() == written[1].keys()
    assert len(written[0]) == 4
    assert len({len(rows) for rows in written[1].values()}) > 1, "some trials stop early"
    for name, rows in written[0].items():
        np.testing.assert_allclose(np.array(rows, "float"), np.array(written[1][name], "float"), rtol=1e-3)


class Writes(keras.callbacks.Callback):
    """Writes the norm of the first weights, the rate and the loss of each epoch into a file of the model's own."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.folder.mkdir(exist_ok=True)
        first = float(keras.ops.norm(self.model.weights[0]))
        self.file = self.folder / f"{first:.5f}.csv"

    def on_epoch_end(self, epoch, logs=None):
        norm, rate = (
            float(keras.ops.convert_to_numpy(v)) for v in (keras.ops.norm(self.model.weights[0]), self.model.optimizer.learning_rate)
        )
        with self.file.open("a") as file:
            csv.writer(file).writerow([epoch, norm, rate, logs["loss"], logs["val_loss"]])


@stacks
def test_a_trial_that_fails_or_turns_nan_leaves_the_others_alone(tmp_path):
    def make(hp):
        number = hp.Int("seed", 1, 10**6)
        if number % 3 == 0:
            raise ValueError("no such model")
        model = build(hp)
        if number % 3 == 1:
            model.optimizer.learning_rate.assign(float("nan"))
        return model

    tuners = [search(tmp_path / str(together), together, make=make, max_trials=6) for together in (3, "off")]
    ours, theirs = (records(tuner) for tuner in tuners)
    kinds = {record.hyperparameters["seed"] % 3 for record in theirs.values()}
    assert kinds == {0, 1, 2}
    for trial, record in theirs.items():
        assert ours[trial].ended == record.ended
        assert ours[trial].score == (record.score if record.score is None else pytest.approx(record.score, rel=1e-4))


@stacks
def test_classes_have_no_weights_in_the_validation_that_fit_splits_off(tmp_path):
    fit = {"validation_data": None, "validation_split": 0.25, "class_weight": {0: 1.0, 1: 5.0}}
    together = search(tmp_path / "together", 3, max_trials=3, fit=fit)
    assert {record.program for record in results(together)} == {"shared by 3"}
    assert_as_alone(together, search(tmp_path / "off", "off", max_trials=3, fit=fit))


class Evaluates(keras.callbacks.Callback):
    """Evaluates the model on data of its own, and trains it on a batch of them."""

    found: ClassVar[list] = []  # of all copies

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.model.evaluate(X[:20], Y[:20], verbose=0))
        self.model.train_on_batch(X[:20], Y[:20])


@stacks
def test_a_callback_evaluates_the_model_on_its_own_data(tmp_path):
    found = []
    for together in (3, "off"):
        Evaluates.found.clear()
        tuner = search(tmp_path / str(together), together, callbacks=[Evaluates()], max_trials=3)
        found.append((tuner, sorted(Evaluates.found)))
    assert len(found[0][1]) == 9
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-3)
    assert_as_alone(found[0][0], found[1][0])


class Counts(keras.layers.Layer):
    """Counts its calls in Python."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x * (1 + 0.1 * (self.calls % 5))


class Draws(keras.layers.Layer):
    """Adds noise of NumPy's."""

    def call(self, x, training=False):
        return x + np.random.normal(scale=0.3) if training else x


class Centers(keras.layers.Layer):
    """Subtracts a moving mean that it has assigned in the same call."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), trainable=False, initializer="zeros")

    def call(self, x, training=False):
        if training:
            self.mean.assign(0.5 * self.mean + 0.5 * keras.ops.mean(x, 0))
        return x - self.mean


class TorchNoise(keras.layers.Layer):
    """Adds noise of PyTorch's."""

    def call(self, x, training=False):
        return x + 0.1 * x.new_empty(x.shape).uniform_() if training else x


class Buffered(keras.layers.Layer):
    """Has a buffer of PyTorch's, which is no variable of Keras."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.register_buffer("factor", keras.ops.convert_to_tensor(np.random.uniform(0.1, 5, 6).astype("float32")))

    def call(self, x):
        return x * self.factor


def make_with(layer):
    def make(hp):
        keras.utils.set_random_seed(hp.Int("seed", 1, 10**6))
        model = keras.Sequential([keras.Input((6,)), layer(), keras.layers.Dense(2, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    return make


@pytest.mark.skipif(BACKEND != "torch", reason="compiled steps repeat none of this either")
@pytest.mark.parametrize(
    ("layer", "program"),
    [
        (Counts, "Counts.calls changes"),
        (Draws, "the state of NumPy's"),
        (TorchNoise, "draws from PyTorch's generator"),
        (lambda: keras.layers.SpectralNormalization(keras.layers.Dense(4)), "assigns trained weights"),
        (Buffered, "own"),
        (Centers, "shared by 3"),
        (lambda: keras.layers.Dropout(0.4), "shared by 3"),
    ],
)
def test_a_program_computes_what_each_model_computes_by_itself(tmp_path, layer, program):
    tuners = [search(tmp_path / str(together), together, make=make_with(layer), max_trials=3) for together in (3, "off")]
    assert all(program in record.program for record in results(tuners[0]))
    assert_as_alone(*tuners)


@stacks
def test_trials_whose_data_have_another_dtype_do_not_fail(tmp_path):
    class Casts(keras_tuner.HyperModel):
        def build(self, hp):
            hp.Choice("dtype", ["float32", "int32"])
            return make_with(lambda: keras.layers.Dense(4))(hp)

        def fit(self, hp, model, x, y, **kwargs):
            return model.fit((3 * x).astype(hp.get("dtype")), y, **kwargs)

    tuners = [search(tmp_path / str(together), together, make=Casts(), max_trials=4) for together in (3, "off")]
    assert len({record.hyperparameters["dtype"] for record in results(tuners[0])}) == 2
    assert_as_alone(*tuners)


@stacks
def test_an_update_of_the_oracle_that_fails_lets_the_other_trials_go_on(tmp_path):
    def make(hp):
        model = make_with(lambda: keras.layers.Dense(4))(hp)
        metric = keras.metrics.MeanIoU(2, sparse_y_pred=False)  # of which KerasTuner cannot tell the direction
        model.compile("adam", "sparse_categorical_crossentropy", metrics=[metric])
        return model

    found = records(search(tmp_path, 2, make=make, max_trials=2))
    assert all("MeanIoU" in record.ended for record in found.values())
    assert len(found) == 2


class Freezes(keras.callbacks.Callback):
    """Freezes a layer after the first epoch, and fails with a TypeError in some trials."""

    begun: ClassVar[list] = []

    def on_train_begin(self, logs=None):
        self.begun.append(0)

    def on_epoch_end(self, epoch, logs=None):
        if BACKEND == "torch":  # on JAX Keras's own fit fails then
            self.model.layers[0].trainable = False
        if epoch == 1 and int(1e5 * abs(float(self.model.weights[0][0, 0]))) % 2:
            raise TypeError("not mine")


@stacks
def test_a_callback_that_changes_the_model_or_fails_does_so_in_its_trial_alone(tmp_path):
    Freezes.begun.clear()
    make = make_with(lambda: keras.layers.Dense(4))
    tuners = [search(tmp_path / str(together), together, make=make, callbacks=[Freezes()], max_trials=5) for together in (3, "off")]
    assert len(Freezes.begun) == 10, "no fit begins twice"
    assert {record.ended for record in results(tuners[0])} == {"", "failed: TypeError: not mine"}
    assert_as_alone(*tuners)


@stacks
def test_halving_judges_trials_of_one_program_together(tmp_path):
    tuner = search(tmp_path, 4, max_trials=7, pruner="halving")
    ended = sorted(results(tuner), key=lambda record: int(record.trial))
    losses = [record.scores[0] for record in ended]
    # The first four meet at epoch 1, then the three that take the places of those that end there.
    best = [losses.index(min(losses[:4])), *([losses.index(min(losses))] if min(losses[4:]) < min(losses[:4]) else [])]
    assert [i for i, record in enumerate(ended) if record.epochs == 3] == best
    reason = "pruned at epoch 1: not among the best of the trials that came as far"
    assert {record.ended for i, record in enumerate(ended) if i not in best} == {reason}
    assert {record.program for i, record in enumerate(ended[:4]) if i not in best} == {"shared by 4"}


@stacks
def test_a_trial_waits_for_those_that_began_as_early_alone():
    order = []

    def trial(name, *epochs):
        def run():
            thread = TrialThread.current()
            for thread.epoch in epochs:
                order.append(f"{name}{thread.epoch}")
                thread.pause(Rung(thread.epoch))
            order.append(name)

        return run

    trials = iter([trial("a", 2), trial("b", 1, 2), trial("c", 1), trial("d", 1, 2)])
    Turns(3).run(lambda: next(trials, None))
    assert order == ["a2", "b1", "c1", "b2", "c", "d1", "a", "b", "d2", "d"]


@stacks
def test_a_stopped_search_goes_on(tmp_path):
    class Stops:
        """Of the view, what a search without a terminal needs; it ends the search after some programs."""

        def __init__(self):
            self.checks = 0

        def __getattr__(self, name):
            return lambda *_: None

        def check(self):
            self.checks += 1
            if self.checks > 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "together", 3, view=Stops(), max_trials=5)
    again = search(tmp_path / "together", 2, max_trials=5)
    assert_as_alone(again, search(tmp_path / "off", "off", max_trials=5))


KILLED = """
import os, signal
import keras
from tests.search.test_side_by_side import search, stacked_program
stacked_program._STEPS_WORTH_TRACING = 0

class Kills(keras.callbacks.Callback):
    count = 0
    def on_epoch_end(self, epoch, logs=None):
        Kills.count += 1
        if Kills.count == 10:
            os.kill(os.getpid(), signal.SIGKILL)
search({folder!r}, 3, callbacks=[Kills()], max_trials=5)
"""


@stacks
def test_a_killed_search_goes_on(tmp_path):
    code = KILLED.format(folder=str(tmp_path / "together"))
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    again = search(tmp_path / "together", 3, max_trials=5)
    assert_as_alone(again, search(tmp_path / "off", "off", max_trials=5))


class Fails:
    """Steps of a program that cannot take more than `most` models, and says so with `error`."""

    has_own_steps = False

    def __init__(self, most, error):
        self.most, self.error, self.taken = most, error, []

    def run(self, models, states, places, arrays, most):
        if len(models) > self.most:
            raise self.error
        self.taken.append(len(models))
        return states, 0.0


class Model:
    """Steps of nothing."""

    train_step = test_step = None


@stacks
def test_without_memory_for_all_fewer_train_at_once(monkeypatch):
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
    monkeypatch.setattr(_backend.step_programs(), "is_out_of_memory", lambda e: e is error)
    program = stacked_program.StackedProgram(Model(), 8, lambda step: step)
    steps = Fails(3, error)
    program._steps = {True: steps, False: steps}
    requests = [stacked_program.Request(program, True, i, None, [np.arange(4)] * 2, None) for i in range(8)]
    program.run(requests)
    assert [request.done for request in requests] == [2] * 8
    assert steps.taken == [2, 2, 2, 2]
    assert program.most == 2


@stacks
def test_a_step_that_cannot_be_traced_is_taken_by_each_model(monkeypatch):
    program = stacked_program.StackedProgram(Model(), 8, lambda step: step)
    steps = Fails(0, TypeError("no bool"))
    program._steps = {True: steps, False: steps}
    requests = [stacked_program.Request(program, True, i, None, [np.arange(4)] * 2, None) for i in range(3)]
    program.run(requests)
    assert [request.done for request in requests] == [0] * 3
    assert program.refused == "its step cannot be traced (TypeError: no bool)"


@stacks
def test_slower_programs_take_fewer_models(monkeypatch):
    monkeypatch.undo()
    program = stacked_program.StackedProgram(Model(), 8, lambda step: step)
    for seconds in (9.0, 1.0, 1.2):
        program.note_own_step(seconds)
    program._compare(8, 80.0)  # with what the first run compiles
    program._compare(8, 7.9)
    assert program.most == 8
    program._compare(4, 40.0)
    program._compare(4, 4.1)
    assert program.most == 2
    program._compare(1, 1.3)
    program._compare(1, 1.3)
    assert program.refused == "its steps are faster one after another"


@stacks
@pytest.mark.parametrize("models", [3, 8, 16])
def test_where_steps_are_slower_at_every_size_each_model_takes_its_own(monkeypatch, models):
    monkeypatch.undo()

    class Slow(Fails):
        def run(self, models, *rest):
            return super().run(models, *rest)[0], 10.0 * len(models)

    program = stacked_program.StackedProgram(Model(), 8, lambda step: step, steps=999)
    steps = Slow(99, None)
    program._steps = {True: steps, False: steps}
    for seconds in (9.0, 1.0, 1.2):
        program.note_own_step(seconds)
    requests = [stacked_program.Request(program, True, i, None, [np.arange(4)] * 2, None) for i in range(models)]
    for _ in range(9):
        program.run(requests)
    assert program.refused == "its steps are faster one after another"
    assert not program.takes()


@stacks
def test_one_step_of_a_models_own_which_compiled_says_nothing_of_the_others(monkeypatch):
    monkeypatch.undo()
    program = stacked_program.StackedProgram(Model(), 8, lambda step: step)
    program.note_own_step(9.0)
    for _ in range(3):
        program._compare(8, 80.0)
    assert (program.most, program.refused) == (8, None)


def test_the_number_of_models_at_once():
    assert models_at_once("off") == 0
    assert models_at_once(1) == 1
    assert models_at_once("auto") == (16 if BACKEND == "torch" else 1)
    for bad in (0, -1, 2.5, "all", None, True):
        with pytest.raises((ValueError, TypeError), match="together"):
            models_at_once(bad)
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match="one after another"):
            models_at_once(2)


def test_a_tuner_with_a_loop_of_its_own_runs_one_trial_after_another(tmp_path):
    class Own(keras_tuner.RandomSearch):
        def search(self, *args, **kwargs):
            self.begun = True
            return super().search(*args, **kwargs)

    tuner = search(tmp_path, "auto", Own, max_trials=2)
    assert tuner.begun
    assert len(records(tuner)) == 2


def draws():
    ours = _backend.random_state()
    return random.random(), np.random.rand(), None if ours is None else ours[0].tolist()


def test_threads_have_their_own_random_states_and_names():
    seen = {}

    def run(seed):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        first = draws(), keras.layers.Dense(1).name, float(keras.random.normal(()))
        TrialThread.current().pause(seed)
        seen.setdefault(seed, []).append([first, draws(), keras.layers.Dense(1).name, float(keras.random.normal(()))])

    random.seed(5)
    before = draws()
    for orders in ([1], [2], [1, 2]):
        threads = [TrialThread(lambda seed=seed: run(seed)) for seed in orders]
        random.seed(5)
        for _ in range(2):
            for thread in threads:
                thread.resume()
        assert all(thread.is_done for thread in threads)
    assert before[0] == random.Random(5).random()
    for alone, beside in seen.values():
        assert alone == beside


def test_the_dtype_policy_is_that_of_the_caller():
    seen = []
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        TrialThread(lambda: seen.append(keras.config.dtype_policy().name)).resume()
    finally:
        keras.config.set_dtype_policy("float32")
    assert seen == ["mixed_bfloat16"]


def test_errors_of_a_thread_reach_its_caller_and_the_other_way():
    def fails():
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        TrialThread(fails).resume()
    seen = []

    def waits():
        try:
            TrialThread.current().pause("request")
        except ValueError as error:
            seen.append(str(error))

    thread = TrialThread(waits)
    thread.resume()
    assert thread.request == "request"
    thread.resume(ValueError("yours"))
    assert seen == ["yours"]
    assert thread.is_done


@pytest.fixture
def hears_ctrl_c():
    """A process that a shell starts in the background ignores Ctrl-C."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_an_interruption_ends_a_thread_that_does_not_pause():
    seen = []

    def works():
        for _ in range(500):
            time.sleep(0.01)
        seen.append("on")

    thread = TrialThread(works)
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        thread.resume()
    assert seen == []
    assert thread.is_done


def test_a_thread_that_is_closed_ends_where_it_paused():
    seen = []

    def waits():
        try:
            TrialThread.current().pause(None)
            seen.append("on")
        finally:
            seen.append("cleaned")

    thread = TrialThread(waits)
    thread.resume()
    thread.close()
    assert seen == ["cleaned"]
    assert thread.is_done
