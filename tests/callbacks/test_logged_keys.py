"""What other callbacks see of the monitor's numbers."""

import csv

import keras
import keras_tuner
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from keras_ext.callbacks import SaturationMonitor

KEYS = ("saturation", "saturation_worst", "dead", "dead_worst", "gradient_ratio", "gradient_ratio_worst", "critical")
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
    """Return the history of a fit; "monitor" is the monitor's place."""
    monitor = SaturationMonitor(x, y, on_critical=None, **arguments)
    model = model or network()
    given = [monitor if c == "monitor" else c for c in callbacks]
    return model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=given)


def test_what_comes_before_the_monitor_misses_its_keys_and_what_comes_behind_has_them(tmp_path):
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    history = fitted(keras.callbacks.CSVLogger(before), "monitor", keras.callbacks.CSVLogger(after), epochs=1)
    without, with_it = (next(csv.reader(path.open())) for path in (before, after))
    assert not set(KEYS) & set(without)
    assert set(KEYS) <= set(with_it)
    # Keras adds its History behind all others.
    assert set(history.history) == {*KEYS, "loss"}


def test_early_stopping_and_the_best_checkpoint_follow_the_numbers(tmp_path):
    stop = keras.callbacks.EarlyStopping(monitor="saturation", mode="min", patience=2, restore_best_weights=True)
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}-{saturation:.2f}.weights.h5", monitor="gradient_ratio", mode="max", save_best_only=True, save_weights_only=True
    )
    model = network()
    history = fitted(Pull(), "monitor", stop, best, epochs=4, model=model)
    assert history.history["saturation"] == [0.25, 0.5, 0.75]
    assert stop.best == 0.25
    assert model.get_layer("h").bias.numpy().max() == pytest.approx(30, abs=0.1)
    ratios = history.history["gradient_ratio"]
    kept = sorted(path.name for path in tmp_path.iterdir())
    expected = [i for i in range(3) if ratios[i] > max(ratios[:i], default=-1)]
    assert kept == [f"{i + 1}-{history.history['saturation'][i]:.2f}.weights.h5" for i in expected]


def test_a_csv_file_has_a_column_for_each_key(tmp_path):
    history = fitted(Pull(), "monitor", keras.callbacks.CSVLogger(tmp_path / "log.csv"), per_layer=True)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    for key in (*KEYS, "saturation/h"):
        assert [float(row[key]) for row in rows] == pytest.approx(history.history[key]), key
    assert [float(row["saturation/h"]) for row in rows] == [0.25, 0.5, 0.75]


@pytest.mark.needs_tensorflow
def test_tensorboard_has_a_curve_for_each_key(tmp_path):
    history = fitted(Pull(), "monitor", keras.callbacks.TensorBoard(tmp_path, write_graph=False))
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
    tuner.search(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[monitor])
    trials = tuner.oracle.get_best_trials(2)
    assert [(trial.hyperparameters.get("bias"), trial.score) for trial in trials] == [(0.0, 0.0), (10.0, 1.0)]
    assert {f.symptom for f in heard} >= {"saturated"}
    assert (monitor.findings, monitor.snapshots) == ([], [])
