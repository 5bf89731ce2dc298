"""Losses that a user wrote: those that rise as predictions get better, that hardly depend on them, or compare each with all targets."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ext.callbacks import SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.probe.own_loss import INDIFFERENT, REVERSED, UNPAIRED, loss_flaws
from keras_ext.callbacks.monitor.probe.probe import Probe

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
BITS = (X[:, :1] > 0).astype("float32")
CHOICES = np.eye(3, dtype="float32")[np.digitize(X[:, 0], (-0.5, 0.5))]
NUMBERS = (X @ RNG.normal(size=(6, 1))).astype("float32")
SHARES = RNG.uniform(0.1, 0.9, (64, 4)).astype("float32")


def log_likelihood(y, p):
    return ops.mean(y * ops.log(p + 1e-7) + (1 - y) * ops.log(1 - p + 1e-7), axis=-1)


def overlap(y, p):
    return (2 * ops.sum(y * p) + 1) / (ops.sum(y) + ops.sum(p) + 1)


def focal(y, p, of_easy):
    right = ops.clip(ops.where(y > 0.5, p, 1 - p), 1e-6, 1.0)
    return -ops.mean((right if of_easy else 1 - right) ** 2 * ops.log(right), axis=-1)


def moments(y, p):
    """Compare two distributions, as generative networks do."""
    return ops.square(ops.mean(y) - ops.mean(p)) + ops.square(ops.std(y) - ops.std(p))


def smooth(y, p, smoothing):
    return 1 - (ops.sum(y * p) + smoothing) / (ops.sum(y) + ops.sum(p) + smoothing)


def narrow(y, p, width):
    """Compare two samples by the mean of a kernel over all pairs (Gretton et al. 2012, equation 3)."""

    def mean(a, b):
        return ops.mean(ops.exp(-ops.square((a - ops.transpose(b)) / width)))

    return mean(p, p) + mean(y, y) - 2 * mean(p, y)


class OwnError(keras.losses.Loss):
    def call(self, y, p):
        return ops.square(y - p)


LOSSES = {
    "negative log likelihood": (1, "sigmoid", BITS, lambda y, p: -log_likelihood(y, p), None),
    "log likelihood": (1, "sigmoid", BITS, log_likelihood, REVERSED),
    "1 - dice": (1, "sigmoid", BITS, lambda y, p: 1 - overlap(y, p), None),
    "dice": (1, "sigmoid", BITS, overlap, REVERSED),
    "a smoothing term that drowns the rest": (
        1,
        "sigmoid",
        BITS,
        lambda y, p: 1 - (ops.sum(y * p) + 1e9) / (ops.sum(p) + 1e9),
        INDIFFERENT,
    ),
    "focal": (1, "sigmoid", BITS, lambda y, p: focal(y, p, False), None),
    "focal of easy samples": (1, "sigmoid", BITS, lambda y, p: focal(y, p, True), INDIFFERENT),
    "likelihood of a class": (3, "softmax", CHOICES, lambda y, p: ops.sum(y * ops.log(p), axis=-1), REVERSED),
    "cross entropy": (3, "softmax", CHOICES, lambda y, p: -ops.sum(y * ops.log(p), axis=-1), None),
    "shares": (4, "sigmoid", SHARES, lambda y, p: ops.mean(ops.abs(y - p), axis=-1), None),
    "shares with the wrong sign": (4, "sigmoid", SHARES, lambda y, p: -ops.mean(ops.abs(y - p), axis=-1), REVERSED),
    "squared error": (1, None, NUMBERS, OwnError(), None),
    "squared error of numbers": (1, None, NUMBERS, lambda y, p: ops.square(y - p), None),
    "squared error, broadcast": (1, None, NUMBERS, lambda y, p: ops.mean(ops.square(ops.reshape(y, (-1,)) - p)), UNPAIRED),
    "absolute error, broadcast": (1, "sigmoid", BITS, lambda y, p: ops.mean(ops.abs(ops.reshape(y, (-1,)) - p)), UNPAIRED),
    "distributions": (1, None, NUMBERS, moments, UNPAIRED),
    "targets that it ignores": (1, None, NUMBERS, lambda y, p: ops.mean(p), None),
    "a sum over one unit": (1, None, NUMBERS, lambda y, p: ops.sum((y - ops.mean(y, -1, keepdims=True)) * p, axis=-1), INDIFFERENT),
    "kernels that are too narrow": (1, None, NUMBERS, lambda y, p: narrow(y, p, 1e-9), INDIFFERENT),
    "kernels": (1, None, NUMBERS, lambda y, p: narrow(y, p, 1.0), UNPAIRED),
    "Keras's own": (1, "sigmoid", BITS, "binary_crossentropy", None),
    "Keras's own class": (1, "sigmoid", BITS, keras.losses.BinaryCrossentropy(), None),
    "Keras's own function": (1, "sigmoid", BITS, keras.losses.binary_crossentropy, None),
}


def compiled(units, end, loss):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(units, end)])
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model


def flaws(model, y, x=X):
    data = (x, y, None)
    return loss_flaws(model, data, Probe(model, data).snapshot(0, 0))


@pytest.mark.parametrize("name", LOSSES)
def test_a_flaw_is_found_and_nothing_else(name):
    units, end, y, loss, kind = LOSSES[name]
    assert [flaw.kind for flaw in flaws(compiled(units, end, loss), y)] == ([] if kind is None else [kind])


def test_the_costs_are_those_of_right_undecided_and_wrong_predictions():
    (flaw,) = flaws(compiled(1, "sigmoid", log_likelihood), BITS)
    assert (flaw.right, flaw.undecided, flaw.wrong) == pytest.approx((np.log(0.999), np.log(0.5), np.log(0.001)), rel=2e-4)


def test_of_several_outputs_the_one_is_named_whose_loss_is_flawed():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, "relu")(inputs)
    ends = {"class": layers.Dense(3, "softmax", name="class")(hidden), "box": layers.Dense(4, "sigmoid", name="box")(hidden)}
    y = {"class": CHOICES.argmax(1), "box": SHARES}
    for outputs in (ends, list(ends.values())):
        model = keras.Model(inputs, outputs)
        loss = {"class": "sparse_categorical_crossentropy", "box": lambda y, p: -ops.mean(ops.abs(y - p), axis=-1)}
        model.compile("adam", loss if isinstance(outputs, dict) else list(loss.values()))
        given = y if isinstance(outputs, dict) else list(y.values())
        assert [(flaw.name, flaw.kind) for flaw in flaws(model, given)] == [("box", REVERSED)]
    assert "predictions of 'box'" in diagnose(model, X, given).findings[0].advice


def test_a_loss_that_fails_on_made_up_predictions_is_left_alone():
    def fails(y, p):
        raise RuntimeError

    model = compiled(1, "sigmoid", lambda y, p: -log_likelihood(y, p))
    snapshot = Probe(model, (X, BITS, None)).snapshot(0, 0)
    model.compile("adam", fails)
    assert loss_flaws(model, (X, BITS, None), snapshot) == ()


def test_penalties_on_weights_change_nothing():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, "sigmoid", kernel_regularizer="l2")])
    model.compile("adam", log_likelihood)
    assert [flaw.kind for flaw in flaws(model, BITS)] == [REVERSED]


def test_the_model_and_its_metrics_stay_as_they_are():
    model = compiled(1, "sigmoid", log_likelihood)
    before = [ops.convert_to_numpy(v) for v in model.variables]
    flaws(model, BITS)
    assert all((ops.convert_to_numpy(v) == b).all() for v, b in zip(model.variables, before, strict=True))
    assert [float(m.result()) for m in model.metrics] == [0.0]


def test_a_reversed_loss_is_critical_before_the_first_step():
    model, monitor = compiled(1, "sigmoid", log_likelihood), SaturationMonitor(X, BITS, on_critical="stop")
    with pytest.warns(UserWarning, match="change its sign"):
        model.fit(X, BITS, epochs=5, verbose=0, callbacks=[monitor])
    (found,) = [f for f in monitor.findings if f.severity == "critical"]
    assert (found.symptom, found.step) == ("flawed_loss", 0)


@pytest.mark.parametrize(("loss", "is_critical"), [("squared error, broadcast", True), ("distributions", False)])
def test_a_loss_that_pairs_nothing_is_critical_once_the_predictions_are_alike(loss, is_critical):
    x = np.random.default_rng(1).normal(size=(512, 6)).astype("float32")
    y = (x @ np.ones((6, 1))).astype("float32")
    model, monitor = compiled(1, None, LOSSES[loss][3]), SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=16, verbose=0, callbacks=[monitor])
    found = {f.severity for f in monitor.findings if f.symptom == "flawed_loss"}
    assert found == ({"warning", "critical"} if is_critical else {"warning"})
    assert [f for f in monitor.findings if f.severity == "critical" and f.symptom != "flawed_loss"] == []


def test_a_loss_that_is_zero_from_the_start_is_not_a_low_one():
    model = compiled(1, None, lambda y, p: 0.0 * ops.sum(p, axis=-1))
    monitor = SaturationMonitor(X, NUMBERS, on_critical=None)
    model.fit(X, NUMBERS, batch_size=4, epochs=12, verbose=0, callbacks=[monitor])
    assert {f.symptom for f in monitor.findings if f.severity == "critical"} == {"flawed_loss"}


@pytest.mark.parametrize(("y", "is_found"), [(2 * BITS - 1, True), (BITS, False)])
def test_targets_that_the_sigmoid_before_an_own_loss_cannot_reach_are_reported(y, is_found):
    model = compiled(1, "sigmoid", lambda y, p: -log_likelihood(y, p))
    found = [f.advice for f in diagnose(model, X, y).findings if f.symptom == "output_mismatch"]
    assert ["cannot reach targets from -1 to 1" in advice for advice in found] == ([True] if is_found else [])
