"""The range test: the rates that it takes, what it leaves as it was, and what it suggests."""

import copy
import random

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext.callbacks import LearningRateFinder, RateCurve
from keras_ext.optimizers import SGD, Adam, GradientClipping
from keras_ext.schedules import OneCycle

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 6)).astype("float32")
Y = (X @ RNG.normal(size=(6, 3))).argmax(axis=1).astype("int32")


def values(variables):
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def classifier(optimizer="adam", seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(16),
            keras_ext.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras_ext.layers.Dropout(0.2, seed=1),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **kwargs)
    return model


class Mean(keras.layers.Layer):
    """Its loss `w . x` has the batch's mean as gradient."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="zeros", name="w")

    def call(self, x):
        return keras.ops.sum(self.w * x, axis=-1, keepdims=True)


def mean(y, prediction):
    return keras.ops.mean(prediction, axis=-1)


def line(optimizer):
    model = keras.Sequential([keras.Input((2,)), Mean()])
    model.compile(optimizer, mean)
    return model


ONES = np.ones((64, 2), "float32")
TEST = {"batch_size": 8, "steps": 20, "min_learning_rate": 1e-4, "max_learning_rate": 1e-1}


def rates():
    return 1e-4 * 1e3 ** (np.arange(20) / 19)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.3),
        lambda: SGD(OneCycle(0.1, 100)),
        lambda: GradientClipping(SGD(0.3), threshold=100.0),
        lambda: keras.optimizers.LossScaleOptimizer(SGD(0.3), initial_scale=1.0),
        lambda: SGD(0.3, gradient_accumulation_steps=3),
    ],
)
def test_every_step_takes_its_rate(optimizer):
    """The gradient is 1 for both weights, so before step k the loss is -2 times the sum of the rates so far."""
    curve = LearningRateFinder(ONES, ONES, **TEST).find(line(optimizer()))
    np.testing.assert_allclose(curve.rates, rates(), rtol=1e-12)
    expected = -2 * np.concatenate([[0], np.cumsum(rates())[:-1]])
    # The rate is a float32 power of up to 20 operations, and so is the sum.
    np.testing.assert_allclose(curve.losses, expected, rtol=1e-5, atol=1e-7)


def everything(model):
    return values([*model.variables, *model.optimizer.variables])


@pytest.mark.parametrize("is_trained", [False, True])
def test_the_model_is_left_bit_for_bit(is_trained):
    model = classifier(Adam(1e-3))
    if is_trained:
        model.fit(X, Y, epochs=1, verbose=0)
    optimizer, function, history = model.optimizer, model.train_function, getattr(model, "history", None)
    before, generators = everything(model), (random.getstate(), np.random.get_state()[1].copy())
    LearningRateFinder(X, Y, steps=20).find(model)
    assert model.optimizer is optimizer
    assert model.train_function is function
    assert getattr(model, "history", None) is history
    for a, b in zip(before, everything(model), strict=False):
        np.testing.assert_array_equal(a, b)
    assert generators[0] == random.getstate()
    np.testing.assert_array_equal(generators[1], np.random.get_state()[1])


def test_training_afterwards_is_what_it_would_have_been():
    found = []
    for snapshots in (False, True):
        model = classifier(Adam(1e-3))
        model.fit(X, Y, epochs=1, verbose=0, shuffle=False)
        if snapshots:
            LearningRateFinder(X, Y, steps=20).find(model)
        history = model.fit(X, Y, epochs=2, verbose=0, shuffle=False).history
        found.append((history["loss"], history["accuracy"], everything(model)))
    assert found[0][:2] == found[1][:2]
    for a, b in zip(found[0][2], found[1][2], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_in_the_middle_leaves_the_model_as_it_was():
    model = classifier("sgd", run_eagerly=True)
    calls = []

    def loss(y, prediction):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("out of luck")
        return keras.losses.sparse_categorical_crossentropy(y, prediction)

    model.compile("sgd", loss, run_eagerly=True)
    before, optimizer = values(model.variables), model.optimizer
    with pytest.raises(ValueError, match=r"`model` cannot be trained on this data.*out of luck"):
        LearningRateFinder(X, Y, steps=20).find(model)
    assert model.optimizer is optimizer
    for a, b in zip(before, values(model.variables), strict=False):
        np.testing.assert_array_equal(a, b)


def test_on_a_quadratic_the_rate_is_below_what_diverges():
    """Gradient descent on `mean((x w)^2)` diverges above 2 / L, L the largest eigenvalue of its Hessian."""
    x = (RNG.normal(size=(512, 8)) * np.linspace(0.5, 2, 8)).astype("float32")
    largest = np.linalg.eigvalsh(2 * x.T.astype("float64") @ x / len(x)).max()
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    curve = LearningRateFinder(x, x @ np.ones((8, 1)), batch_size=256, steps=100).find(model)
    assert curve.suggested is not None
    assert 2 / largest / 100 < curve.suggested < 2 / largest
    assert curve.suggested <= curve.lowest_loss_at < 4 * 2 / largest
    assert len(curve.rates) < 100
    assert curve.rates[-1] < 10


def test_the_same_call_gives_the_same_curve_and_another_seed_another():
    model = classifier("sgd")
    a, b, c = (LearningRateFinder(X, Y, steps=15, seed=seed).find(model) for seed in (0, 0, 1))
    assert a.losses == b.losses != c.losses


def test_a_loss_that_is_not_finite_ends_the_test():
    curve = LearningRateFinder(ONES * 1e20, ONES, steps=30, batch_size=8).find(line("sgd"))
    assert len(curve.losses) < 30
    assert not np.isfinite(curve.losses[-1])
    assert np.isfinite(curve.losses[:-1]).all()


def test_a_model_without_weights_gets_those_of_fit():
    def make():
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dense(3, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    model, other = make(), make()
    LearningRateFinder(X, Y, steps=12).find(model)
    other.build((None, 6))
    for a, b in zip(values(model.weights), values(other.weights), strict=True):
        np.testing.assert_array_equal(a, b)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return X[32 * i : 32 * i + 32], Y[32 * i : 32 * i + 32]


def test_data_comes_as_fit_takes_it():
    model = classifier("sgd")
    whole = LearningRateFinder(Batches(), steps=12).find(model)
    assert len(whole.losses) == 12
    with pytest.raises(TypeError, match="A generator gives its samples once"):
        LearningRateFinder((Batches()[i] for i in range(8)), steps=12).find(model)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    kept = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        curve = LearningRateFinder(X, Y, steps=60).find(classifier("adam"))
    finally:
        keras.config.set_dtype_policy(kept)
    assert curve.suggested is not None
    assert 1e-4 < curve.suggested < 1


def test_steps_that_the_loss_scale_leaves_out_are_taken_again():
    """The gradient is 4, times 2^127 twice more than float32 holds."""
    data = np.full((64, 2), 4.0, "float32")
    curve = LearningRateFinder(data, ONES, **TEST).find(line(keras.optimizers.LossScaleOptimizer(SGD(0.3), initial_scale=2.0**127)))
    np.testing.assert_allclose(curve.rates, rates(), rtol=1e-12)
    np.testing.assert_allclose(curve.losses, -32 * np.concatenate([[0], np.cumsum(rates())[:-1]]), rtol=1e-5, atol=1e-6)


def test_what_a_model_draws_from_python_and_numpy_is_put_back():
    model = classifier("sgd")

    def loss(y, prediction):
        return keras.losses.sparse_categorical_crossentropy(y, prediction) * (1 + random.random() + np.random.random())

    model.compile("sgd", loss, run_eagerly=True)
    python, numpy = random.getstate(), np.random.get_state()[1:3]
    LearningRateFinder(X, Y, steps=10).find(model)
    assert random.getstate() == python
    assert np.random.get_state()[2] == numpy[1]
    np.testing.assert_array_equal(np.random.get_state()[1], numpy[0])


def test_the_settings_of_the_optimizer_count():
    """Without a limit the steps explode; clipping by the model's own optimizer holds them."""
    free, clipped = (
        LearningRateFinder(100 * ONES, ONES, **TEST).find(line(o)).losses[-1]
        for o in (SGD(0.1), GradientClipping(SGD(0.1), rule="global_norm", threshold=1.0))
    )
    assert free == pytest.approx(clipped * 100 * 2**0.5, rel=1e-4)


def test_weights_without_decay_stay_without_it():
    # On PyTorch Keras's own raises where no weight decays.
    for make in (SGD,) if keras.backend.backend() == "torch" else (keras.optimizers.SGD, SGD):
        optimizer = make(0.1, weight_decay=0.5)
        model = line(optimizer)
        model.trainable_variables[0].assign(np.ones(2))
        optimizer.exclude_from_weight_decay(var_list=model.trainable_variables)
        optimizer.build(model.trainable_variables)
        curve = LearningRateFinder(1e-3 * ONES, ONES, **TEST).find(model)
        # The gradient moves them by 1e-3 of the rates' sum, .3; decay would take 15 % off.
        np.testing.assert_allclose(curve.losses, 2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, got 0."),
        ({"steps": 9}, "`steps` must be a whole number of at least 10, got 9."),
        ({"min_learning_rate": 0}, "`min_learning_rate` must be a finite number above 0, got 0."),
        ({"max_learning_rate": 1e-8}, "`max_learning_rate` must be above min_learning_rate, 1e-07, got 1e-08."),
        ({"stop_factor": 1}, "`stop_factor` must be a finite number above 1, got 1."),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1."),
    ],
)
def test_bad_arguments_are_reported(arguments, message):
    with pytest.raises(ValueError) as reported:
        LearningRateFinder(X, Y, **arguments)
    assert str(reported.value) == message


def test_models_that_cannot_be_trained_are_reported():
    finder = LearningRateFinder(X, Y, steps=12)
    with pytest.raises(TypeError, match=r"`model` must be a keras.Model, got 3."):
        finder.find(3)
    with pytest.raises(ValueError, match="`model` must be compiled before its rate can be found"):
        finder.find(keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match="`y` must be targets, as the model is compiled with a loss, got None"):
        LearningRateFinder(X, steps=12).find(classifier())
    with pytest.raises(ValueError, match="`model` cannot be"):
        LearningRateFinder(X[:, :4], Y, steps=12).find(classifier())


# The curve.


def curve_of(loss, steps=100, noise=0.0):
    rates = 1e-6 * 1e6 ** (np.arange(steps) / (steps - 1))
    losses = [loss(r) for r in rates] + noise * np.random.default_rng(1).normal(size=steps)
    return RateCurve(tuple(rates.tolist()), tuple(losses.tolist()), steps)


@pytest.mark.parametrize("centre", [1e-4, 3e-3, 5e-2])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_suggestion_is_where_the_loss_falls_fastest(centre, noise):
    """A fall by 1 over a decade or so, in the form of a logistic curve in log(rate), whose steepest point is its centre."""
    curve = curve_of(lambda r: 1 + 1 / (1 + (r / centre) ** 1.5) + 10 * r**4, noise=noise)
    assert curve.suggested == pytest.approx(centre, rel=0.2 if not noise else 1.0)
    assert curve.suggested < curve.lowest_loss_at


def test_a_test_that_suggests_nothing_says_so():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    noise = RNG.normal(size=(256, 3))
    with pytest.warns(UserWarning, match=r"suggests no rate: in \d+ steps the loss fell by no more than its noise\. Scale the inputs"):
        curve = LearningRateFinder(X[:, :6] * 1e-6, noise, max_learning_rate=0.1).find(model)
    assert curve.suggested is None


def test_the_finder_is_no_callback_of_fit():
    with pytest.raises(AttributeError, match=r"no callback of `fit`\. Before it, call LearningRateFinder\(x, y\)\.find\(model\)\."):
        classifier().fit(X, Y, verbose=0, callbacks=[LearningRateFinder(X, Y)])


def test_a_curve_prints_in_a_line():
    curve = curve_of(lambda r: 1 / (1 + r / 0.01))
    assert repr(curve) == f"RateCurve(suggested={curve.suggested}, rates 1e-06 to 1 in 100 steps)"


def test_no_rate_is_suggested_where_the_loss_does_not_fall():
    for noise in (0.0, 0.1):
        assert curve_of(lambda r: 1.0, noise=noise).suggested is None
    assert curve_of(lambda r: 1 + r).suggested is None
    # Of 200 draws of noise, hardly one may be taken for a fall.
    false = 0
    for seed in range(200):
        losses = 1 + 0.1 * np.random.default_rng(seed).normal(size=100)
        false += RateCurve(curve_of(lambda r: 1.0).rates, tuple(losses.tolist()), 100).suggested is not None
    assert false <= 3


def test_the_smoothed_course_of_a_straight_line_is_the_line():
    line = RateCurve(tuple(np.geomspace(1e-3, 1, 50).tolist()), tuple(np.linspace(5, 1, 50).tolist()), 50)
    np.testing.assert_allclose(line.smoothed[4:-4], np.linspace(5, 1, 50)[4:-4], rtol=1e-12)


def test_the_picture_shows_the_batches_the_course_and_the_rate(tmp_path):
    curve = curve_of(lambda r: 1 + 1 / (1 + r / 1e-3), noise=0.01)
    axes = curve.plot(tmp_path / "new" / "curve.png").axes[0]
    assert (tmp_path / "new" / "curve.png").stat().st_size > 5000
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curve.losses)
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curve.smoothed)
    assert axes.lines[2].get_xdata()[0] == curve.suggested
    assert "the loss did not fall beyond its noise" in curve_of(lambda r: 1.0).plot().axes[0].get_title()


def test_a_curve_can_be_copied():
    curve = curve_of(lambda r: 1 / (1 + r))
    assert copy.deepcopy(curve) == curve
