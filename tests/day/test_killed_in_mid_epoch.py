"""A pipeline of many callbacks, killed in the middle of an epoch and started again: as if nothing had been."""

import csv
import signal

import keras
import numpy as np
import pytest

from keras_ext.callbacks.monitor.report.json_report import from_json

# Three epochs are whole when the process dies, in the fourth. Without dropout: Keras keeps no seed's state in a file, so that its masks
# begin again.
SCRIPT = """
import os, signal, sys
import keras
from keras_ext.callbacks import ClippingLog, SaturationMonitor
from keras_ext.layers import BatchNormalization
from keras_ext.optimizers import Adam, GradientClipping
from keras_ext.schedules import OneCycle
from sklearn.datasets import load_digits

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
x, y, x_test, y_test = images[297:] / 16, labels[297:], images[:297] / 16, labels[:297]
model = keras.Sequential([
    keras.Input((64,)),
    keras.layers.Dense(32, "tanh"),
    BatchNormalization(momentum=0.9, debias=True),
    keras.layers.Dense(32, "sigmoid"),
    keras.layers.Dense(10, "softmax"),
])
model.compile(
    GradientClipping(Adam(OneCycle(0.03, 5 * 15)), threshold=0.3), "sparse_categorical_crossentropy", metrics=["accuracy"]
)


class Power(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if "fails" in sys.argv and (self.epoch, batch) == (3, 7):
            os.kill(os.getpid(), signal.SIGKILL)


monitor = SaturationMonitor(x, y, log_dir="snapshots")
stop = keras.callbacks.EarlyStopping("saturation", mode="min", patience=9)
best = keras.callbacks.ModelCheckpoint("best.keras", monitor="val_loss", save_best_only=True)
callbacks = [
    monitor,
    ClippingLog(),
    stop,
    best,
    keras.callbacks.CSVLogger("log.csv", append=True),
    keras.callbacks.BackupAndRestore("backup"),
    Power(),
]
if keras.backend.backend() == "tensorflow":  # Keras's writes by TensorFlow, whatever the backend
    callbacks.append(keras.callbacks.TensorBoard("board"))
model.fit(x, y, batch_size=100, epochs=5, shuffle=False, validation_data=(x_test, y_test), verbose=0, callbacks=callbacks)
"""


def log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_killed_pipeline_goes_on_to_where_it_would_have_ended(run_alone, run_here, tmp_path):
    folder = tmp_path / "killed"
    killed = run_alone(SCRIPT, folder, "fails")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-4000:]
    assert [row["epoch"] for row in log(folder)] == ["0", "1", "2"]
    resumed = run_here(SCRIPT, folder)
    whole = run_here(SCRIPT, tmp_path / "whole")

    # Each epoch once, and those after the kill as if it had not been.
    rows, wanted = log(folder), log(tmp_path / "whole")
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3", "4"]
    for row, other in zip(rows, wanted, strict=True):
        assert list(row) == list(other)
        # The worst so far is that of the fit, which begins again.
        for key in [key for key in row if key != "run" and not key.endswith("_worst")]:
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-5, abs=1e-6), (row["epoch"], key)
    for mine, theirs in zip(resumed["model"].variables, whole["model"].variables, strict=True):
        mine, theirs = (keras.ops.convert_to_numpy(v) for v in (mine, theirs))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    # Chance is .1.
    assert float(rows[-1]["val_accuracy"]) > 0.8

    optimizers = [names["model"].optimizer for names in (resumed, whole)]
    for name, value in {"steps": 75, "skipped_steps": 0, "nonfinite_steps": 0}.items():
        assert [getattr(optimizer, name) for optimizer in optimizers] == [value] * 2
    assert [int(keras.ops.convert_to_numpy(optimizer.iterations)) for optimizer in optimizers] == [75] * 2
    assert optimizers[0].clipped_steps == optimizers[1].clipped_steps
    assert optimizers[0].clipped_steps == sum(round(15 * float(row["clipped_share"])) for row in rows) > 15

    # What each callback was reported after the resumption.
    assert float(rows[3]["saturation_worst"]) >= float(rows[3]["saturation"])
    assert resumed["stop"].best == min(float(row["saturation"]) for row in rows[3:])
    assert resumed["best"].best <= min(float(row["val_loss"]) for row in rows[3:])
    snapshots = resumed["monitor"].snapshots
    assert [(snapshot.step, snapshot.epoch) for snapshot in snapshots] == [(45, 3), (60, 4), (75, 5)]
    assert all(0 <= snapshot.clipped <= 1 for snapshot in snapshots[1:])
    assert [snapshot.loss for snapshot in snapshots] == pytest.approx(
        [snapshot.loss for snapshot in whole["monitor"].snapshots[-3:]], rel=1e-5
    )

    # What lies on the disk.
    assert {row["run"] for row in rows[:3]} == {"1"}
    assert {row["run"] for row in rows[3:]} == {"2"}
    assert [path.name for path in sorted((folder / "snapshots").iterdir())] == ["run_000001", "run_000002"]
    assert all(list((folder / "snapshots" / run).glob("events.out.tfevents*")) for run in ("run_000001", "run_000002"))
    kept, _ = from_json(folder / "snapshots/run_000002/run.json")
    assert [snapshot.step for snapshot in kept] == [45, 60, 75]
    if keras.backend.backend() == "tensorflow":
        assert len(list((folder / "board/train").glob("events.out.tfevents*"))) == 2
    assert not list((folder / "backup").glob("*"))
    loaded = keras.models.load_model(folder / "best.keras")
    assert loaded.evaluate(resumed["x_test"], resumed["y_test"], verbose=0)[0] == pytest.approx(
        min(float(row["val_loss"]) for row in rows), rel=1e-4
    )
