"""Samples that come sorted: a fit that never sees two classes in a batch, and its twin that shuffles."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import Aim, aims
from keras_ext.callbacks.monitor.rules.sorted_samples import order_states
from keras_ext.callbacks.monitor.snapshot import Logged, Snapshot

RNG = np.random.default_rng(0)


def in_runs(y, loss="sparse_categorical_crossentropy"):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", loss)
    (aim,) = aims(model, y)
    return aim.in_runs


def test_sorted_classes_are_in_runs_and_shuffled_ones_are_not():
    y = np.repeat(np.arange(3), 100)
    assert in_runs(y) == pytest.approx(1 - 2 / 299 / (2 / 3))  # 2 of the 299 pairs differ; by chance 2 of 3 do
    assert in_runs(np.eye(3)[y], "categorical_crossentropy") == in_runs(y)
    assert in_runs((y[:200] > 0)[:, None], "binary_crossentropy") == pytest.approx(1 - 1 / 199 / (1 / 2))
    assert abs(in_runs(RNG.permutation(y))) < 0.15  # three standard deviations of the mean of 299 pairs: .086 over 2/3
    assert in_runs(np.tile([0, 1], 50)) == pytest.approx(-1)
    assert np.isnan(in_runs(y, "mse"))
    assert np.isnan(in_runs(y[:20]))
    assert np.isnan(in_runs(np.zeros(100, int)))


def course(logged, losses=(1.1, 1.1, 1.1, 1.1), runs=1.0, is_dataset=False):
    means = logged if isinstance(logged, tuple) else (logged,) * len(losses)
    logs = [(), *((Logged("loss", mean),) for mean in means[1:])]
    seen = [Snapshot(100 * i, i, loss, 1.0, (), (), logged=logs[i]) for i, loss in enumerate(losses)]
    aim = Aim("sparse_categorical_crossentropy", False, 0, 2, 1.0, in_runs=runs)
    return [s.symptom for s in order_states(seen, [aim], Limits(), 2, 1.1, is_dataset)]


def test_the_loss_of_the_batches_must_be_far_lower_and_that_of_the_probe_stand():
    assert course(0.5) == ["sorted_samples"]
    assert course(0.6) == []  # over half of the probe's
    assert course((0.0, 0.5, 0.6, 0.5)) == []  # it swings
    assert course(0.5, runs=0.4) == course(0.5, runs=np.nan) == []
    assert course(0.1, losses=(1.1, 0.9, 0.7, 0.4)) == []
    assert course(1.0, is_dataset=True) == ["sorted_samples"]
    assert course(1.0, runs=0.1, is_dataset=True) == []
    assert course(1.0, losses=(1.1,) * 7) == ["sorted_samples"]  # a warning after three times the patience


def test_a_sorted_dataset_is_named_whatever_its_batches_cost():
    x, y = np.random.default_rng(0).normal(size=(320, 2)).astype("float32"), np.repeat([0, 1], 160)
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 320, 32)]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    monitor = SaturationMonitor(Dataset(batches), on_critical=None, probe_size=320)
    model.fit(Dataset(batches), epochs=12, verbose=0, callbacks=[monitor])
    assert ("sorted_samples", "critical") in {(f.symptom, f.severity) for f in monitor.findings}


class Dataset(keras.utils.PyDataset):
    """Batches in their order."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_fit_on_sorted_samples_without_shuffling_is_named(shuffle):
    x, y = load_digits(return_X_y=True)
    order = np.argsort(y, kind="stable")
    x, y = (x[order] / 16).astype("float32"), y[order]
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(64, "relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=6, shuffle=shuffle, verbose=0, callbacks=[monitor])
    critical = {f.symptom for f in monitor.findings if f.severity == "critical"}
    assert ("sorted_samples" in critical) == (not shuffle)
    assert not (shuffle and critical)
