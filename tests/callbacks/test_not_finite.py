"""NaN is blamed on what comes first: data, weights, the way forward, the loss, the gradient."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks import Limits, SaturationMonitor
from keras_ext.callbacks.monitor.rules.not_finite import not_finite
from keras_ext.callbacks.monitor.snapshot import Activation, Snapshot, Weight

A1, A2 = (Activation(name, "relu", "", False, 0.0, 0.0, 0.0, 0.0, 0.5, True) for name in ("h1", "h2"))
W1, W2 = (Weight(name, f"{name}/kernel", True, 0.1, 5.0, 1.0, 0.0, True) for name in ("h1", "h2"))
NAN_A = {"finite": False, "rms": math.nan}
NAN_W = {"finite": False, "gradient_norm": math.nan, "weight_norm": math.nan}
NAN_G = {"finite": False, "gradient_norm": math.nan}


def snapshot(activations=(A1, A2), weights=(W1, W2), loss=1.0, input_rms=1.0):
    return Snapshot(10, 1, loss, 0.5, tuple(activations), tuple(weights), input_rms=input_rms)


BROKEN = snapshot([replace(A1, **NAN_A), replace(A2, **NAN_A)], [replace(W1, **NAN_W), replace(W2, **NAN_W)], math.nan)


@pytest.mark.parametrize(
    ("now", "before", "layer", "words"),
    [
        (replace(BROKEN, input_rms=math.nan), None, None, "The inputs have NaN or infinity"),
        (snapshot([A1, replace(A2, **NAN_A)], [replace(W1, **NAN_G), W2], math.nan), None, "h2", "its output is not: it overflows"),
        (snapshot(weights=[replace(W1, **NAN_G)], loss=math.nan), None, None, "takes the logarithm or the root of 0"),
        (snapshot(weights=[replace(W1, **NAN_G), replace(W2, **NAN_G)]), None, "h2", "its gradient is not"),
        (BROKEN, None, "h1", "nothing was large in the snapshot before"),
        (BROKEN, snapshot(), "h1", "nothing was large in the snapshot before"),
        (BROKEN, snapshot(weights=[replace(W1, gradient_norm=200.0), replace(W2, gradient_norm=150.0)]), "h1", "norm was 2.0e+02"),
        (BROKEN, snapshot([A1, replace(A2, rms=2e4)]), "h2", "the root mean square of its output was 2.0e+04"),
        (BROKEN, snapshot(weights=[W1, replace(W2, largest=2e3)]), "h2", "its largest weight was 2.0e+03"),
    ],
)
def test_what_comes_first_is_blamed(now, before, layer, words):
    state = not_finite(now, before, "clip", Limits())
    assert (state.symptom, state.layer, state.fatal) == ("non_finite", layer, True)
    assert words in state.advice


def own_cross_entropy(y, p):
    return -ops.mean(y * ops.log(p) + (1 - y) * ops.log(1 - p))


def fit(x, y, loss="mse", end=None, optimizer="adam"):
    hidden = keras.layers.Dense(16, "relu", kernel_initializer=keras.initializers.HeNormal(1), name="h1")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1, end, name="out")])
    model.compile(optimizer, loss)
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=3, batch_size=16, verbose=0, callbacks=[monitor])
    return {(f.symptom, f.severity): f for f in monitor.findings}


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 4)).astype("float32")
    return x, (x[:, :1] > 0).astype("float32")


def test_nan_in_the_data_is_blamed_on_the_data():
    x, y = data()
    x[::9, 2] = np.nan
    found = fit(x, y)[("non_finite", "critical")]
    assert found.layer is None
    assert "`x` has NaN or infinity in 29 of 256 samples, in column 2. Drop or fill these samples." in found.advice


def test_the_logarithm_of_zero_is_blamed_on_the_loss():
    x, y = data()
    found = fit(1000 * x, y, own_cross_entropy, "sigmoid")[("non_finite", "critical")]
    assert found.layer is None
    assert "All activations are finite, and the loss is not" in found.advice


def test_large_targets_are_named_beside_the_nan_that_they_make():
    x, y = data()
    found = fit(x, 1e6 + 1e5 * y, optimizer=keras.optimizers.SGD(0.1))
    assert ("unscaled_target", "warning") in found
    assert found[("non_finite", "critical")].advice.startswith("The root mean square of the targets is")


def test_its_healthy_twin_gets_no_finding():
    assert fit(*data(), "binary_crossentropy", "sigmoid") == {}
