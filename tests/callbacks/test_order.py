"""What other callbacks see of the monitor's numbers, and which are told that they see none."""

import csv
import warnings

import keras
import keras_tuner
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.order import KEYS, missing_the_keys

rng = np.random.default_rng(0)
x = rng.normal(size=(32, 4)).astype("float32")
y = (x[:, :1] > 0).astype("float32")


def network(bias=0.0, rate=0.01):
    hidden = keras.layers.Dense(4, "sigmoid", bias_initializer=keras.initializers.Constant(bias), name="h")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1, "sigmoid", name="out")])
    model.compile(keras.optimizers.SGD(rate), "binary_crossentropy")
    return model


class Pull(keras.callbacks.Callback):
    """Move the hidden layer's biases into saturation by a third more at each epoch, so that each epoch has its own share."""

    def on_epoch_begin(self, epoch, logs=None):
        bias = self.model.get_layer("h").bias
        bias.assign([30.0] * (epoch + 1) + [0.0] * (3 - epoch))


def fitted(*callbacks, epochs=3, model=None, **arguments):
    """Return the history of a fit and the warnings about the order; "monitor" stands for the monitor."""
    monitor = SaturationMonitor(x, y, on_critical=None, **arguments)
    model = model or network()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = [monitor if c == "monitor" else c for c in callbacks]
        history = model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=given)
    return history, [str(w.message) for w in caught if "before SaturationMonitor" in str(w.message)]


def test_those_that_stand_before_the_monitor_are_named_once(tmp_path):
    class Own(keras.callbacks.Callback):
        monitor = "dead_worst"

    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    history, told = fitted(
        keras.callbacks.EarlyStopping(monitor="saturation", mode="min", patience=9),
        keras.callbacks.EarlyStopping(monitor="loss", patience=9),
        keras.callbacks.CSVLogger(before),
        keras.callbacks.TerminateOnNaN(),
        Own(),
        "monitor",
        keras.callbacks.CSVLogger(after),
    )
    assert told == [
        "EarlyStopping(monitor='saturation'), CSVLogger, Own(monitor='dead_worst') stand before SaturationMonitor in `callbacks`, and so "
        "cannot see what it puts into `logs` at an epoch's end. Put SaturationMonitor first."
    ]
    without, with_it = (next(csv.reader(path.open())) for path in (before, after))
    assert not set(KEYS) & set(without)
    assert set(KEYS) <= set(with_it) & set(history.history)


def test_one_alone_is_told_too_and_each_fit_tells_anew():
    model, stop = network(), keras.callbacks.EarlyStopping(monitor="critical", mode="min", patience=9)
    for _ in range(2):
        assert fitted(stop, "monitor", epochs=1, model=model)[1] == [
            "EarlyStopping(monitor='critical') stands before SaturationMonitor in `callbacks`, and so cannot see what it puts into `logs` "
            "at an epoch's end. Put SaturationMonitor first."
        ]


def test_those_that_miss_nothing_are_not_named(tmp_path):
    _, told = fitted(
        keras.callbacks.EarlyStopping(monitor="loss"),
        keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{loss:.2f}.weights.h5", save_weights_only=True),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        "monitor",
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.EarlyStopping(monitor="saturation", mode="min"),
        epochs=1,
    )
    assert told == []


def test_the_history_that_keras_adds_sees_the_keys_and_one_of_the_users_in_front_does_not():
    history, told = fitted("monitor", epochs=1)
    assert (set(KEYS) <= set(history.history), told) == (True, [])
    history, told = fitted(keras.callbacks.History(), "monitor", epochs=1)
    assert not set(KEYS) & set(history.history)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: keras.callbacks.ReduceLROnPlateau(monitor="gradient_ratio_worst"), ["ReduceLROnPlateau(monitor='gradient_ratio_worst')"]),
        (lambda: keras.callbacks.ReduceLROnPlateau(monitor="val_loss"), []),
        (
            lambda: keras.callbacks.ModelCheckpoint("a.keras", monitor="dead", mode="min", save_best_only=True),
            ["ModelCheckpoint(monitor='dead')"],
        ),
        (lambda: keras.callbacks.ModelCheckpoint("a.keras", monitor="dead", mode="min"), []),
        (lambda: keras.callbacks.ModelCheckpoint("{epoch}-{dead:.2f}.keras"), ["ModelCheckpoint(filepath=...{dead}...)"]),
        (lambda: keras.callbacks.TensorBoard("logs"), ["TensorBoard"]),
        (lambda: keras.callbacks.ProgbarLogger(), ["ProgbarLogger"]),
        (lambda: keras.callbacks.RemoteMonitor(), ["RemoteMonitor"]),
        (lambda: keras.callbacks.EarlyStopping(monitor="saturated", mode="min"), []),
        (lambda: keras.callbacks.LambdaCallback(on_epoch_end=print), []),
    ],
)
def test_what_a_callback_reads(make, told):
    assert missing_the_keys([make()], per_layer=False) == told


def test_keys_of_single_layers_are_missed_where_they_are_logged():
    stop = keras.callbacks.EarlyStopping(monitor="saturation/h", mode="min")
    assert missing_the_keys([stop], per_layer=True) == ["EarlyStopping(monitor='saturation/h')"]
    assert missing_the_keys([stop], per_layer=False) == []


def test_the_keys_that_are_warned_of_are_those_that_are_logged():
    history, _ = fitted("monitor", epochs=1)
    assert set(KEYS) == set(history.history) - {"loss"}


def test_outside_of_a_fit_nothing_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SaturationMonitor(x, y).on_train_begin()


def test_early_stopping_and_the_best_checkpoint_follow_the_numbers(tmp_path):
    stop = keras.callbacks.EarlyStopping(monitor="saturation", mode="min", patience=2, restore_best_weights=True)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}-{saturation:.2f}.weights.h5", monitor="gradient_ratio", mode="max", save_best_only=True, save_weights_only=True
    )
    model = network()
    history, _ = fitted(Pull(), "monitor", stop, best, epochs=4, model=model)
    assert history.history["saturation"] == [0.25, 0.5, 0.75]
    assert stop.best == 0.25
    assert model.get_layer("h").bias.numpy().max() == pytest.approx(30, abs=0.1)
    ratios = history.history["gradient_ratio"]
    kept = sorted(path.name for path in tmp_path.iterdir())
    expected = [i for i in range(3) if ratios[i] > max(ratios[:i], default=-1)]
    assert kept == [f"{i + 1}-{history.history['saturation'][i]:.2f}.weights.h5" for i in expected]


def test_a_csv_file_has_a_column_for_each_key(tmp_path):
    history, _ = fitted(Pull(), "monitor", keras.callbacks.CSVLogger(tmp_path / "log.csv"), per_layer=True)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    for key in (*KEYS, "saturation/h"):
        assert [float(row[key]) for row in rows] == pytest.approx(history.history[key]), key
    assert [float(row["saturation/h"]) for row in rows] == [0.25, 0.5, 0.75]


@pytest.mark.needs_tensorflow
def test_tensorboard_has_a_curve_for_each_key(tmp_path):
    history, _ = fitted(Pull(), "monitor", keras.callbacks.TensorBoard(tmp_path, write_graph=False))
    curves = {}
    for file in (tmp_path / "train").iterdir():
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.tag.startswith("epoch_"):
                    curves.setdefault(value.tag, []).append(float(make_ndarray(value.tensor)))
    for key in KEYS:
        assert curves[f"epoch_{key}"] == pytest.approx(history.history[key]), key


def test_a_search_takes_them_for_its_objective(tmp_path):
    def build(hp):
        return network(bias=hp.Choice("bias", [0.0, 10.0]), rate=1e-6)

    heard = []
    monitor = SaturationMonitor(x, y, on_critical=None, on_finding=lambda finding: heard.append(finding))
    tuner = keras_tuner.RandomSearch(
        build, keras_tuner.Objective("saturation", "min"), max_trials=2, seed=1, directory=tmp_path, project_name="p"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*before SaturationMonitor")
        tuner.search(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor])
    trials = tuner.oracle.get_best_trials(2)
    assert [(trial.hyperparameters.get("bias"), trial.score) for trial in trials] == [(0.0, 0.0), (10.0, 1.0)]
    assert {f.symptom for f in heard} >= {"saturated"}
    assert (monitor.findings, monitor.looks) == ([], [])
