"""Searches whose trials run in processes of their own: the same trials as here, and nothing lost when a process dies."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.parallel.children import Children
from keras_ext.parallel.job import Shared
from keras_ext.parallel.parallel_search import ParallelSearch, RetryPolicy
from keras_ext.search import MLP, GridSearch, results, watch
from keras_ext.search.together import stacked_program

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


class Space(keras_tuner.HyperModel):
    """Small networks, of which some are dead."""

    def build(self, hp):
        bias = keras.initializers.Constant(hp.Choice("bias", [0.0, -50.0]))
        hidden = keras.layers.Dense(hp.Int("units", 4, 32), "relu", bias_initializer=bias)
        model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2, "softmax")])
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


def random(folder):
    return keras_tuner.RandomSearch(Space(), "val_loss", max_trials=3, seed=3, directory=folder, project_name="p", overwrite=False)


def hyperband(folder):
    return keras_tuner.Hyperband(Space(), "val_loss", max_epochs=3, seed=3, directory=folder, project_name="p", overwrite=False)


def monitor():
    return SaturationMonitor(X, Y, on_critical="stop")


FIT = {"x": X, "y": Y, "validation_data": (X, Y), "epochs": 3, "batch_size": 32, "verbose": 0}


def in_children(make, folder, fit=FIT, trials=99, patience=None, monitor=None, **shared):
    tuner = make(str(folder))
    policy = keras.dtype_policies.serialize(keras.config.dtype_policy())
    children = Children(Shared(make, monitor, 5, policy, (), fit, **shared), trials)
    group = max(1, shared.get("together", 1))
    ParallelSearch(tuner, children, 1, patience or RetryPolicy(), verbose=0, together=group).search()
    return tuner


def on_ray(make, folder, fit=FIT, trials=99, patience=None, monitor=None, at_once=2, **shared):
    pytest.importorskip("ray")
    from keras_ext.parallel import run_on_ray

    patience = patience or RetryPolicy()
    given = {"max_retries": patience.max_retries, "trial_timeout": patience.trial_timeout, **shared}
    fit = {"verbose": 0, **fit}
    x = fit.pop("x", X)
    return run_on_ray(make, x, directory=folder, monitor=monitor, seed=5, trials_at_once=at_once, trials_per_process=trials, **given, **fit)


def reported(tuner):
    by_number = sorted(results(tuner), key=lambda r: r.number)
    return [(r.number, r.status, r.score, r.epochs, r.planned_epochs, r.symptoms, r.hyperparameters) for r in by_number]


PLACES = [pytest.param(in_children, id="children"), pytest.param(on_ray, id="ray")]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [pytest.param(random, id="random"), pytest.param(hyperband, id="hyperband", marks=pytest.mark.slow)])
def test_a_search_elsewhere_is_the_one_that_runs_here(tmp_path, make, place):
    here = watch(make(str(tmp_path / "here")), monitor(), seed=5)
    here.search(**FIT)
    at_once = {"at_once": 1} if place is on_ray else {}
    tuner = place(make, tmp_path / "there", monitor=monitor(), **at_once)
    assert reported(tuner) == reported(here)
    (best,) = tuner.get_best_models()
    np.testing.assert_array_equal(best.get_weights()[0], here.get_best_models()[0].get_weights()[0])
    again = make(str(tmp_path / "there"))
    assert reported(again) == reported(here)
    assert {p.name for p in (tmp_path / "there/p").iterdir()} == {p.name for p in (tmp_path / "here/p").iterdir()}


class Rates(keras_tuner.HyperModel):
    """Networks of one structure."""

    def build(self, hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2, "softmax")])
        model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.1)), "sparse_categorical_crossentropy")
        return model


def without_timing(patch=setattr):
    """Let a program take all steps, however fast it is."""
    patch(stacked_program, "_STEPS_WORTH_TRACING", 0)
    patch(stacked_program.StackedProgram, "takes", lambda program: program.refused is None)
    patch(stacked_program.StackedProgram, "_compare", lambda *_: None)


def rates(folder):
    if "keras_ext_trial_" in folder:  # in the trial's process
        without_timing()
    return keras_tuner.RandomSearch(Rates(), "val_loss", max_trials=4, seed=3, directory=folder, project_name="p", overwrite=False)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("together", ["off", 1, 2])
def test_trials_of_one_process_share_programs(tmp_path, monkeypatch, place, together):
    without_timing(patch=monkeypatch.setattr)
    if together == 2 and keras.backend.backend() != "torch":
        pytest.skip("trials run side by side on PyTorch")
    fit = {**FIT, "epochs": 3}
    (tmp_path / "of children").mkdir()
    if place is in_children:
        monkeypatch.setenv("TMPDIR", str(tmp_path / "of children"))
    here = watch(rates(str(tmp_path / "here")), monitor(), seed=5, together=together)
    here.search(**fit)
    count = {"off": 0}.get(together, together)
    given = {"at_once": 1, "together": together} if place is on_ray else {"together": count}
    tuner = place(rates, tmp_path / "there", fit, monitor=monitor(), **given)
    records, known = (sorted(results(each), key=lambda r: r.number) for each in (tuner, here))
    assert [r.program for r in records] == [r.program for r in known]
    assert not list(tmp_path.glob("of children/keras_ext_trial_*"))
    expected = {"off": {"own"}, 1: {"own", "shared"}, 2: {"shared"}}[together]
    assert {r.program.partition(" ")[0] for r in records} == expected
    np.testing.assert_allclose([r.score for r in records], [r.score for r in known], rtol=1e-5)


class Faulty(keras_tuner.GridSearch):
    """Trials without networks, which end as their hyperparameter says."""

    def run_trial(self, trial, marks, *args, **kwargs):
        what = trial.hyperparameters.get("what")
        Path(marks, f"{what} {time.monotonic_ns()}").touch()
        times = len(list(Path(marks).glob(f"{what} *")))
        if what == "killed" or (what == "killed once" and times == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hangs":
            time.sleep(600)
        if what == "raises":
            raise ValueError("no such thing")
        if what == "eats":
            eaten = []
            while True:
                eaten.append(np.ones(2**22))
                time.sleep(0.01)
        return {"well": 1.0, "well too": 2.0}.get(what, 3.0)


KINDS = ["killed", "killed once", "hangs", "raises", "eats", "well", "well too"]


def faulty(folder, kinds=tuple(KINDS)):
    def space(hp):
        hp.Choice("what", list(kinds))

    return Faulty(space, keras_tuner.Objective("score", "min"), directory=folder, project_name="p", overwrite=False)


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        pytest.param(in_children, KINDS, id="children", marks=pytest.mark.slow),
        pytest.param(on_ray, KINDS, id="ray", marks=pytest.mark.slow),
        pytest.param(in_children, ["killed once", "hangs", "eats", "well"], id="children-short"),
        pytest.param(functools.partial(in_children, together=2), ["killed once", "well", "killed", "well too"], id="children-groups"),
        pytest.param(on_ray, ["killed once", "raises"], id="ray-short"),
    ],
)
def test_what_dies_hangs_raises_or_eats_memory_fails_alone(tmp_path, place, kinds):
    marks, seconds = tmp_path / "marks", 15 if kinds is KINDS else 8
    marks.mkdir()
    fit = {"x": str(marks)} if place is on_ray else {"marks": str(marks)}
    make, patience = functools.partial(faulty, kinds=kinds), RetryPolicy(max_retries=1, trial_timeout=seconds)
    limit = 1280 if place is on_ray else 1280 * 2**20  # MiB there, bytes inside
    tuner = place(make, tmp_path / "s", fit, patience=patience, memory_limit=limit)
    found = {r.hyperparameters["what"]: (r.score, r.ended) for r in results(tuner)}
    assert set(found) == set(kinds)
    expected = {
        "well": (1.0, ""),
        "well too": (2.0, ""),
        "killed once": (3.0, ""),
        "killed": (None, "failed: its process died 2 times: "),
        "hangs": (None, f"failed: it took longer than {seconds} s"),
        "raises": (None, "failed: ValueError: no such thing"),
        "eats": (None, "failed: out of memory: it took 1,"),
    }
    for kind, (score, ended) in found.items():
        assert score == expected[kind][0]
        assert ended.startswith(expected[kind][1])
        assert bool(ended) == bool(expected[kind][1])
    tried = [path.name.rpartition(" ")[0] for path in marks.iterdir()]
    assert {kind: tried.count(kind) for kind in kinds} == {kind: 2 if kind.startswith("killed") else 1 for kind in kinds}


class Slow(GridSearch):
    """Trials of a second, which leave a mark when they begin and one when they end."""

    def run_trial(self, trial, marks, *args, **kwargs):
        number = trial.hyperparameters.get("number")
        Path(marks, f"begun {number} {time.monotonic_ns()}").touch()
        time.sleep(1)
        Path(marks, f"ended {number} {time.monotonic_ns()}").touch()
        return float(number)


def slow(folder):
    def space(hp):
        hp.Int("number", 0, 4)

    return Slow(space, keras_tuner.Objective("score", "min"), directory=folder, project_name="p", overwrite=False)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import test_elsewhere
place, folder, marks = getattr(test_elsewhere, sys.argv[1]), *sys.argv[2:]
fit = {{"marks": marks}} if place is test_elsewhere.in_children else {{"x": marks}}
place(test_elsewhere.slow, folder, fit)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["in_children", "on_ray"])
def test_a_search_that_is_killed_goes_on_and_runs_no_trial_twice(tmp_path, place):
    marks = tmp_path / "marks"
    marks.mkdir()
    words = [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent)), place, str(tmp_path / "s"), str(marks)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(marks.glob("begun *"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2.5)
    began = len(list(marks.glob("begun *")))
    time.sleep(1.5)
    assert len(list(marks.glob("begun *"))) == began, "its processes go on without it"
    known = {t.trial_id: t.score for t in slow(str(tmp_path / "s")).oracle.trials.values() if t.status == "COMPLETED"}
    assert known
    subprocess.run(words, check=True, capture_output=True)
    tuner = slow(str(tmp_path / "s"))
    assert sorted(t.score for t in tuner.oracle.trials.values()) == [0, 1, 2, 3, 4]
    ended = [path.name.split()[1] for path in marks.glob("begun *")]
    for score in known.values():
        assert ended.count(f"{score:.0f}") == 1


class Devices(keras.callbacks.Callback):
    """Writes down how many devices hold a copy of the weights."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_begin(self, logs=None):
        weight = self.model.trainable_variables[0].value
        count = len(weight.values) if keras.backend.backend() == "tensorflow" else len(weight.sharding.device_set)
        Path(self.path).write_text(str(count))


def on_two_devices(folder):
    if keras.backend.backend() == "tensorflow" and "keras_ext_trial_" in folder:  # of the child: here TensorFlow has begun
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    space = MLP((4,), classes=2, samples=len(X) - 1, batch_sizes=(16,))
    return keras_tuner.RandomSearch(space, space.objective, max_trials=1, seed=1, directory=folder, project_name="p", overwrite=False)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras's PyTorch backend trains on one device")
def test_a_trial_trains_on_all_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    # One sample is left over by halves, and so is one batch.
    odd = {"x": X[:-1], "y": Y[:-1], "validation_data": (X[:-1], Y[:-1])}
    fit = {**FIT, **odd, "batch_size": 15, "callbacks": [Devices(str(tmp_path / "count"))]}
    tuner = in_children(on_two_devices, tmp_path / "s", fit, strategy="mirrored", monitor=monitor())
    assert [r.ended for r in results(tuner)] == [""]
    assert (tmp_path / "count").read_text() == "2"
