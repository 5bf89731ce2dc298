import keras
import numpy as np
import pytest

from keras_ext import optimizers
from keras_ext.schedules.full_batch import FullBatch

DRAW = np.random.default_rng(3)
N = 23
X = DRAW.normal(size=(N, 3)).astype("float32")
Y = DRAW.normal(size=(N, 1)).astype("float32")
WEIGHTS = DRAW.uniform(0.2, 2.0, size=N).astype("float32")
START = [np.array([[0.3], [-0.6], [0.2]]), np.array([0.1])]
RATE = 0.1


def model_of(optimizer, loss="mse"):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss)
    model.set_weights(START)
    return model


def gradient(w, b, weights):
    """Of the mean of `weights` times squared errors over all samples, in float64."""
    x, y = X.astype("float64"), Y[:, 0].astype("float64")
    error = weights * (x @ w[:, 0] + b[0] - y)
    return [2 * (x.T @ error)[:, None] / N, np.array([2 * error.sum() / N])]


def sgd(weights, epochs):
    p = START
    for _ in range(epochs):
        p = [value - RATE * g for value, g in zip(p, gradient(*p, weights), strict=True)]
    return p


def adam(weights, epochs):
    """Kingma and Ba 2015, algorithm 1, with Keras's epsilon, outside the root of the uncorrected average."""
    p, m, v = START, [0.0, 0.0], [0.0, 0.0]
    for t in range(1, epochs + 1):
        g = gradient(*p, weights)
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
        v = [0.999 * a + 0.001 * b**2 for a, b in zip(v, g, strict=True)]
        rate = RATE * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = [value - rate * a / (np.sqrt(b) + 1e-7) for value, a, b in zip(p, m, v, strict=True)]
    return p


@pytest.mark.parametrize(
    ("make", "oracle", "weights", "micro_batch"),
    [
        *[(optimizers.SGD, sgd, weights, size) for weights in (None, WEIGHTS) for size in (1, 5, 12, 100)],
        *[(optimizers.Adam, adam, weights, 5) for weights in (None, WEIGHTS)],
        *[(keras.optimizers.SGD, sgd, weights, 5) for weights in (None, WEIGHTS)],
    ],
)
def test_an_epoch_is_one_step_along_the_gradient_of_all_samples(make, oracle, weights, micro_batch):
    data = FullBatch(X, Y, weights, micro_batch=micro_batch)
    model = model_of(make(RATE, gradient_accumulation_steps=data.accumulation_steps))
    history = model.fit(data, epochs=2, callbacks=[data.callback()], verbose=0)
    own = np.ones(N) if weights is None else weights.astype("float64")
    # A gradient, a sum of at most 23 terms near 1, is some roundings of 6e-8 off. Adam's 1 - 0.999 is 6e-5 off, half of that its root, and
    # a step 0.1 long.
    atol = 5e-6 if oracle is adam else 1e-6
    for got, wanted in zip(model.get_weights(), oracle(own, 2), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=atol)
    error = X.astype("float64") @ START[0] + START[1] - Y
    np.testing.assert_allclose(history.history["loss"][0], (own * error[:, 0] ** 2).mean(), rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    data = FullBatch(X, Y, micro_batch=5)
    optimizer = optimizers.SGD(RATE, gradient_accumulation_steps=data.accumulation_steps)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=16.0)
    model = model_of(optimizer)
    model.fit(data, callbacks=[data.callback()], verbose=0)
    rounding = {"mixed_float16": 2**-11, "mixed_bfloat16": 2**-8}[policy]
    for got, wanted in zip(model.get_weights(), sgd(np.ones(N), 1), strict=True):
        # Of each of 23 products near 2, input, weight, output and gradient are rounded; the step is a tenth of their mean.
        np.testing.assert_allclose(got, wanted, rtol=0, atol=RATE * 2 * 4 * rounding)


def test_a_warning_says_that_loss_scaling_left_out_a_part():
    keras.config.set_dtype_policy("mixed_float16")
    x = X.copy()
    x[7] = 30000.0
    data = FullBatch(x, Y, micro_batch=5)
    model = model_of(optimizers.SGD(1e-9, gradient_accumulation_steps=5))
    with pytest.warns(
        UserWarning, match="The optimizer left out parts whose gradients were not finite, so its steps no longer begin"
    ) as caught:
        model.fit(data, epochs=4, callbacks=[data.callback()], verbose=0)
    assert len([w for w in caught if "left out parts" in str(w.message)]) == 1


@pytest.mark.parametrize("n", range(1, 30))
def test_the_parts_are_equal_and_few_and_hold_each_sample_once(n):
    x = np.arange(n)[:, None]
    for micro_batch in range(1, 32):
        data = FullBatch(x, x, np.ones(n), micro_batch=micro_batch)
        parts = list(data)
        assert {len(p) for p, _, _ in parts} == {data.size}
        assert data.size <= micro_batch
        assert len(parts) == -(-n // micro_batch) == (data.accumulation_steps or 1)
        assert [row for p, _, w in parts for row in p[w > 0, 0]] == [*range(n)]
        # The mean weight is 1, of samples and of parts.
        np.testing.assert_allclose(sum(w.sum() for _, _, w in parts), len(parts) * data.size, rtol=1e-6)


def test_even_parts_need_no_weights():
    assert [len(part) for part in FullBatch(X[:20], Y[:20], micro_batch=5)] == [2] * 4
    assert [len(part) for part in FullBatch(X[:20], micro_batch=6)] == [1] * 4


def test_no_more_samples_are_in_memory_than_micro_batch():
    sizes = set()

    class Seeing(keras.layers.Layer):
        def call(self, x):
            sizes.add(x.shape[0])
            return x

    data = FullBatch(X, Y, micro_batch=5)
    model = keras.Sequential([keras.layers.Input((3,)), Seeing(), keras.layers.Dense(1)])
    # Not compiled: a compiled step on TensorFlow does not say how many samples it has.
    model.compile(optimizers.SGD(RATE, gradient_accumulation_steps=data.accumulation_steps), "mse", run_eagerly=True)
    sizes.clear()
    model.fit(data, callbacks=[data.callback()], verbose=0)
    assert max(sizes - {None}) == 5


def test_arrays_come_in_dicts_and_lists():
    data = FullBatch([X, {"t": Y}], {"p": Y}, {"p": WEIGHTS}, micro_batch=10)
    (x, t), y, weights = data[2]
    np.testing.assert_array_equal(x, X[[*range(16, 23), 16]])
    np.testing.assert_array_equal(t["t"], y["p"])
    np.testing.assert_allclose(weights["p"], [*WEIGHTS[16:] * np.float32(24 / 23), 0], rtol=1e-6)


@pytest.mark.parametrize("given", [None, 2])
def test_an_error_names_the_steps_that_the_optimizer_must_collect(given):
    data = FullBatch(X, Y, micro_batch=5)
    model = model_of(keras.optimizers.SGD(RATE, gradient_accumulation_steps=given))
    message = rf"`gradient_accumulation_steps` must be 5, so that an epoch is one step, got {given}. Pass `gradient_accumulation_steps=data"
    with pytest.raises(ValueError, match=message):
        model.fit(data, callbacks=[data.callback()], verbose=0)


def test_an_error_says_that_one_part_needs_no_collecting():
    data = FullBatch(X, Y, micro_batch=50)
    model = model_of(keras.optimizers.SGD(RATE, gradient_accumulation_steps=2))
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` must be None, so that an epoch is one step, got 2"):
        model.fit(data, callbacks=[data.callback()], verbose=0)


@pytest.mark.parametrize("reduction", ["sum", "mean_with_sample_weight"])
def test_an_error_says_that_the_loss_is_no_mean_over_the_samples(reduction):
    data = FullBatch(X, Y, micro_batch=5)
    model = model_of(keras.optimizers.SGD(RATE, gradient_accumulation_steps=5), keras.losses.MeanSquaredError(reduction=reduction))
    with pytest.raises(ValueError, match=f"`loss` must be a mean over the samples .*, got '{reduction}'"):
        model.fit(data, callbacks=[data.callback()], verbose=0)


def test_an_error_says_that_a_training_broke_off_within_a_step():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    data = FullBatch(X, Y, micro_batch=5)
    model = model_of(optimizers.SGD(RATE, gradient_accumulation_steps=5))
    model.fit(data, epochs=2, callbacks=[Stop()], verbose=0)
    with pytest.raises(
        ValueError, match=r"The optimizer holds the gradients of 2 of 5 parts, from a training that was interrupted\. Compile"
    ):
        model.fit(data, callbacks=[data.callback()], verbose=0)


def test_an_error_says_that_the_callback_is_anothers():
    data = FullBatch(X, Y, micro_batch=5)
    model = model_of(optimizers.SGD(RATE, gradient_accumulation_steps=5))
    with pytest.raises(
        ValueError, match="`steps_per_epoch` must be None, and `x` the FullBatch of 5 parts that the callback is from, got '3 st"
    ):
        model.fit(data, steps_per_epoch=3, callbacks=[data.callback()], verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"micro_batch": 0}, "`micro_batch` must be a whole number of at least 1, got 0."),
        (
            {"y": None},
            "`micro_batch` must be a number that divides 23 samples evenly, without `y`, got 5. "
            "What is added to the last part has the weight 0 in the loss that targets make.",
        ),
        ({"micro_batch": 2.0}, "`micro_batch` must be a whole number of at least 1, got 2.0."),
        ({"x": {}}, "`x` must be an array, or a list, tuple or dict of arrays, got 'dict'."),
        ({"sample_weight": WEIGHTS[:5]}, "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [5, 23]."),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        FullBatch(**{"x": X, "y": Y, "micro_batch": 5, **arguments})
    assert str(error.value) == message


def test_there_is_no_part_beyond_the_last():
    with pytest.raises(IndexError, match="There are 5 parts, there is none of index 5"):
        FullBatch(X, Y, micro_batch=5)[5]
