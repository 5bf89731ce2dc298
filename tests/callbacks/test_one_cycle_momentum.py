"""The momentum against the rate: its course from the formula, and the weights it leads to in float64 by hand."""

import math

import keras
import numpy as np
import pytest

from keras_ext.callbacks import OneCycleMomentum
from keras_ext.optimizers import SGD, Adagrad, Adam, GradientClipping, RMSprop
from keras_ext.schedules import OneCycle, Warmup

STEPS, PEAK = 20, 5  # round(.3 * 20) - 1


def expected(step, high, low):
    """The cosine between the ends, from the paper's picture."""
    step = min(step, STEPS - 1)
    part = step / PEAK if step < PEAK else (step - PEAK) / (STEPS - 1 - PEAK)
    start, end = (high, low) if step < PEAK else (low, high)
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def rate_at(step, peak=0.1):
    start = peak / 25
    step = min(step, STEPS - 1)
    if step < PEAK:
        return peak + (start - peak) * (1 + math.cos(math.pi * step / PEAK)) / 2
    end = start / 1e4
    return end + (peak - end) * (1 + math.cos(math.pi * (step - PEAK) / (STEPS - 1 - PEAK))) / 2


class Mean(keras.layers.Layer):
    """Its loss `w . x` has the batch's mean as gradient, so that every step is known."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="zeros", name="w")

    def call(self, x):
        return keras.ops.sum(self.w * x, axis=-1, keepdims=True)


def loss(y, prediction):
    return keras.ops.mean(prediction, axis=-1)


def model_with(optimizer, **kwargs):
    model = keras.Sequential([keras.Input((2,)), Mean()])
    model.compile(optimizer, loss, **kwargs)
    return model


X = np.random.default_rng(0).normal(size=(STEPS + 4, 2)).astype("float32")


def train(model, callbacks, epochs=1, first=0):
    return model.fit(X[first:], X[first:], batch_size=1, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)


def weights(model):
    return keras.ops.convert_to_numpy(model.trainable_variables[0]).astype("float64")


def sgd_by_hand(momentum_of, nesterov=False, steps=STEPS + 4):
    w, m = np.zeros(2), np.zeros(2)
    for k in range(steps):
        b, r, g = momentum_of(k), rate_at(k), X[k].astype("float64")
        m = b * m - r * g
        w = w + b * m - r * g if nesterov else w + m
    return w


def rmsprop_by_hand(momentum_of):
    w, v, m = np.zeros(2), np.zeros(2), np.zeros(2)
    for k in range(STEPS + 4):
        g = X[k].astype("float64")
        v = 0.9 * v + 0.1 * g**2
        m = momentum_of(k) * m + rate_at(k) * g / np.sqrt(v + 1e-7)
        w = w - m
    return w


def adam_by_hand(momentum_of):
    w, v, m = np.zeros(2), np.zeros(2), np.zeros(2)
    for k in range(STEPS + 4):
        g, b = X[k].astype("float64"), momentum_of(k)
        m, v = b * m + (1 - b) * g, 0.999 * v + 0.001 * g**2
        w = w - rate_at(k) * (m / (1 - b ** (k + 1))) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-7 / np.sqrt(1 - 0.999 ** (k + 1)))
    return w


CASES = {
    "sgd": (lambda rate: SGD(rate, momentum=0.5), sgd_by_hand),
    "nesterov": (lambda rate: SGD(rate, momentum=0.5, nesterov=True), lambda m: sgd_by_hand(m, True)),
    "rmsprop": (lambda rate: RMSprop(rate, momentum=0.5), rmsprop_by_hand),
    "adam": (lambda rate: Adam(rate), adam_by_hand),
}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_weights_are_those_of_the_formula(name, jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        jit_compile = "auto"
    make, by_hand = CASES[name]
    model = model_with(make(OneCycle(0.1, STEPS)), jit_compile=jit_compile)
    history = train(model, [OneCycleMomentum(0.9, 0.6)]).history
    np.testing.assert_allclose(weights(model), by_hand(lambda k: expected(k, 0.9, 0.6)), rtol=2e-5, atol=1e-6)
    assert history["momentum"] == [pytest.approx(expected(STEPS + 4, 0.9, 0.6), abs=1e-6)]


def test_the_course_is_exact_at_its_three_steps():
    callback = OneCycleMomentum(0.95, 0.85, OneCycle(0.1, STEPS))
    found = [float(callback.momentum_of(k)) for k in range(STEPS + 4)]
    assert found[0] == np.float32(0.95) == found[-1]
    assert found[PEAK] == np.float32(0.85) == min(found)
    np.testing.assert_allclose(found, [expected(k, 0.95, 0.85) for k in range(STEPS + 4)], rtol=3e-7)


def test_the_optimizer_has_its_own_momentum_before_and_after():
    """A second fit without the callback, on the functions of the first, and a step outside of fit."""
    model = model_with(SGD(OneCycle(0.1, STEPS), momentum=0.5))
    train(model, [OneCycleMomentum(0.9, 0.6)])
    assert model.optimizer.current_momentum() == 0.5
    plain = model_with(SGD(OneCycle(0.1, STEPS), momentum=0.5))
    for each in (model, plain):
        for v in (*each.optimizer.variables, *each.trainable_variables):
            v.assign(np.zeros(v.shape))
        train(each, [])
        each.train_on_batch(X[:1], X[:1])
    np.testing.assert_array_equal(weights(model), weights(plain))


def test_a_training_before_it_leaves_no_constant_behind():
    model = model_with(SGD(OneCycle(0.1, STEPS), momentum=0.5))
    train(model, [])
    for v in (*model.optimizer.variables, *model.trainable_variables):
        v.assign(np.zeros(v.shape))
    train(model, [OneCycleMomentum(0.9, 0.6)])
    np.testing.assert_allclose(weights(model), sgd_by_hand(lambda k: expected(k, 0.9, 0.6)), rtol=2e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras takes one step an execution on PyTorch")
def test_it_keeps_time_with_several_steps_an_execution():
    model = model_with(SGD(OneCycle(0.1, STEPS), momentum=0.5), steps_per_execution=4)
    train(model, [OneCycleMomentum(0.9, 0.6)])
    np.testing.assert_allclose(weights(model), sgd_by_hand(lambda k: expected(k, 0.9, 0.6)), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda o: GradientClipping(o, threshold=1e9), keras.optimizers.LossScaleOptimizer])
def test_it_finds_the_optimizer_inside(wrap):
    model = model_with(wrap(SGD(OneCycle(0.1, STEPS), momentum=0.5)))
    train(model, [OneCycleMomentum(0.9, 0.6)])
    np.testing.assert_allclose(weights(model), sgd_by_hand(lambda k: expected(k, 0.9, 0.6)), rtol=2e-5, atol=1e-6)


def test_a_training_that_is_cut_goes_on_in_a_loaded_model(tmp_path):
    def saved_after(n):
        model = model_with(SGD(OneCycle(0.1, STEPS), momentum=0.5))
        model.fit(X[:n], X[:n], batch_size=1, shuffle=False, verbose=0, callbacks=[OneCycleMomentum(0.9, 0.6)])
        model.save(tmp_path / "m.keras")

    saved_after(7)
    model = keras.models.load_model(tmp_path / "m.keras", {"Mean": Mean, "loss": loss})
    train(model, [OneCycleMomentum(0.9, 0.6)], first=7)
    np.testing.assert_allclose(weights(model), sgd_by_hand(lambda k: expected(k, 0.9, 0.6)), rtol=2e-5, atol=1e-6)


def test_files_are_those_of_a_constant_momentum():
    """Keras's SGD takes what is saved in the middle of training."""
    model, stores = model_with(SGD(OneCycle(0.1, STEPS), momentum=0.5)), []

    def save(epoch, logs):
        stores.append({})
        model.optimizer.save_own_variables(stores[-1])

    train(model, [OneCycleMomentum(), keras.callbacks.LambdaCallback(on_epoch_end=save)])
    other = keras.optimizers.SGD(OneCycle(0.1, STEPS), momentum=0.5)
    other.build(model.trainable_variables)
    other.load_own_variables(stores[0])
    assert model.optimizer.get_config()["momentum"] == 0.5
    assert len(stores[0]) == len(other.variables) == len(model.optimizer.variables)
    for a, b in zip(model.optimizer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_it_trains_in_half_precision(policy):
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = model_with(Adam(OneCycle(0.1, STEPS)))
        history = train(model, [OneCycleMomentum(0.9, 0.6)]).history
    finally:
        keras.config.set_dtype_policy(kept)
    assert history["momentum"] == [pytest.approx(0.9, abs=1e-6)]
    assert np.isfinite(weights(model)).all()
    if policy == "mixed_bfloat16":  # without a loss scale, whose first steps are left out
        # The gradients are rounded by 2^-9, and Adam's steps depend on their ratios.
        np.testing.assert_allclose(weights(model), adam_by_hand(lambda k: expected(k, 0.9, 0.6)), atol=2**-8)


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (
            lambda: keras.optimizers.SGD(OneCycle(0.1, 9), momentum=0.9),
            TypeError,
            "OneCycleMomentum needs keras_ext.optimizers.SGD, RMSprop or Adam, got keras",
        ),
        (
            lambda: Adagrad(OneCycle(0.1, 9)),
            TypeError,
            "OneCycleMomentum needs keras_ext.optimizers.SGD, RMSprop or Adam, got keras_ext",
        ),
        (
            lambda: SGD(OneCycle(0.1, 9)),
            ValueError,
            "`momentum` must be above 0 where it is to vary, got 0.0. There is no velocity without it.",
        ),
        (
            lambda: SGD(0.1, momentum=0.9),
            ValueError,
            "follows the schedules.OneCycle that the optimizer has as `learning_rate`, and that is float. Give it one",
        ),
        (lambda: SGD(Warmup(0.1, 5), momentum=0.9), ValueError, "and that is Warmup."),
    ],
)
def test_an_optimizer_that_cannot_is_reported(optimizer, error, message):
    model = model_with(optimizer())
    with pytest.raises(error) as reported:
        train(model, [OneCycleMomentum()])
    assert message in str(reported.value)


def test_a_given_schedule_counts_where_the_rate_is_another():
    model = model_with(SGD(Warmup(OneCycle(0.1, STEPS), 3), momentum=0.5))
    history = train(model, [OneCycleMomentum(0.9, 0.6, OneCycle(0.1, STEPS))]).history
    assert history["momentum"] == [pytest.approx(0.9, abs=1e-6)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_momentum": 1.0}, ValueError, "`max_momentum` must be a number in [0, 1), got 1.0."),
        ({"min_momentum": -0.1}, ValueError, "`min_momentum` must be a number in [0, 1), got -0.1."),
        ({"max_momentum": 0.5, "min_momentum": 0.8}, ValueError, "`min_momentum` must be at most max_momentum, 0.5, got 0.8."),
        ({"schedule": 3}, TypeError, "`schedule` must be a schedules.OneCycle, or None for that of the optimizer, got 3."),
    ],
)
def test_bad_arguments_are_reported(arguments, error, message):
    with pytest.raises(error) as reported:
        OneCycleMomentum(**arguments)
    assert str(reported.value) == message
