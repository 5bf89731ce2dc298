"""First weights: real layers under Keras's own initializers, each scale at its limit, and what is left alone."""

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.probe import Probe
from keras_ext.callbacks.monitor.rules.first_weights import poor_initializations
from keras_ext.initializers.scales import scales_of

L = keras.layers
RNG = np.random.default_rng(0)


def reported(model, shape=(8,), targets=1):
    model.compile("sgd", "mse")
    x = RNG.normal(size=(16, *shape)).astype("float32")
    snapshot = Probe(model, (x, np.zeros((16, targets), "float32"), None)).snapshot(0, 0)
    return {s.layer: (s.value, s.advice) for s in poor_initializations(snapshot, Limits())}


def network(**first):
    return keras.Sequential(
        [keras.Input((8,)), L.Dense(32, "relu", name="h1"), L.Dense(64, "relu", name="h2", **first), L.Dense(1, name="out")]
    )


def scaled(by, **more):
    return network(kernel_initializer=keras.initializers.VarianceScaling(2.0 * by**2, seed=1), **more)


@pytest.mark.parametrize("by", [30, 10.5, 1 / 18.5, 1 / 30])
def test_a_scale_far_off_is_reported_with_the_layer(by):
    ((layer, (value, advice)),) = reported(scaled(by)).items()
    assert layer == "h2"
    # He's scale is the largest, Glorot's for 32 inputs and 64 units the smallest of the usual ones.
    assert value == pytest.approx(by if by > 1 else 1 / by * (1 / 48) ** 0.5 / (2 / 32) ** 0.5, rel=0.05)
    assert ("times as large" if by > 1 else "times smaller") in advice


@pytest.mark.parametrize("by", [9.3, 1.0, 1 / 16])
def test_a_scale_within_the_limit_is_not(by):
    assert reported(scaled(by)) == {}


def test_zeros_constants_and_large_biases_are_reported():
    assert "starts at zero" in reported(network(kernel_initializer="zeros"))["h2"][1]
    assert "start alike" in reported(network(kernel_initializer=keras.initializers.Constant(0.1)))["h2"][1]
    assert "starts at up to 10" in reported(network(bias_initializer=keras.initializers.Constant(-10.0)))["h2"][1]
    assert reported(network(bias_initializer=keras.initializers.Constant(-5.0))) == {}


def test_the_last_layer_may_start_at_zero_and_with_any_bias():
    last = L.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(200.0))
    assert reported(keras.Sequential([keras.Input((8,)), L.Dense(16, "relu"), last])) == {}


def test_only_before_the_first_step():
    model = scaled(30)
    model.compile("sgd", "mse")
    probe = Probe(model, (RNG.normal(size=(16, 8)).astype("float32"), np.zeros((16, 1), "float32"), None))
    assert list(poor_initializations(probe.snapshot(1, 0), Limits())) == []


def stack(by, between, behind=()):
    start = keras.initializers.VarianceScaling(2.0 * by**2, seed=1)
    hidden = L.Dense(64, between, kernel_initializer=start, name="h")
    return keras.Sequential([keras.Input((8,)), hidden, *behind, L.Dense(1, name="out")])


def observed(model, step, epoch=0):
    model.compile("sgd", "mse")
    snapshot = Probe(model, (RNG.normal(size=(16, 8)).astype("float32"), np.zeros((16, 1), "float32"), None)).snapshot(step, epoch)
    return [s.layer for s in poor_initializations(snapshot, Limits())]


NORMALIZATIONS = [
    L.BatchNormalization,
    keras_ext.layers.BatchNormalization,
    L.LayerNormalization,
    lambda: L.GroupNormalization(4),
    L.RMSNormalization,
    L.UnitNormalization,
]


@pytest.mark.parametrize("by", [30, 1 / 60])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_normalization_takes_out_the_scale(by, kind):
    model = stack(by, "relu", [kind()])
    assert observed(model, 0) == observed(model, 9) == observed(model, 60, 2) == []
    assert observed(model, 10) == observed(model, 60, 1) == ["h"]


def test_normalization_of_what_no_longer_has_the_scale_takes_out_nothing():
    # tanh is at its ends whatever follows, and a layer between may be anything.
    assert observed(stack(30, "tanh", [L.BatchNormalization()]), 0) == ["h"]
    assert observed(stack(30, None, [L.Activation("tanh"), L.BatchNormalization()]), 0) == ["h"]
    assert observed(stack(30, "tanh", [L.BatchNormalization()]), 10) == []


def test_normalization_does_not_fix_zeros():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, kernel_initializer="zeros", name="h"), L.BatchNormalization(), L.Dense(1)])
    assert observed(model, 0) == ["h"]


# The smallest and the largest scales that are usual, and the one of Keras's recurrent layers.
@pytest.mark.parametrize("initializer", ["glorot_uniform", "he_normal", "orthogonal"])
def test_usual_initializers_are_at_home_in_every_kind_of_layer(initializer):
    inputs = keras.Input((8, 8, 64))
    x = L.DepthwiseConv2D(3, depthwise_initializer=initializer)(inputs)
    x = L.Conv2D(512, 3, strides=2, kernel_initializer=initializer, activation="relu")(x)
    x = L.Conv2DTranspose(4, 3, strides=2, kernel_initializer=initializer)(x)
    x = L.Reshape((-1, 4))(x)
    x = L.Dense(16, kernel_initializer=initializer)(x)
    x = x + L.MultiHeadAttention(4, 16, kernel_initializer=initializer)(x, x)
    x = L.Bidirectional(L.LSTM(16, kernel_initializer=initializer, recurrent_initializer=initializer))(x)
    x = L.BatchNormalization()(x)
    model = keras.Model(inputs, L.Dense(1, kernel_initializer=initializer)(x))
    assert reported(model, (8, 8, 64)) == {}


def test_an_embedding_sums_up_nothing():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), L.Embedding(1000, 8), L.Flatten(), L.Dense(1)])
    assert [scale.fan_in for scale in scales_of(model).values()] == [40]


@pytest.mark.parametrize(("by", "is_reported"), [(20.0, True), (10.0, False)])
def test_a_recurrent_kernel_should_keep_the_state_as_long_as_it_is(by, is_reported):
    # Orthogonal weights of three gates side by side have a scale of 1 over the root of 3.
    start = keras.initializers.Orthogonal(gain=by, seed=1)
    model = keras.Sequential([keras.Input((6, 8)), L.GRU(32, recurrent_initializer=start, name="memory"), L.Dense(1)])
    assert ("memory" in reported(model, (6, 8))) == is_reported


def test_parts_of_recurrent_and_attention_layers_are_reported_under_the_layers_name():
    wide = keras.initializers.RandomNormal(stddev=20.0, seed=1)
    inputs = keras.Input((6, 8))
    x = L.GRU(8, recurrent_initializer=wide, return_sequences=True, name="memory")(inputs)
    x = L.MultiHeadAttention(2, 4, kernel_initializer=wide, name="attention")(x, x)
    assert set(reported(keras.Model(inputs, L.Dense(1)(L.Flatten()(x))), (6, 8))) == {"memory", "attention"}


@pytest.mark.parametrize(("deviation", "is_found"), [(3.0, True), (0.3, False)])
def test_attention_that_chooses_one_place_before_the_first_step_is_reported(deviation, is_found):
    kernels = keras.initializers.RandomNormal(stddev=deviation, seed=1)
    inputs = keras.Input((6, 8))
    attended = L.MultiHeadAttention(2, 8, kernel_initializer=kernels, name="attention")(inputs, inputs)
    found = reported(keras.Model(inputs, L.Dense(1)(L.Flatten()(attended))), (6, 8))
    assert ("attention" in found and "rows choose one place alone" in found["attention"][1]) == is_found


def test_parts_of_one_name_are_told_apart_by_their_path():
    class Block(L.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = L.Dense(8, "relu", kernel_initializer="zeros", name="inner")

        def call(self, x):
            return self.inner(x)

    blocks = [Block(name="first"), Block(name="second")]
    found = reported(keras.Sequential([keras.Input((8,)), *blocks, L.Dense(1, name="out")]))
    assert [name.rpartition("/")[2] for name in found] == ["inner", "inner"]
    assert ["first" in name for name in found] == [True, False]


def test_a_kernel_of_few_numbers_has_no_scale_and_one_number_is_not_alike():
    def dense(units, first):
        hidden = L.Dense(units, kernel_initializer=keras.initializers.Constant(first), name="hidden")
        return keras.Sequential([keras.Input((1,)), hidden, L.Dense(1)])

    assert reported(dense(1, 0.01), (1,)) == {}
    assert "start alike" in reported(dense(4, 0.5), (1,))["hidden"][1]
    assert "starts at zero" in reported(dense(1, 0.0), (1,))["hidden"][1]
