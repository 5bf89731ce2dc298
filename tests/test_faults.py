"""Faults of data, weights, disk and process: what docs/faults.md says of each is tested, here or where the page says."""

import contextlib
import dataclasses
import math
import os
import re
import resource
import subprocess
import sys
import warnings
from pathlib import Path

import click
import keras
import numpy as np
import pytest
from click.testing import CliRunner

from keras_ext import initializers
from keras_ext._atomic import save_model
from keras_ext._checks import BadInput
from keras_ext.automl import Settings, run
from keras_ext.automl import run as run_function
from keras_ext.automl.best_model import AGAIN
from keras_ext.callbacks import LearningRateFinder, Limits, RateCurve, SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.rules.loss_course import has_learned, learning
from keras_ext.layers import BatchNormalization
from keras_ext.optimizers import GradientClipping
from keras_ext.search.writable import reported_where_not_writable
from keras_ext.tables import ClassNames, make_table
from keras_ext_cli.main import cli

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "faults.md"
FAULTS = ("NaN batch", "Inf weight", "empty batch", "one sample", "one class", "full disk", "unwritable", "truncated `.keras`", "killed")
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else [])
    if line.startswith("|") and not line.startswith(("|---", "| fault"))
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 3)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_page_has_the_fault(fault):
    assert any(row[0].startswith(fault) for row in ROWS)


def test_every_row_of_the_page_names_tests_that_exist():
    for fault, where, what, tests in ROWS:
        assert where, fault
        assert what, fault
        named = re.findall(r"`([^`]+)`", tests)
        assert named, fault
        for test in named:
            path, _, function = test.partition("::")
            assert f"def {function}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), test


def network(optimizer="sgd", loss="binary_crossentropy", units=1):
    layers = [keras.layers.Dense(4, "relu", name="first"), keras.layers.Dense(4, "tanh", name="second")]
    last = keras.layers.Dense(units, "softmax" if units > 1 else "sigmoid", name="last")
    model = keras.Sequential([keras.Input((3,)), *layers, last])
    # Each graph of TensorFlow's costs a second.
    model.compile(optimizer, loss, run_eagerly=keras.backend.backend() == "tensorflow")
    return model


def infinite(model, name="second"):
    """Make one weight of a layer infinite."""
    kernel = model.get_layer(name).kernel
    values = kernel.numpy().copy()
    values[0, 0] = np.inf
    kernel.assign(values)
    return model


def monitor(*data, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of one class
        return SaturationMonitor(*data, **{"on_critical": None, **arguments})


# NaN and infinity


@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy"])
def test_the_monitor_names_the_layer_in_which_nan_begins(loss):
    """PyTorch's cross entropies raise for NaN: there is a snapshot all the same."""
    watching = monitor(X, Y, on_critical="stop", on_finding=lambda finding: None)
    model = network(loss=loss)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                infinite(self.model).get_layer("second").bias.assign(np.full(4, np.nan))

    history = model.fit(X, Y, epochs=9, verbose=0, callbacks=[Spoil(), watching])
    assert len(history.epoch) == 2
    assert [(f.symptom, f.severity, f.layer, f.epoch) for f in watching.findings] == [("non_finite", "critical", "second", 2)]
    assert math.isnan(watching.snapshots[-1].loss)


def test_a_test_of_rates_that_never_had_a_finite_loss_suggests_none(tmp_path):
    model = network(loss="mse")
    model.get_layer("last").bias.assign([np.nan])
    curve = LearningRateFinder(X, Y, steps=12).find(model)
    assert curve.suggested is None
    assert curve.lowest_loss_at is None
    curve.plot(tmp_path / "curve.png")
    assert RateCurve((), (), 12).suggested is None


def test_an_infinite_weight_is_reported_before_the_first_step():
    model, watching = infinite(network(loss="mse")), monitor(X, Y, on_critical="warn")
    with pytest.warns(UserWarning, match='critical: non finite in layer "second", before the first step'):
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[watching])


def test_an_infinite_weight_ends_a_clipped_training_with_the_names_of_weights():
    model = infinite(network(GradientClipping("sgd", max_skips=3), "mse"))
    before = [w.numpy() for w in model.weights]
    with pytest.raises(FloatingPointError, match=r"3 steps in a row were skipped .*NaN or infinity in the gradients of .*second/kernel"):
        model.fit(X, Y, batch_size=4, verbose=0)
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_an_infinite_weight_can_be_drawn_again():
    model = infinite(network())
    initializers.initialize(model, initializers.HeNormal())
    assert all(np.isfinite(w).all() for w in model.get_weights())


# No sample, one sample, one class


@pytest.mark.parametrize("arguments", [{}, {"renorm": True}, {"virtual_batch_size": 2}, {"debias": True}, {"axis": (1, 2)}])
def test_an_empty_batch_stays_empty_and_moves_no_statistics(arguments):
    layer = BatchNormalization(momentum=0.5, **arguments)
    layer(RNG.normal(size=(6, 2, 3)).astype("float32"), training=True)
    before = [w.numpy().copy() for w in layer.weights]
    assert tuple(layer(np.zeros((0, 2, 3), "float32"), training=True).shape) == (0, 2, 3)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


@pytest.mark.needs_tensorflow
@pytest.mark.parametrize("arguments", [{}, {"virtual_batch_size": 2}])
def test_so_does_one_in_a_graph_for_batches_of_any_size(arguments):
    import tensorflow as tf

    layer = BatchNormalization(momentum=0.5, **arguments)
    layer.build((None, 3))
    step = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, 3))])
    assert step(X[:4]).shape == (4, 3)
    before = [w.numpy().copy() for w in layer.weights]
    assert step(X[:0]).shape == (0, 3)
    for old, weight in zip(before, layer.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_no_predictions_have_no_names():
    assert ClassNames(["no", "yes"]).decode(np.zeros((0, 2))).shape == (0,)


def command(*words):
    """Return the one line of a mistake."""
    done = CliRunner().invoke(cli, [*map(str, words)], standalone_mode=False)
    assert isinstance(done.exception, (BadInput, click.ClickException)), done.exc_info
    assert "\n" not in str(done.exception)
    return str(done.exception)


def test_a_file_without_samples_is_reported(tmp_path):
    network().save(tmp_path / "net.keras")
    np.savez(tmp_path / "none.npz", x=X[:0])
    (tmp_path / "none.csv").write_text("a,b,c\n")
    assert command("predict", tmp_path / "net.keras", tmp_path / "none.npz") == f"{tmp_path}/none.npz: holds no samples. Give at least one."
    reported = command("predict", tmp_path / "net.keras", tmp_path / "none.csv")
    assert reported == f"{tmp_path}/none.csv: needs a header line and samples, found 1 lines."


def test_one_sample_is_no_reason_to_call_a_network_unhealthy():
    model = network()
    model.get_layer("first").bias.assign([-50.0, -50.0, -50.0, 50.0])
    for samples, found in ((1, set()), (32, {"dead_relu"})):
        symptoms = {f.symptom for f in diagnose(model, X[:samples], Y[:samples]).findings}
        assert symptoms & {"dead_relu", "constant_output"} == found
    watching = monitor(X[:1], Y[:1], patience=1)
    model = network()
    model.fit(X[:1], Y[:1], epochs=2, verbose=0, callbacks=[watching])
    assert [str(f) for f in watching.findings if f.symptom in ("dead_relu", "constant_output") or f.severity == "critical"] == []
    assert all(math.isnan(snapshot.spread) for snapshot in watching.snapshots)
    course = [dataclasses.replace(watching.snapshots[0], loss=loss) for loss in (1.0, 0.1)]
    assert learning(course, Limits())
    assert has_learned(course, Limits())


def test_a_training_on_one_class_is_not_called_unhealthy():
    y = np.zeros(len(X), "int32")
    watching = monitor(X, y, patience=1)
    model = network(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", units=2)
    history = model.fit(X, y, epochs=5, verbose=0, callbacks=[watching]).history
    assert history["loss"][-1] < history["loss"][0]
    assert [f for f in watching.findings if f.severity == "critical"] == []


# Disk

FULL = re.compile(
    r"best_model\.keras: cannot be written \([^\n]+\)\. All trials are kept\. "
    r"Make room, and go on with --resume \(resume=True in Python\)\."
)


@contextlib.contextmanager
def full_disk(room=0):
    """Let the system refuse what a file would hold beyond `room` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_model_that_was_there(tmp_path):
    model = network()
    save_model(model, tmp_path / "net.keras")
    other = network()
    with full_disk(2000), pytest.raises(OSError):
        save_model(other, tmp_path / "net.keras")
    assert os.listdir(tmp_path) == ["net.keras"]
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "net.keras").predict(X, verbose=0), model.predict(X, verbose=0))


def test_keras_s_own_save_loses_the_model_that_was_there(tmp_path):
    network().save(tmp_path / "net.keras")
    other = network()
    with full_disk(2000), pytest.raises(OSError):
        other.save(tmp_path / "net.keras")
    with pytest.raises(ValueError, match=r"accessible `\.keras` zip file"):
        keras.saving.load_model(tmp_path / "net.keras")


def test_a_full_disk_costs_no_training(tmp_path):
    pytest.importorskip("tensorboard")
    stack = contextlib.ExitStack()

    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                stack.enter_context(full_disk())

    watching = monitor(X, Y, report=tmp_path / "page.html", log_dir=tmp_path / "runs")
    with stack, pytest.warns(UserWarning, match="SaturationMonitor") as reported:
        history = network().fit(X, Y, epochs=4, verbose=0, callbacks=[watching, Fill()]).history
    assert len(history["loss"]) == 4
    assert [str(w.message).split(" (")[0].replace(str(tmp_path), "") for w in reported if "SaturationMonitor" in str(w.message)] == [
        "SaturationMonitor: /runs/run_000001 cannot be written",
        "SaturationMonitor could not write its report. OSError: [Errno 27] File too large",
    ]
    assert len(watching.snapshots) == 5
    assert not (tmp_path / "page.html").exists()
    assert list((tmp_path / "runs/run_000001").glob("events.*"))


def test_what_cannot_be_written_at_the_end_of_a_search_is_reported_in_one_line(tmp_path):
    path = tmp_path / "best_model.keras"
    with full_disk(2000), pytest.raises(BadInput) as reported, reported_where_not_writable(path, AGAIN):
        save_model(network(), path)
    assert FULL.fullmatch(str(reported.value).replace(f"{tmp_path}/", ""))
    with pytest.raises(ConnectionError), reported_where_not_writable(path, AGAIN):
        raise ConnectionError("of a cluster")


@pytest.mark.slow
def test_a_search_whose_disk_is_full_at_the_end_loses_nothing(tmp_path, monkeypatch):
    table = make_table(RNG.normal(size=(40, 3)), np.arange(40) % 2, "some data")
    module = sys.modules[run_function.__module__]
    read, stack = module.results, contextlib.ExitStack()

    def ended(tuner):
        stack.enter_context(full_disk(2000))
        return read(tuner)

    with monkeypatch.context() as patch, stack:
        patch.setattr(module, "results", ended)
        with pytest.raises(BadInput) as reported:
            run(table, tmp_path / "s", Settings(trials=1, epochs=1, test=0.0))
    assert FULL.fullmatch(str(reported.value).replace(f"{tmp_path}/s/", ""))
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "s/trials").rglob("*.h5")}
    assert trained
    result = run(table, tmp_path / "s", Settings(trials=1, epochs=1, test=0.0), resume=True)
    assert result.model_path is not None
    assert keras.saving.load_model(result.model_path).output_shape == (None, 2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s/trials").rglob("*.h5")} == trained


def test_a_folder_that_cannot_be_written_is_reported_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("mine")
    model = network()
    before = model.get_weights()
    watching = monitor(X, Y, log_dir=tmp_path / "file/runs")
    with pytest.raises(BadInput) as reported:
        model.fit(X, Y, verbose=0, callbacks=[watching])
    assert str(reported.value) == f"`log_dir` {tmp_path}/file/runs cannot be written (Not a directory). Give another folder, or make room."
    for old, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_command_reports_of_an_unwritable_folder_before_it_trains(tmp_path):
    (tmp_path / "file").write_text("mine")
    reported = command("search", "--trials", 1, "--output", tmp_path / "file/s")
    assert reported == f"{tmp_path}/file/s: cannot be written (Not a directory). Give another --output."
    reported = command("grow", "--output", tmp_path / "file/net.keras")
    assert reported.startswith(f"{tmp_path}/file: cannot be written (") or reported.startswith(f"{tmp_path}/file: is a file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_model_file_that_is_cut_off_is_reported(tmp_path):
    path = tmp_path / "net.keras"
    network().save(path)
    np.savez(tmp_path / "data.npz", x=X, y=Y[:, 0])
    whole = path.read_bytes()
    half = len(whole) // 2
    for content in (b"", whole[:half], whole[:-1], whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :]):
        path.write_bytes(content)
        for words in (("predict", path, tmp_path / "data.npz"), ("diagnose", path, "--data", tmp_path / "data.npz")):
            reported = command(*words)
            assert reported == f"{path}: cannot be loaded (it is cut off or overwritten). Save the model again, or take a copy of the file."
    path.write_bytes(whole[:half])
    with pytest.raises(ValueError, match=r"accessible `\.keras` zip file"):
        keras.saving.load_model(path)


def test_a_search_whose_settings_are_cut_off_is_reported(tmp_path):
    (tmp_path / "search.json").write_text('{"tuner": "ran')
    assert command("search", "--output", tmp_path, "--resume") == f"{tmp_path}/search.json: cannot be read. Start again in another folder."
    assert os.listdir(tmp_path) == ["search.json"]


# Death


TRAINING = """
import os, sys
import keras, numpy as np
from keras_ext.callbacks import SaturationMonitor
from keras_ext.layers import BatchNormalization
from keras_ext.optimizers import Adam, GradientClipping

class Death(keras.callbacks.Callback):
    def __init__(self, epoch, die):
        super().__init__()
        self.epoch, self.die = epoch, die

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 2):
            self.die()

def train(folder, *callbacks):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    x[9] = np.nan  # of the second batch
    layers = [keras.layers.Dense(4), BatchNormalization(debias=True), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(GradientClipping(Adam(0.01), threshold=0.1), "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    backup = keras.callbacks.BackupAndRestore(folder)
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[backup, *callbacks])
    return [keras.ops.convert_to_numpy(v) for v in (*model.weights, *model.optimizer.variables)]
"""
KILLED = f"""{TRAINING}
import signal
death = [Death(1, lambda: os.kill(os.getpid(), signal.SIGKILL))] if sys.argv[2] == "die" else []
np.savez(sys.argv[3], *train(sys.argv[1], *death))
"""


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_training_that_died_ends_as_the_uninterrupted_one(tmp_path):
    names = {}
    exec(TRAINING, names)

    def die():
        raise KeyboardInterrupt

    whole = names["train"](tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        names["train"](tmp_path / "parts", names["Death"](1, die))
    same(names["train"](tmp_path / "parts"), whole)


@pytest.mark.slow
def test_a_training_that_is_killed_ends_as_the_uninterrupted_one(tmp_path):
    def train(folder, how, check=True):
        words = [sys.executable, "-c", KILLED, str(tmp_path / folder), how, str(tmp_path / f"{folder}.npz")]
        return subprocess.run(words, capture_output=True, text=True, check=check).returncode

    train("whole", "live")
    assert train("parts", "die", check=False) == -9
    assert not (tmp_path / "parts.npz").exists()
    train("parts", "live")
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "parts.npz") as parts:
        same([*parts.values()], [*whole.values()])
