"""Fits that go on from an earlier one, and fits that end before their time."""

import copy
import math
import warnings

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 4)).astype("float32")
y = (x[:, :1] > 0).astype("float32")


def network(built=True, **arguments):
    layers = [keras.layers.Dense(3, "relu", name="h"), keras.layers.Dense(1, "sigmoid", name="out")]
    model = keras.Sequential([keras.Input((4,)), *layers] if built else layers)
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", **arguments)
    return model


def places(monitor):
    return [(snapshot.step, snapshot.epoch, snapshot.is_regular) for snapshot in monitor.snapshots]


class Kill(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("monitor_first", [True, False])
def test_a_fit_that_died_goes_on_counting(tmp_path, monitor_first):
    model = network()
    monitor = SaturationMonitor(x, y, every="epoch", on_critical=None, log_dir=tmp_path / "scalars")
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callbacks = [monitor, backup] if monitor_first else [backup, monitor]
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=4, epochs=4, verbose=0, callbacks=[*callbacks, Kill(2, 5)])
    assert places(monitor) == [(0, 0, True), (1, 0, False), (10, 0, False), (16, 1, True), (32, 2, True)]
    at_backup, first_file = monitor.snapshots[-1], monitor._scalars._records

    again = network()
    again.fit(x, y, batch_size=4, epochs=4, verbose=0, callbacks=callbacks)
    assert places(monitor) == [(32, 2, True), (48, 3, True), (64, 4, True)]
    # The weights are those of the backup, not the new model's.
    assert monitor.snapshots[0].loss == pytest.approx(at_backup.loss, rel=1e-5)
    assert first_file.closed
    copy.deepcopy(monitor)  # an open file cannot be copied


def test_a_rhythm_of_steps_goes_on_too():
    monitor = SaturationMonitor(x, y, every=6, on_critical=None)
    network().fit(x, y, batch_size=4, epochs=3, initial_epoch=1, verbose=0, callbacks=[monitor])
    assert places(monitor) == [(16, 1, True), *((step, step // 16, True) for step in (18, 24, 30, 36, 42)), (48, 3, True)]


def test_a_model_without_weights_goes_on_at_a_later_epoch():
    monitor = SaturationMonitor(x, y, on_critical=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cannot snapshot")
        network(built=False).fit(x, y, batch_size=4, epochs=3, initial_epoch=1, verbose=0, callbacks=[monitor])
    first = 17 if keras.backend.backend() == "tensorflow" else 16
    assert places(monitor) == [(first, 1, True), (32, 2, True), (48, 3, True)]


def test_a_second_fit_of_the_same_model_counts_again():
    model, monitor = network(), SaturationMonitor(x, y, on_critical=None)
    for _ in range(2):
        model.fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=[monitor])
        assert places(monitor) == [(0, 0, True), (1, 0, False), (10, 0, False), (16, 1, True)]


class Stop(keras.callbacks.Callback):
    """End the training after a batch of the first epoch, as TerminateOnNaN does."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch >= self.batch:
            self.model.stop_training = True


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_an_epoch_that_ends_early_has_the_steps_that_it_had(steps_per_execution):
    if steps_per_execution > 1 and keras.backend.backend() == "torch":
        pytest.skip("Keras runs one step at a time on PyTorch")
    model, monitor = network(steps_per_execution=steps_per_execution), SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[monitor, Stop(6)])
    taken = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    assert taken == (7 if steps_per_execution == 1 else 9)
    assert places(monitor)[-1] == (taken, 1, True)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras runs one step at a time on PyTorch")
def test_the_last_steps_of_an_epoch_may_be_fewer_at_once():
    model, monitor = network(steps_per_execution=5), SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[monitor])
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 32
    assert places(monitor) == [(0, 0, True), (5, 0, False), (10, 0, False), (16, 1, True), (32, 2, True)]


def test_data_whose_length_nobody_knows_is_counted_as_it_comes():
    def ends():
        yield from [(x[:4], y[:4])] * 7

    monitor = SaturationMonitor(x, y, on_critical=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*ran out of data")
        network().fit(ends(), epochs=1, verbose=0, callbacks=[monitor])
    assert places(monitor) == [(0, 0, True), (1, 0, False), (7, 1, True)]


class Break(keras.callbacks.Callback):
    """Make a weight NaN before a step of the first epoch."""

    def __init__(self, batch):
        super().__init__()
        self.batch, self.begun, self.ended = batch, [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(batch)
        if batch == self.batch:
            self.model.get_layer("h").kernel.assign(np.full((4, 3), math.nan))

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(epoch)


def linear():
    """A network whose loss takes NaN on every backend."""
    model = network()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def test_stop_ends_the_epoch_after_one_step_more():
    broken, monitor = Break(4), SaturationMonitor(x, y, every=1, on_critical="stop")
    history = linear().fit(x, y, batch_size=4, epochs=3, verbose=0, validation_data=(x, y), callbacks=[broken, monitor])
    assert monitor.snapshots[-2].step == 4
    assert not monitor.snapshots[-2].finite
    # Keras asks after each step: that of the snapshot is taken still, then the epoch ends as any does.
    assert broken.begun == [0, 1, 2, 3, 4]
    assert broken.ended == [0]
    assert {"val_loss", "critical"} <= set(history.history)
    assert monitor.snapshots[-1].step == 5


def test_raise_ends_the_fit_at_once_and_keeps_what_was_seen(tmp_path):
    broken = Break(4)
    monitor = SaturationMonitor(x, y, every=1, on_critical="raise", report=tmp_path / "report.html", log_dir=tmp_path / "scalars")
    model = linear()
    with pytest.raises(RuntimeError, match="non finite"):
        model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[broken, monitor])
    assert broken.begun == [0, 1, 2, 3, 4]
    assert broken.ended == []
    assert monitor.snapshots[-1].step == 4
    assert any(f.symptom == "non_finite" for f in monitor.findings)
    assert "non finite" in (tmp_path / "report.html").read_text()
    copy.deepcopy(monitor)  # an open file or a compiled snapshot cannot be copied
    # The model is whole, and is trained on.
    assert np.isnan(model.get_layer("h").get_weights()[0]).all()
    model.set_weights(linear().get_weights())
    model.fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=[monitor])
    assert monitor.snapshots[-1].finite
    assert "non_finite" not in {f.symptom for f in monitor.findings}
    assert [folder.name for folder in sorted((tmp_path / "scalars").iterdir())] == ["run_000001", "run_000002"]
    assert "non_finite" in (tmp_path / "scalars/run_000001/run.json").read_text()


def test_an_error_of_on_finding_ends_the_fit_and_keeps_what_was_seen(tmp_path):
    def refuse(finding):
        raise LookupError(finding.symptom)

    monitor = SaturationMonitor(x, y, every=1, on_finding=refuse, report=tmp_path / "report.html", log_dir=tmp_path / "scalars")
    with pytest.raises(LookupError):
        linear().fit(x, y, batch_size=4, epochs=1, verbose=0, callbacks=[Break(4), monitor])
    assert "non finite" in (tmp_path / "report.html").read_text()
    copy.deepcopy(monitor)
