"""Training and inference as two networks: moving statistics that do not follow."""

import math

import keras
import numpy as np
import pytest

from keras_ext.callbacks import Limits, SaturationMonitor
from keras_ext.callbacks.monitor.probe.probe import Probe
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.rules.stale_statistics import mode_states
from keras_ext.callbacks.monitor.snapshot import Normalization, Snapshot


def network(momentum=0.99):
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            keras.layers.Conv1D(8, 3, name="conv"),
            keras.layers.BatchNormalization(momentum=momentum, name="bn"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, "sigmoid", name="out"),
        ]
    )
    model.compile("adam", "binary_crossentropy")
    return model


def data():
    rng = np.random.default_rng(0)
    x = (5 * rng.normal(size=(512, 6, 4)) + 9).astype("float32")
    return x, (x[:, 2:3, 0] > 9).astype("float32")


def test_the_statistics_are_compared_channel_by_channel():
    model, (x, y) = network(), data()
    bn = model.get_layer("bn")
    moving_mean, moving_variance = np.linspace(-1, 1, 8), np.linspace(0.5, 4, 8)
    bn.moving_mean.assign(moving_mean)
    bn.moving_variance.assign(moving_variance)
    kernel, bias = (w.astype("float64") for w in model.get_layer("conv").get_weights())
    x = x[:64]
    sums = np.stack([np.tensordot(x[:, t : t + 3].astype("float64"), kernel, 2) + bias for t in range(4)], axis=1)
    mean, variance = sums.mean(axis=(0, 1)), sums.var(axis=(0, 1)) + bn.epsilon
    (seen,) = Probe(model, (x, y[:64], None)).snapshot(0, 0).normalizations
    assert seen.layer == "bn"
    assert seen.shift == pytest.approx(np.sqrt(np.mean((mean - moving_mean) ** 2 / variance)), rel=1e-3)
    assert seen.ratio == pytest.approx(np.exp(np.abs(np.log(variance / (moving_variance + bn.epsilon))).mean()), rel=1e-3)


@pytest.mark.parametrize(
    ("momentum", "ratio", "shift", "step", "is_found"),
    [
        (0.9999, 5.0, 0.0, 50, True),
        (0.9999, 1.0, 1.1, 50, True),
        (0.9999, 3.0, 0.9, 50, False),  # as in a network that was trained before
        (0.99, 5.0, 2.0, 50, False),
        (0.9999, 5.0, 2.0, 0, False),
    ],
)
def test_statistics_that_will_not_follow(momentum, ratio, shift, step, is_found):
    snapshot = Snapshot(step, 1, 1.0, 0.5, (), (), normalizations=(Normalization("bn", shift, ratio),))
    found = list(mode_states(snapshot, Limits(), Training(moving=(("bn", momentum),), planned=1000.0)))
    assert [(s.symptom, s.layer) for s in found] == ([("stale_statistics", "bn")] if is_found else [])
    assert all("90% of its moving statistics" in s.advice and "Set momentum to 0.995" in s.advice for s in found)


@pytest.mark.parametrize(
    ("ratio", "step", "is_found"),
    [
        (80.0, 80, True),  # 54 at the end of 120 steps
        (5.0, 80, False),  # 3.3
        (80.0, 60, False),  # half of the first statistics is left: it may be too small, and is right soon
    ],
)
def test_a_variance_that_stays_too_large(ratio, step, is_found):
    snapshot = Snapshot(step, 1, 1.0, 0.5, (), (), normalizations=(Normalization("bn", 0.3, ratio),))
    found = list(mode_states(snapshot, Limits(), Training(moving=(("bn", 0.99),), planned=120.0)))
    assert [(s.symptom, s.layer) for s in found] == ([("stale_statistics", "bn")] if is_found else [])
    assert all(s.value == pytest.approx(80 * 0.99**40) and "will be 53.5 at the end" in s.advice for s in found)


@pytest.mark.parametrize(
    ("loss", "inference", "planned", "is_critical"),
    [
        (0.2, 1.9, 120.0, True),  # .3 of the first statistics is left
        (0.2, 1.9, 140.0, False),  # .245
        (0.2, 0.9, 120.0, False),
        (1.2, 1.9, 120.0, False),
        (0.2, math.nan, 120.0, False),
    ],
)
def test_one_that_stays_too_large_is_critical_where_the_network_has_learned_in_training_alone(loss, inference, planned, is_critical):
    snapshot = Snapshot(80, 1, loss, 0.5, (), (), normalizations=(Normalization("bn", 0.3, 80.0),), inference=inference)
    (found,) = mode_states(snapshot, Limits(), Training(moving=(("bn", 0.99),), planned=planned), 2.0)
    assert (found.can_be_critical, found.ignores_loss) == (is_critical, True)
    assert ("in inference 1.9" in found.advice) == is_critical


@pytest.mark.parametrize(("momentum", "is_found"), [(0.99, True), (0.9, False)])
def test_a_network_that_has_learned_in_training_alone_is_told_by_its_loss_in_inference(momentum, is_found):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 608)
    x = (np.eye(4)[y][:, None, :] + 0.3 * rng.normal(size=(608, 6, 4))).astype("float32")
    keras.utils.set_random_seed(1)
    hidden = [
        keras.layers.Dense(32, kernel_initializer=keras.initializers.RandomNormal(stddev=0.0005)),
        keras.layers.BatchNormalization(momentum=momentum, name="bn"),
    ]
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.Flatten(), *hidden, keras.layers.ReLU(), keras.layers.Dense(4, "softmax")])
    model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy")
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=6, batch_size=32, verbose=0, callbacks=[monitor])
    last = monitor.snapshots[-1]
    in_inference = model.evaluate(x, y, batch_size=608, verbose=0)
    if is_found:
        assert last.inference == pytest.approx(in_inference, rel=0.2)  # of the 256 samples of the probe
        assert last.loss < 0.1 * last.inference
    else:
        assert math.isnan(last.inference)
    found = {(f.symptom, f.severity) for f in monitor.findings if f.severity == "critical"}
    assert found == ({("stale_statistics", "critical")} if is_found else set())


def test_a_small_signal_whose_moving_variance_is_too_large_in_inference_is_reported():
    """After 128 steps the moving variance still is that of its start, for the most part."""
    x, y = data()
    x = 0.02 * x
    for momentum, is_found in ((0.99, True), (0.9, False)):
        keras.utils.set_random_seed(1)
        model, monitor = network(momentum), SaturationMonitor(x, y, on_critical=None)
        model.optimizer.learning_rate = 0.01
        model.fit(x, y, epochs=8, batch_size=32, verbose=0, callbacks=[monitor])
        found = {(f.symptom, f.severity) for f in monitor.findings if f.symptom == "stale_statistics"}
        assert found == ({("stale_statistics", "warning")} if is_found else set())


@pytest.mark.parametrize(("momentum", "is_found"), [(0.9999, True), (0.9, False)])
def test_a_loss_that_falls_in_training_alone_is_critical(momentum, is_found):
    model, (x, y) = network(momentum), data()
    keras.utils.set_random_seed(1)
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=6, batch_size=16, verbose=0, callbacks=[monitor])
    found = [(f.symptom, f.layer, f.severity) for f in monitor.findings]
    assert (("stale_statistics", "bn", "critical") in found) == is_found
    if not is_found:
        assert [f for f in found if f[2] == "critical"] == []
