"""What goes in, what comes out and what is aimed at: on models that do not fit, and on those that do."""

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor

BCE, CCE, SCCE = keras.losses.BinaryCrossentropy, keras.losses.CategoricalCrossentropy, keras.losses.SparseCategoricalCrossentropy
RNG = np.random.default_rng(0)
CLASSES = np.arange(64) % 3
TARGETS = {
    "bits": (CLASSES > 0)[:, None].astype("float32"),
    "signs": np.where(CLASSES > 0, 1.0, -1.0)[:, None],
    "classes": CLASSES,
    "one-hot": np.eye(3)[CLASSES],
    "numbers": RNG.normal(size=(64, 1)),
    "large": 1e4 * RNG.normal(size=(64, 1)),
    "shares": RNG.uniform(size=(64, 1)),
}


def found(units, activation, loss, targets, scale=1.0, layers=()):
    x = scale * RNG.normal(size=(64, 4)).astype("float32")
    last = keras.layers.Dense(units, activation, name="last", kernel_initializer=keras.initializers.RandomNormal(seed=1, stddev=2.0))
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(8, "relu"), last])
    model.compile(keras.optimizers.SGD(1e-6), loss)
    monitor = SaturationMonitor(x, TARGETS[targets], on_critical=None)
    model.fit(x, TARGETS[targets], epochs=1, verbose=0, callbacks=[monitor])
    return {
        (f.symptom, f.layer): f.advice for f in monitor.findings if f.symptom in ("output_mismatch", "unscaled_target", "unscaled_input")
    }


@pytest.mark.parametrize(
    ("units", "activation", "loss", "targets", "layer", "advice"),
    [
        (1, None, "binary_crossentropy", "bits", None, "End it with sigmoid"),
        (1, "sigmoid", BCE(from_logits=True), "bits", "last", "ends with one. Leave it out."),
        (1, "sigmoid", "binary_crossentropy", "signs", "last", "takes targets from 0 to 1, got -1 to 1."),
        (1, "softmax", "categorical_crossentropy", "bits", "last", "a unit a class"),
        (3, None, "categorical_crossentropy", "one-hot", None, "End it with softmax"),
        (3, "sigmoid", "categorical_crossentropy", "one-hot", "last", "End it with softmax"),
        (3, "softmax", CCE(from_logits=True), "one-hot", "last", "ends with one. Leave it out."),
        (3, "softmax", SCCE(from_logits=True), "classes", "last", "ends with one. Leave it out."),
        (1, "sigmoid", "mse", "numbers", "last", "cannot reach targets"),
        (1, "tanh", keras.losses.Huber(), "large", "last", "cannot reach targets"),
        (1, "relu", "mean_absolute_error", "signs", "last", "cannot reach targets"),
    ],
)
def test_an_output_that_its_loss_cannot_use_is_named(units, activation, loss, targets, layer, advice):
    if targets == "signs" and loss == "binary_crossentropy" and keras.backend.backend() == "torch":
        pytest.skip("PyTorch refuses such targets itself")
    told = found(units, activation, loss, targets)
    assert advice in told["output_mismatch", layer]


@pytest.mark.parametrize(
    ("units", "activation", "loss", "targets"),
    [
        (1, "sigmoid", "binary_crossentropy", "bits"),
        (1, None, BCE(from_logits=True), "bits"),
        (3, "softmax", "categorical_crossentropy", "one-hot"),
        (3, "softmax", "sparse_categorical_crossentropy", "classes"),
        (3, None, SCCE(from_logits=True), "classes"),
        (3, "sigmoid", "binary_crossentropy", "one-hot"),
        (1, None, "mse", "numbers"),
        (1, "sigmoid", "mse", "bits"),
        (1, "sigmoid", "mse", "shares"),
        (1, "tanh", "mse", "signs"),
        (1, "relu", "mse", "shares"),
        (1, None, lambda y, p: keras.ops.mean(keras.ops.square(y - p)), "numbers"),
    ],
)
def test_what_fits_is_not_named(units, activation, loss, targets):
    assert found(units, activation, loss, targets) == {}


def test_targets_of_another_scale_are_named():
    assert set(found(1, None, "mse", "large")) == {("unscaled_target", None)}
    assert found(1, None, "mse", "numbers") == {}


def test_inputs_of_another_scale_are_named_unless_the_model_scales_them():
    assert set(found(1, None, "mse", "numbers", scale=100.0)) == {("unscaled_input", None)}
    assert found(1, None, "mse", "numbers", scale=100.0, layers=[keras.layers.Rescaling(0.01)]) == {}
    assert found(1, None, "mse", "numbers", scale=5.0) == {}


def test_each_of_several_outputs_has_its_own_aim():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1, name="a")(inputs), "b": keras.layers.Dense(3, "softmax", name="b")(inputs)})
    model.compile(keras.optimizers.SGD(1e-6), {"a": "binary_crossentropy", "b": "sparse_categorical_crossentropy"})
    x, y = 9 * RNG.normal(size=(64, 4)), {"a": TARGETS["bits"], "b": TARGETS["classes"]}
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    (told,) = [f for f in monitor.findings if f.symptom == "output_mismatch"]
    assert "output 1 gives" in told.advice
    assert [len(look.outputs) for look in monitor.looks] == [2] * len(monitor.looks)
    assert [o.units for o in monitor.looks[0].outputs] == [1, 3]
