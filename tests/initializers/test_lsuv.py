"""Layer-sequential unit variance."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ext.initializers import Orthogonal, initialize


def batch(*shape):
    return (3 * np.random.default_rng(0).normal(size=(64, *shape)) + 1).astype("float32")


def sums(layer, x):
    """The layer's sums over its inputs, before its activation, by its own weights."""
    inner = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
    config = {**inner.get_config(), "activation": "linear"}
    copy = type(inner).from_config(config)
    x = ops.reshape(x, (-1, *x.shape[2:])) if inner is not layer else x
    copy.build(x.shape)
    copy.set_weights(inner.get_weights())
    return ops.convert_to_numpy(copy(x)).astype("float64")


def functional():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="conv")(inputs)
    x = layers.SeparableConv2D(8, 3, activation="tanh", name="separable")(x)
    x = layers.BatchNormalization()(x)
    x = keras.Sequential([keras.Input((4, 4, 8)), layers.DepthwiseConv2D(2, name="depthwise", activation="sigmoid")])(x)
    x = layers.Reshape((9, 8))(x)
    x = layers.TimeDistributed(layers.Dense(12, activation="relu"), name="distributed")(x)
    x = layers.EinsumDense("abc,cd->abd", (9, 10), bias_axes="d", activation="relu", name="einsum")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="dense")(layers.Flatten()(x)))


def every(model):
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            yield from every(layer) if isinstance(layer, keras.Model) else [layer]


def test_each_layers_sums_have_variance_one():
    model, x = functional(), batch(8, 8, 3)
    report = initialize(model, "lsuv", seed=1, data=x)
    assert [r.note for r in report.weights] == [""] * 7
    checked = []
    y = ops.convert_to_tensor(x)
    # Layer by layer, as the model is one chain.
    for layer in every(model):
        if getattr(layer, "layer", layer).weights and not isinstance(layer, layers.BatchNormalization):
            assert abs(sums(layer, y).var() - 1) <= 0.1, layer.name
            checked.append(layer.name)
        y = layer(y)
    assert checked == ["conv", "separable", "depthwise", "distributed", "einsum", "dense"]
    for layer in every(model):
        assert "call" not in vars(layer)
        assert getattr(getattr(layer, "layer", layer), "activation", None) is not keras.activations.linear
    # The model does what its layers do one after the other.
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), ops.convert_to_numpy(y), atol=1e-5)


def test_the_kernels_stay_multiples_of_orthogonal_ones():
    model, x = functional(), batch(8, 8, 3)
    initialize(model, "lsuv", seed=1, data=x)
    scaled = [ops.convert_to_numpy(w) for w in model.weights if "kernel" in w.name]
    initialize(model, Orthogonal(), seed=1)
    for ours, plain in zip(scaled, (ops.convert_to_numpy(w) for w in model.weights if "kernel" in w.name), strict=True):
        ratio = ours / plain
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-4)


class Branching(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [layers.Dense(16, "relu"), layers.Dense(16, "relu")]
        self.attention = layers.MultiHeadAttention(2, 8)
        self.recurrent = layers.LSTM(4)

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return self.recurrent(self.attention(x, x))


def test_an_unbuilt_subclassed_model_with_attention_and_a_recurrent_layer():
    model, x = Branching(), batch(5, 6)
    report = initialize(model, "lsuv", seed=1, data=x)
    y = ops.convert_to_tensor(x)
    for part in model.parts:
        assert abs(sums(part, y).var() - 1) <= 0.1
        y = part(y)
    notes = {r.layer.rsplit("/", 1)[-1] + "/" + r.weight: r.note for r in report.weights}
    assert notes["query/kernel"] == notes["attention_output/kernel"] == ""
    inside = [note for name, note in notes.items() if "lstm_cell" in name]
    assert inside == ["not scaled: inside a recurrent layer"] * 2


def test_a_layer_of_two_calls_and_a_wrapped_model():
    shared = layers.Dense(8)
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(12, "relu"), layers.Dense(4)])
    inputs = keras.Input((5, 8))
    x = shared(layers.Dropout(0.5)(shared(inputs)))
    model = keras.Model(inputs, layers.BatchNormalization()(layers.TimeDistributed(inner)(x)))
    untouched = [w for w in model.variables if "kernel" not in w.path]
    before = [ops.convert_to_numpy(ops.copy(ops.convert_to_tensor(w))) for w in untouched]
    x = batch(5, 8)
    report = initialize(model, "lsuv", seed=1, data=x)
    assert [r.note for r in report.weights] == [""] * 3
    # The first call counts.
    once = sums(shared, x)
    assert abs(once.var() - 1) <= 0.1
    y = ops.reshape(shared(shared(x)), (-1, 8))
    assert abs(sums(inner.layers[0], y).var() - 1) <= 0.1
    assert abs(sums(inner.layers[1], inner.layers[0](y)).var() - 1) <= 0.1
    # Biases, moving averages and the dropout's generator are as they were: the pass is no training.
    for w, old in zip(untouched, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(w), old)


def test_layers_see_in_the_pass_what_they_will_see_later():
    seen = []

    class Records(layers.Layer):
        def call(self, x):
            seen.append(x)
            return x

    inputs = keras.Input((5, 8))
    x = layers.TimeDistributed(layers.Dense(6, "relu"))(layers.Dense(8, "tanh")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(Records()(x)))
    x = batch(5, 8)
    seen.clear()
    initialize(model, "lsuv", seed=1, data=x)
    model(x)
    during, after = map(ops.convert_to_numpy, seen)
    np.testing.assert_allclose(during, after, atol=1e-5)


def test_data_without_variance_leaves_the_orthogonal_kernels():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu"), layers.Dense(3)])
    report = initialize(model, "lsuv", seed=1, data=np.zeros((8, 6), "float32"))
    assert [r.note for r in report.weights] == ["not scaled: its output has variance 0"] * 2
    assert [r.std_given for r in report.weights] == pytest.approx([r.std_wanted for r in report.weights], rel=0.3)


def test_a_bias_that_outweighs_the_kernel_is_named():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, bias_initializer=keras.initializers.RandomNormal(stddev=9.0))])
    (row,) = initialize(model, "lsuv", seed=1, data=batch(6)).weights
    assert row.note.startswith("its output has variance")
    assert row.note.endswith("after 10 tries: its bias or masks weigh more than it")


def test_layers_that_the_pass_does_not_reach_are_named():
    class Skips(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.unused = layers.Dense(4), layers.Dense(4)
            self.unused.build((None, 6))

        def call(self, x):
            return self.used(x)

    report = initialize(Skips(), "lsuv", seed=1, data=batch(6))
    assert sorted(r.note for r in report.weights) == ["", "not scaled: the forward pass did not reach it"]


class Fails(layers.Layer):
    broken = False

    def call(self, x):
        if self.broken:
            raise RuntimeError("no")
        return x


def test_a_pass_that_fails_costs_nothing():
    fails = Fails()
    model = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu"), fails, layers.Dense(3)])
    before = [ops.convert_to_numpy(ops.copy(ops.convert_to_tensor(w))) for w in model.weights]
    fails.broken = True
    with pytest.raises(RuntimeError, match="no"):
        initialize(model, "lsuv", seed=1, data=batch(6))
    for w, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(w), old)
    assert model.layers[0].activation is keras.activations.relu
    assert all("call" not in vars(layer) for layer in model.layers)


def test_inputs_in_a_dict():
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Add()([layers.Dense(3, name="of_a")(a), layers.Dense(3, name="of_b")(b)]))
    x = {"a": batch(4), "b": 10 * batch(5)}
    initialize(model, "lsuv", seed=1, data=x)
    for name in "ab":
        assert abs(sums(model.get_layer(f"of_{name}"), x[name]).var() - 1) <= 0.1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((32,)), layers.Dense(64, "relu"), layers.Dense(64)])
    x = batch(32)
    initialize(model, "lsuv", seed=1, data=x)
    assert abs(sums(model.layers[0], x).var() - 1) <= 0.1
