"""KerasTuner's own tuners, watched: what becomes of unhealthy trials, what is known of them afterwards, and what goes on."""

import gc
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext import _backend
from keras_ext.callbacks import SaturationMonitor
from keras_ext.layers import BatchNormalization, Dropout
from keras_ext.optimizers import Adam
from keras_ext.search import OptunaTuner, results, watch
from keras_ext.search.records import PLACEHOLDER

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
KINDS = ["nan", "well", "dead", "error", "slow"]


def build(hp):
    kind = hp.Choice("kind", KINDS)
    if kind == "error":
        raise ValueError("no such layer")
    bias = keras.initializers.Constant(-50.0 if kind == "dead" else 0.0)
    net = [keras.layers.Dense(8, "relu", bias_initializer=bias, name="hidden"), keras.layers.Dense(2, "softmax", name="out")]
    model = keras.Sequential([keras.Input((4,)), *net])
    rate = {"nan": float("nan"), "slow": 1e-6}.get(kind, 0.1)
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def monitor(**arguments):
    return SaturationMonitor(X, Y, on_critical="stop", **arguments)


def grid(folder, objective="val_loss", space=build, **arguments):
    return keras_tuner.GridSearch(space, objective=objective, directory=folder, project_name="p", **arguments)


def search(tuner, epochs=6, **arguments):
    tuner.search(X, Y, validation_data=(X, Y), epochs=epochs, verbose=0, **arguments)
    return tuner


def by_kind(tuner):
    return {r.hyperparameters["kind"]: r for r in results(tuner)}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder, heard = tmp_path_factory.mktemp("searched"), []
    tuner = watch(grid(folder), monitor(on_finding=lambda finding: heard.append(finding.symptom)))
    return search(tuner), folder, heard


def test_each_kind_of_trial_ends_with_its_reason(searched):
    found = by_kind(searched[0])
    assert set(found) == set(KINDS)
    assert (found["well"].ended, found["well"].epochs, found["well"].planned_epochs) == ("", 6, 6)
    assert found["dead"].epochs == 3  # half of the planned steps
    assert "dead_relu" in found["dead"].symptoms
    assert found["dead"].ended.startswith("critical: ")
    assert found["dead"].score is not None
    assert (found["nan"].status, found["nan"].score, found["nan"].epochs) == ("COMPLETED", None, 1)
    assert found["nan"].ended.startswith("critical: non finite")
    assert (found["error"].status, found["error"].ended) == ("FAILED", "failed: ValueError: no such layer")
    assert [r.hyperparameters["kind"] for r in results(searched[0])][-2:] == ["nan", "error"]


def test_who_listens_to_the_monitor_hears_every_trial(searched):
    assert {"non_finite", "dead_relu"} <= set(searched[2])


def test_a_trial_that_had_no_score_gets_the_worst_of_the_others(searched):
    tuner, folder, _ = searched
    scores = {t.hyperparameters.values["kind"]: t.score for t in tuner.oracle.trials.values()}
    assert scores["nan"] == max(scores[kind] for kind in ("well", "dead", "slow"))
    (stored,) = (json.loads(path.read_text()) for path in folder.glob("p/trial_*/trial.json") if '"kind": "nan"' in path.read_text())
    assert stored["score"] == scores["nan"]


def test_another_process_reads_the_same(searched, in_new_process):
    code = """
import sys, keras, keras_tuner
from keras_ext.search import results
build = lambda hp: keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 4))])
tuner = keras_tuner.GridSearch(build, objective="val_loss", directory=sys.argv[1], project_name="p", overwrite=False)
print([r.ended for r in results(tuner)])
"""
    printed = in_new_process(code, searched[1])
    assert printed.splitlines()[-1] == str([r.ended for r in results(searched[0])])


@pytest.mark.parametrize(("direction", "placeholder"), [("min", PLACEHOLDER), ("max", -PLACEHOLDER)])
def test_until_there_is_a_score_a_documented_one_stands_in(tmp_path, direction, placeholder):
    seen = []
    tuner = watch(grid(tmp_path, keras_tuner.Objective("val_loss", direction), max_trials=2), monitor())
    end = tuner.on_trial_end

    def note(trial):
        end(trial)
        # The other one may be under way.
        seen.append([t.score for t in tuner.oracle.trials.values() if t.score is not None])

    tuner.on_trial_end = note
    search(tuner, 1)
    assert seen[0] == [placeholder]
    assert seen[1][0] == seen[1][1] < 10
    assert seen[1][1] > 0


def test_by_several_objectives_a_trial_without_any_gets_the_worst_too(tmp_path):
    objectives = [keras_tuner.Objective("val_loss", "min"), keras_tuner.Objective("val_accuracy", "max")]

    def two(hp):
        hp.Choice("kind", ["nan", "well"])
        return build(hp)

    tuner = search(watch(grid(tmp_path, objectives, two), monitor()), 2)
    nan, well = tuner.oracle.trials.values()
    assert nan.score == well.score
    assert math.isfinite(nan.score)
    assert by_kind(tuner)["nan"].score is None


def test_what_fails_in_every_trial_ends_the_search(tmp_path):
    def broken(hp):
        hp.Int("units", 1, 9)
        raise ValueError("units must be even")

    tuner = watch(grid(tmp_path, space=lambda hp: keras.Sequential([keras.layers.Dense(hp.Int("units", 1, 9))])), monitor())
    tuner.hypermodel.build = broken
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match=r"All 3 trials failed with the same error.*units must be even"):
        search(tuner)


def test_models_that_are_all_too_large_end_the_search_later(tmp_path):
    def space(hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 12), "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    tuner = watch(grid(tmp_path, space=space, max_model_size=1), monitor())
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match=r"All 9 trials failed with the same error.*[Oo]versized"):
        search(tuner)


def test_trials_that_fail_for_reasons_of_their_own_do_not(tmp_path):
    def picky(hp):
        kind = hp.Choice("kind", [f"error {i}" for i in range(5)] + ["well"])
        if kind != "well":
            raise ValueError(kind)
        return keras.Sequential([keras.layers.Dense(2, "softmax")])

    def compiled(hp):
        model = picky(hp)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    tuner = grid(tmp_path, space=lambda hp: hp.Choice("kind", [f"error {i}" for i in range(5)] + ["well"]) and keras.Sequential())
    tuner.hypermodel.build = compiled
    search(watch(tuner, monitor()), 1)
    assert [r.ended for r in results(tuner)] == ["", *(f"failed: ValueError: error {i}" for i in range(5))]


def test_first_weights_depend_on_seed_and_trial_alone(tmp_path):
    def drawn(folder, seed, kinds):
        first = []

        def noted(hp):
            hp.Choice("kind", kinds)
            model = build(hp)
            first.append(model.get_weights()[0])
            return model

        tuner = grid(tmp_path / folder, space=noted)
        first.clear()  # of the model that KerasTuner builds to know the space
        search(watch(tuner, monitor(), seed=seed), 1)
        return first

    whole, again, other = drawn("a", 0, ["well", "slow"]), drawn("b", 0, ["dead", "slow"]), drawn("c", 1, ["well", "slow"])
    for one, two in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole[0], other[0])


@pytest.mark.parametrize("has_input", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_promoted_trial_goes_on_with_its_optimizer(tmp_path, has_input):
    def space(hp):
        hp.Int("units", 2, 64)
        net = [keras.layers.Dense(4, "relu"), keras.layers.Dense(2, "softmax")]
        model = keras.Sequential([keras.Input((4,)), *net] if has_input else net)
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        return model

    began = []

    class Begin(keras.callbacks.Callback):
        def __deepcopy__(self, memo):
            return self

        def on_train_begin(self, logs=None):
            iterations = self.model.optimizer.iterations
            began.append(int(keras.ops.convert_to_numpy(iterations)))

    tuner = keras_tuner.Hyperband(space, objective="loss", max_epochs=3, directory=tmp_path, project_name="p", seed=1)
    watch(tuner, monitor())
    tuner.search(X, Y, batch_size=32, verbose=0, callbacks=[Begin()])
    trials = list(tuner.oracle.trials.values())
    promoted = [i for i, t in enumerate(trials) if "tuner/trial_id" in t.hyperparameters.values]
    assert promoted
    for i, trial in enumerate(trials):
        # Three steps an epoch; the best epoch of these easy trainings is the last.
        assert began[i] == 3 * trial.hyperparameters.values["tuner/initial_epoch"]


class Valley(OptunaTuner):
    """A search of numbers, without networks."""

    def run_trial(self, trial, *args, **kwargs):
        values = trial.hyperparameters
        return (values.get("width") - 40) ** 2 + abs(np.log10(values.get("rate")) + 2)


@pytest.mark.parametrize(("remembered", "when"), [(1, [*range(1, 11)]), (5, [5, 10])])
def test_what_was_compiled_is_forgotten_after_so_many_trials(tmp_path, monkeypatch, remembered, when):
    begun, forgotten = [], []
    monkeypatch.setattr(_backend, "trials_remembered", lambda: remembered)
    monkeypatch.setattr(_backend, "forget_programs", lambda: forgotten.append(len(begun)))

    class Counted(Valley):
        def run_trial(self, trial, *args, **kwargs):
            begun.append(trial.trial_id)
            return 1.0

    def space(hp):
        hp.Int("width", 2, 64)

    search(watch(Counted(space, keras_tuner.Objective("score", "min"), max_trials=11, seed=1, directory=tmp_path), monitor()))
    assert len(begun) == 11
    assert forgotten == when


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX keeps programs")
def test_jax_forgets_programs():
    import jax

    double = jax.jit(lambda x: 2 * x)
    double(np.ones(3))
    assert double._cache_size() == 1
    _backend.forget_programs()
    assert double._cache_size() == 0


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow keeps graphs")
def test_no_graph_of_a_trial_stays_on_tensorflow(tmp_path):
    from tensorflow.python.framework import func_graph

    graphs = []

    class Counting(keras_tuner.RandomSearch):
        def on_trial_begin(self, trial):
            gc.collect()
            graphs.append(sum(isinstance(o, func_graph.FuncGraph) for o in gc.get_objects()))
            super().on_trial_begin(trial)

    def space(hp):
        hp.Float("drawn", 0, 1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), BatchNormalization(), Dropout(0.1), keras.layers.Dense(1)])
        model.compile(Adam(0.01), "mse")
        return model

    x, y = np.zeros((32, 4), "float32"), np.zeros((32, 1), "float32")
    tuner = Counting(space, keras_tuner.Objective("loss", "min"), max_trials=5, seed=1, directory=tmp_path)
    watch(tuner, SaturationMonitor(x, y, on_critical=None))
    tuner.search(x, y, epochs=1, verbose=0)
    # Before the first there is none of this search; before each other one stand those of the trial before it.
    assert graphs[2] > graphs[0]
    assert len(set(graphs[2:])) == 1


def test_what_is_no_tuner_or_monitor_is_refused(tmp_path):
    tuner = grid(tmp_path)
    with pytest.raises(TypeError, match=r"`tuner` must be a KerasTuner tuner, got"):
        watch(build, monitor())
    with pytest.raises(TypeError, match=r"`monitor` must be a SaturationMonitor, got"):
        watch(tuner, SaturationMonitor)
    with pytest.raises(ValueError, match=r"`seed` must be a whole number of at least 0, got -1"):
        watch(tuner, monitor(), seed=-1)
    watch(tuner, monitor())
    with pytest.raises(ValueError, match=r"`tuner` is watched already\. Watch it once\."):
        watch(tuner, monitor())
    with pytest.raises(TypeError, match=r"`tuner` must be a KerasTuner tuner, got"):
        results(build)


def test_a_search_that_is_not_watched_reports_by_the_monitors_folder(tmp_path):
    pytest.importorskip("tensorboard")

    def space(hp):
        hp.Choice("kind", ["dead", "well"])
        return build(hp)

    search(grid(tmp_path, space=space), callbacks=[monitor(log_dir=tmp_path / "logs")])
    again = grid(tmp_path, space=space, overwrite=False)
    found = {r.hyperparameters["kind"]: r for r in results(again, tmp_path / "logs")}
    assert (found["dead"].status, found["dead"].epochs) == ("COMPLETED", 3)  # half of the planned steps
    assert "dead_relu" in found["dead"].symptoms
    assert found["dead"].ended.startswith("critical: ")
    assert (found["well"].ended, found["well"].epochs) == ("", 6)
    assert {r.ended for r in results(again)} == {""}


def test_models_are_built_under_the_dtype_policy_that_the_user_set(tmp_path):
    policies = []

    def build(hp):
        policies.append(keras.config.dtype_policy().name)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    x, y = np.zeros((32, 4), "float32"), np.zeros((32, 1), "float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        tuner = keras_tuner.RandomSearch(build, "loss", max_trials=1, directory=tmp_path)
        watch(tuner, SaturationMonitor(x, y))
        tuner.search(x, y, epochs=1, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert len(policies) > 1
    assert set(policies) == {"mixed_bfloat16"}


def test_no_diagnosis_is_read_again_for_each_trial(tmp_path, monkeypatch):
    tuner = watch(grid(tmp_path / "t", max_consecutive_failed_trials=9), monitor())
    read, text_of = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **kwargs: (read.append(self.name), text_of(self, **kwargs))[1])
    tuner.search(X, Y, validation_data=(X, Y), epochs=2, verbose=0)
    assert len(tuner.oracle.trials) == len(KINDS)
    assert read.count("diagnosis.json") == 0


class Batches(keras.utils.PyDataset):
    """The samples in batches of 32."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[32 * i : 32 * i + 32], Y[32 * i : 32 * i + 32]


@pytest.mark.parametrize("kind", ["PyDataset", pytest.param("tf.data", marks=pytest.mark.needs_tensorflow)])
def test_a_search_over_a_dataset_is_watched_too(tmp_path, kind):
    if kind == "PyDataset":
        dataset = Batches()
    else:
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)
    tuner = watch(grid(tmp_path / "t"), SaturationMonitor(dataset, on_critical="stop"))
    tuner.search(dataset, validation_data=dataset, epochs=4, verbose=0)
    ended = {r.hyperparameters["kind"]: (r.epochs, r.symptoms) for r in results(tuner)}
    assert ended["well"] == (4, ())
    assert ended["nan"] == (1, ("non_finite",))
    assert ended["dead"][0] < 4
    assert "dead_relu" in ended["dead"][1]


SCRIPT = """
import sys, keras, keras_tuner, numpy as np
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch

x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
y = (x[:, 0] > 0).astype("int32")

def build(hp):
    bias = keras.initializers.Constant(hp.Choice("bias", [0.0, -50.0]))
    hidden = keras.layers.Dense(hp.Int("units", 4, 32), "relu", bias_initializer=bias)
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

tuner = keras_tuner.RandomSearch(build, "val_accuracy", max_trials=4, seed=3, directory=sys.argv[1], project_name="p", overwrite=False)
watch(tuner, SaturationMonitor(x, y, on_critical="stop"))
tuner.search(x, y, validation_data=(x, y), epochs=30, verbose=0)
for r in sorted(results(tuner), key=lambda r: r.number):
    print("trial", r.number, r.score, r.epochs, r.symptoms, sorted(r.hyperparameters.items()))
"""


@pytest.mark.slow
def test_a_users_own_script_that_is_killed_goes_on_as_if_it_had_not_been(tmp_path):
    words = [sys.executable, "-c", SCRIPT]
    whole = subprocess.run([*words, str(tmp_path / "whole")], capture_output=True, text=True, check=True).stdout
    process = subprocess.Popen([*words, str(tmp_path / "parts")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "parts/p/trial_1").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = (tmp_path / "parts/p/trial_0/diagnosis.json").read_bytes()
    again = subprocess.run([*words, str(tmp_path / "parts")], capture_output=True, text=True, check=True).stdout
    reported = [line for line in again.splitlines() if line.startswith("trial")]
    assert reported == [line for line in whole.splitlines() if line.startswith("trial")]
    assert len(reported) == 4
    assert (tmp_path / "parts/p/trial_0/diagnosis.json").read_bytes() == first


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="runs on TensorFlow")
def test_a_watched_search_does_not_import_tensorflow(tmp_path, in_new_process):
    """It takes 400 MB, and twice the time in the garbage collector, where it is installed beside the backend."""
    code = """
import sys
import keras, keras_tuner, numpy as np
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import watch

before = "tensorflow.python" in sys.modules
x, y = np.random.default_rng(0).normal(size=(32, 4)), np.arange(32) % 2

def build(hp):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 4)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model

tuner = keras_tuner.RandomSearch(build, "loss", max_trials=1, directory=sys.argv[1])
watch(tuner, SaturationMonitor(x, y))
tuner.search(x, y, epochs=1, verbose=0)
print(before, "tensorflow.python" in sys.modules)
"""
    before, after = in_new_process(code, tmp_path, imports=True).split()[-2:]
    assert before == after


@pytest.mark.parametrize("first", [0, 1])
def test_a_trial_of_which_one_training_has_no_score_has_none(tmp_path, first):
    scores = [[math.nan, 1.0], [3.0, 5.0]]
    order = iter(scores if first == 0 else scores[::-1])
    tuner = keras_tuner.RandomSearch(lambda hp: hp.Int("n", 0, 9), "val_loss", max_trials=2, directory=tmp_path, project_name="p")
    tuner.run_trial = lambda trial, *args, **kwargs: [{"val_loss": score} for score in next(order)]
    seen = []
    watch(tuner, monitor(), together=1)
    end = tuner.on_trial_end

    def note(trial):
        end(trial)
        seen.append([t.score for t in tuner.oracle.trials.values() if t.score is not None])

    tuner.on_trial_end = note
    tuner.search()
    assert seen == ([[PLACEHOLDER], [4.0, 4.0]] if first == 0 else [[4.0], [4.0, 4.0]])
    assert [r.score for r in results(tuner)] == [4.0, None]


def test_the_tries_of_one_trial_count_as_one_failure(tmp_path):
    tried = []

    class Fails(keras_tuner.GridSearch):
        def run_trial(self, trial, *args, **kwargs):
            tried.append(kind := trial.hyperparameters.get("kind"))
            if kind == "error":
                raise ValueError("no")
            return 1.0

    tuner = Fails(lambda hp: hp.Choice("kind", ["error", "well"]), "val_loss", directory=tmp_path, max_retries_per_trial=2)
    watch(tuner, monitor(), together=1).search()
    assert tried == ["error", "error", "error", "well"]
    assert {r.hyperparameters["kind"]: r.status for r in results(tuner)} == {"error": "FAILED", "well": "COMPLETED"}


@pytest.mark.parametrize("by_place", [True, False])
def test_epochs_count_as_fit_counts_them(tmp_path, by_place):
    tuner = watch(grid(tmp_path, space=lambda hp: (hp.Fixed("n", 1), hp.Choice("kind", ["well"]), build(hp))[-1], max_trials=1), monitor())
    arguments = ((X, Y, 32, 3), {}) if by_place else ((X, Y), {"epochs": 7, "initial_epoch": 4})
    tuner.search(*arguments[0], validation_data=(X, Y), verbose=0, **arguments[1])
    (record,) = results(tuner)
    assert (record.status, record.epochs, record.planned_epochs, record.ended) == ("COMPLETED", 3, 3, "")
    assert len([score for score in record.scores if score is not None]) == 3
