import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.layers import Dropout

MODES = {"eager": {"run_eagerly": True}, "graph": {"jit_compile": False}, "compiled": {"jit_compile": True}}
HALF_UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def out(layer, x, **arguments):
    return ops.convert_to_numpy(ops.cast(layer(x, **arguments), "float32"))


def ones(*shape):
    return np.ones(shape, "float32")


class InTraining(keras.Model):
    """`predict` as in training: a functional model would tell its layers that it predicts."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=True)


def dropped_by(layer, mode):
    """Predict a million ones with the layer in training."""
    model = InTraining(layer)
    model.compile(**MODES[mode])
    y = model.predict(ones(1000, 1000), batch_size=1000, verbose=0)
    assert y.dtype == layer.compute_dtype or keras.backend.backend() == "torch"
    return np.asarray(y, "float32")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_UNIT)
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_the_asked_rate_is_dropped_and_the_mean_kept(rate, dtype, mode):
    if mode == "compiled" and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    y = dropped_by(Dropout(rate, seed=1, dtype=dtype), mode)
    n = y.size
    assert abs((y == 0).sum() - n * rate) <= 5 * np.sqrt(n * rate * (1 - rate))
    # A kept number is one value, 1 / (1 - rate), rounded to the dtype.
    assert abs(y.mean() - 1) <= 5 * np.sqrt(rate / (1 - rate) / n) + 2 * HALF_UNIT[dtype]
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2 * HALF_UNIT[dtype])


@pytest.mark.needs_tensorflow
def test_keras_drops_at_another_rate_in_bfloat16():
    y = dropped_by(keras.layers.Dropout(0.001, seed=1, dtype="bfloat16"), "graph")
    assert (y == 0).mean() > 0.005


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_neighbours_are_dropped_independently(rate):
    zero = out(Dropout(rate, seed=3), ones(1000, 1000), training=True) == 0
    for pairs in (zero[:, 1:] & zero[:, :-1], zero[1:] & zero[:-1], zero[:, 4:] & zero[:, :-4]):
        # Overlapping pairs are correlated: their variance is at most three times the binomial one.
        assert abs(pairs.mean() - rate**2) <= 5 * np.sqrt(3 * rate**2 / pairs.size)


@pytest.mark.parametrize("noise_shape", [(None, 1, None), (40, 1, 50), [None, 1, 50]])
def test_noise_shape_shares_the_mask(noise_shape):
    zero = out(Dropout(0.5, noise_shape=noise_shape, seed=1), ones(40, 20, 50), training=True) == 0
    assert (zero == zero[:, :1]).all()
    assert abs(zero[:, 0].mean() - 0.5) <= 5 * 0.5 / np.sqrt(40 * 50)


def test_same_seed_gives_the_same_masks():
    first, second = Dropout(0.5, seed=7), Dropout(0.5, seed=7)
    for _ in range(2):
        np.testing.assert_array_equal(out(first, ones(100, 100), training=True), out(second, ones(100, 100), training=True))


@pytest.mark.parametrize("seeds", [(7, 8), (None, None)])
def test_other_seeds_and_unseeded_layers_give_other_masks(seeds):
    first, second = (out(Dropout(0.5, seed=seed), ones(100, 100), training=True) for seed in seeds)
    # Two independent masks differ in half of the places.
    assert abs((first != second).mean() - 0.5) < 5 * 0.5 / 100


def test_two_calls_give_other_masks():
    layer = Dropout(0.5, seed=7)
    first, second = (out(layer, ones(100, 100), training=True) for _ in range(2))
    assert abs((first != second).mean() - 0.5) < 5 * 0.5 / 100


def test_set_random_seed_makes_unseeded_layers_repeat():
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        results.append(out(Dropout(0.5), ones(100, 100), training=True))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True), (1.0, False)])
def test_input_passes_through_at_inference_and_at_rate_zero(rate, training):
    x = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")
    np.testing.assert_array_equal(out(Dropout(rate), x, training=training), x)
    if not training:
        np.testing.assert_array_equal(out(Dropout(rate), x), x)


def test_rate_one_gives_zeros():
    np.testing.assert_array_equal(out(Dropout(1.0), ones(20, 30), training=True), np.zeros((20, 30)))


def test_gradient_flows_exactly_where_the_input_is_kept(differentiate):
    rng = np.random.default_rng(0)
    x, weight = (rng.uniform(1, 2, (50, 40)).astype("float32") for _ in range(2))
    y, (gradient,) = differentiate(Dropout(0.3, seed=1), x, weight)
    assert 0 < (y == 0).sum() < y.size
    np.testing.assert_allclose(gradient, np.where(y != 0, weight / 0.7, 0), rtol=1e-6)


def test_a_mask_goes_on():
    inputs = keras.Input((5, 2))
    masked = keras.layers.Masking()(inputs)
    assert keras.src.backend.get_keras_mask(Dropout(0.5)(masked)) is not None


RATE = (
    "Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received: rate={}. "
    "It is the share of the inputs to drop: .5 drops every second one."
)
SHAPE = "Invalid value received for argument `noise_shape`. "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.5}, RATE.format("1.5")),
        ({"rate": -0.1}, RATE.format("-0.1")),
        ({"rate": float("nan")}, RATE.format("nan")),
        ({"rate": "0.5"}, RATE.format("'0.5'")),
        ({"rate": True}, RATE.format("True")),
        ({"rate": None}, RATE.format("None")),
        ({"noise_shape": "ab"}, SHAPE + "Expected a tuple or list of integers. Received: noise_shape=ab"),
        ({"noise_shape": 3}, SHAPE + "Expected an iterable of integers (e.g., a tuple or list). Received: noise_shape=3"),
        (
            {"noise_shape": (None, 1.5)},
            SHAPE + "Expected all elements to be integers or None. Received element at index 1: 1.5 (type: float)",
        ),
        (
            {"noise_shape": (True, 1)},
            SHAPE + "Expected all elements to be integers or None. Received element at index 0: True (type: bool)",
        ),
        (
            {"noise_shape": (0, 1)},
            SHAPE + "Expected all dimensions to be positive integers or None. Received negative or zero value at index 0: 0",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError) as caught:
        Dropout(**{"rate": 0.5, **arguments})
    assert str(caught.value) == message


def test_a_shorter_noise_shape_is_shared_over_the_first_axes():
    y = keras.ops.convert_to_numpy(Dropout(0.5, noise_shape=(None, 4), seed=1)(ones(5, 3, 4), training=True))
    assert (y == y[:1]).all()
    assert 0 < (y[0] == 0).sum() < 12


def test_a_longer_noise_shape_is_refused():
    with pytest.raises(ValueError) as caught:
        Dropout(0.5, noise_shape=(None, 1, 1, 1))(ones(2, 3, 4), training=True)
    assert (
        "`noise_shape` must have at most one entry for each of the input's 3 axes, got (None, 1, 1, 1). "
        "Use None where the mask takes the input's size, and 1 where it is shared."
    ) in str(caught.value)
