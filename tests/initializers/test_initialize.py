"""First weights for whole models."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ext.initializers import GlorotNormal, HeNormal, LecunNormal, Orthogonal, initialize


def numbers(variable):
    return ops.convert_to_numpy(ops.cast(variable, "float32")).astype("float64")


def one_layer(layer, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


# Layer and the shape of one sample.
SIGNALS = {
    "dense": (lambda k: layers.Dense(300, kernel_initializer=k), (200,)),
    "conv 1d": (lambda k: layers.Conv1D(64, 5, kernel_initializer=k), (40, 32)),
    "conv 2d": (lambda k: layers.Conv2D(64, 3, kernel_initializer=k), (12, 12, 32)),
    "conv 3d": (lambda k: layers.Conv3D(32, 3, kernel_initializer=k), (6, 6, 6, 16)),
    "grouped": (lambda k: layers.Conv2D(64, 3, groups=8, kernel_initializer=k), (12, 12, 64)),
    "depthwise": (lambda k: layers.DepthwiseConv2D(3, depthwise_initializer=k), (12, 12, 64)),
    "depthwise, 4 each": (lambda k: layers.DepthwiseConv2D(3, depth_multiplier=4, depthwise_initializer=k), (12, 12, 64)),
    "depthwise 1d": (lambda k: layers.DepthwiseConv1D(5, depth_multiplier=2, depthwise_initializer=k), (40, 64)),
    "separable": (
        lambda k: layers.SeparableConv2D(64, 3, depth_multiplier=2, depthwise_initializer=k, pointwise_initializer=k),
        (12, 12, 64),
    ),
    "transposed to 16": (lambda k: layers.Conv2DTranspose(16, 4, strides=2, kernel_initializer=k), (12, 12, 64)),
    "transposed to 16, no stride": (lambda k: layers.Conv2DTranspose(16, 4, kernel_initializer=k), (12, 12, 64)),
    "transposed to 256": (lambda k: layers.Conv2DTranspose(256, 4, strides=2, kernel_initializer=k), (8, 8, 64)),
    "transposed 1d, window no multiple": (lambda k: layers.Conv1DTranspose(64, 5, strides=3, kernel_initializer=k), (40, 64)),
    "einsum": (lambda k: layers.EinsumDense("abc,cde->abde", (9, 8, 16), kernel_initializer=k), (9, 64)),
    "einsum, a kernel each": (lambda k: layers.EinsumDense("abc,bcd->abd", (9, 64), kernel_initializer=k), (9, 64)),
    "embedding": (lambda k: layers.Embedding(500, 64, embeddings_initializer=k), (20,)),
}
# The variance that Keras's reading gives in the same layers, from its fan-in: the product of all axes but the last. A transposed kernel is
# (*window, outputs, inputs), of which 1 / strides of the window meet in one output.
KERAS = {
    "depthwise": 9 / (9 * 64),
    "depthwise, 4 each": 9 / (9 * 64),
    "depthwise 1d": 5 / (5 * 64),
    "separable": 9 / (9 * 64),
    "transposed to 16, no stride": 16 * 64 / (16 * 16),
    "transposed to 256": 16 / 4 * 64 / (16 * 256),
    "transposed 1d, window no multiple": 5 / 3 * 64 / (5 * 64),
    "embedding": 1 / 500,
}


def output_variance(name, model):
    rng = np.random.default_rng(0)
    shape = model.input_shape[1:]
    x = rng.integers(0, 500, (32, *shape)) if name == "embedding" else rng.normal(size=(32, *shape)).astype("float32")
    y = numbers(model(x))
    if "transposed" in name:
        # The ends of a transposed convolution see a part of the window.
        y = y[:, 4:-4] if y.ndim == 3 else y[:, 4:-4, 4:-4]
    return y.var()


@pytest.mark.parametrize("name", SIGNALS)
def test_every_kind_of_layer_keeps_the_variance(name):
    build, shape = SIGNALS[name]
    model = one_layer(build("zeros"), shape)
    initialize(model, LecunNormal(), seed=1)
    assert 0.8 < output_variance(name, model) < 1.25


@pytest.mark.parametrize("name", KERAS)
def test_keras_reads_these_shapes_otherwise(name):
    build, shape = SIGNALS[name]
    model = one_layer(build(keras.initializers.LecunNormal(seed=1)), shape)
    assert not 0.5 < KERAS[name] < 2
    assert 0.8 * KERAS[name] < output_variance(name, model) < 1.25 * KERAS[name]


# The law of each: scale and mode.
@pytest.mark.parametrize(
    ("given", "scale", "mode"),
    [
        ("lecun_normal", 1, "fan_in"),
        ("he_uniform", 2, "fan_in"),
        ("glorot_normal", 1, "fan_avg"),
        (keras.initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal"), 3, "fan_out"),
        (keras.initializers.Orthogonal(gain=2.0), 4, "fan_in"),
        (LecunNormal, 1, "fan_in"),
        (LecunNormal(gain="relu"), 2, "fan_in"),
    ],
)
@pytest.mark.parametrize("name", ["depthwise", "strided depthwise", "strided", "transposed", "recurrent"])
def test_initializers_by_name_and_kerass_own_read_the_layer_too(name, given, scale, mode):
    build, shape, fan_in, fan_out = {
        "depthwise": (layers.DepthwiseConv2D(8), (8, 8, 500), 64, 64),
        "strided depthwise": (layers.DepthwiseConv2D(8, strides=2), (8, 8, 500), 64, 16),
        "strided": (layers.Conv2D(64, 2, strides=2), (4, 4, 64), 256, 64),
        "transposed": (layers.Conv2DTranspose(64, 2, strides=2), (4, 4, 64), 64, 256),
        "recurrent": (layers.GRU(64), (4, 64), 64, 64),
    }[name]
    model = one_layer(build, shape)
    initialize(model, given, seed=1)
    drawn = numbers(model.weights[0])
    wanted = scale / {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    # Five standard errors of a sample's variance.
    assert drawn.var() == pytest.approx(wanted, rel=5 * (2 / drawn.size) ** 0.5)


def gates(kernel, count):
    return np.split(numbers(kernel), count, axis=1)


def assert_orthonormal(matrix):
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    # Householder's steps in float32, one for each of at most 32 columns, each some units in the last place of 6e-8.
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize(("make", "count"), [(layers.SimpleRNN, 1), (layers.GRU, 3), (layers.LSTM, 4)])
def test_each_gate_is_orthogonal(make, count):
    model = one_layer(layers.Bidirectional(make(8)), (5, 12))
    bias = [numbers(w) for w in model.weights if w.name == "bias"]
    report = initialize(model, Orthogonal(), seed=1)
    kernels = [w for w in model.weights if w.name != "bias"]
    assert len(kernels) == len(report.weights) == 4
    for kernel in kernels:
        for gate in gates(kernel, count):
            assert_orthonormal(gate)
    # An LSTM's forget bias among them.
    for before, w in zip(bias, (w for w in model.weights if w.name == "bias"), strict=True):
        np.testing.assert_array_equal(numbers(w), before)


@pytest.mark.parametrize("make", [layers.MultiHeadAttention, lambda heads, size: layers.GroupQueryAttention(size, heads, 2)])
def test_each_head_is_orthogonal(make):
    # Fewer features than heads have together: a matrix that is orthogonal as a whole would not do.
    x = keras.Input((5, 10))
    model = keras.Model(x, make(4, 6)(x, x))
    initialize(model, Orthogonal(), seed=1)
    kernels = {w.path.split("/")[-2]: numbers(w) for w in model.weights if w.name == "kernel"}
    assert set(kernels) == {"query", "key", "value", "attention_output"}
    for name, kernel in kernels.items():
        for head in range(kernel.shape[0 if name == "attention_output" else 1]):
            assert_orthonormal(kernel[head] if name == "attention_output" else kernel[:, head])


@pytest.mark.parametrize("make", [layers.MultiHeadAttention, lambda heads, size: layers.GroupQueryAttention(size, heads, 2)])
@pytest.mark.parametrize("features", [24, 30])
def test_heads_that_fit_are_orthogonal_to_each_other(make, features):
    x = keras.Input((5, features))
    model = keras.Model(x, make(4, 6)(x, x))
    initialize(model, Orthogonal(), seed=1)
    kernels = {w.path.split("/")[-2]: numbers(w) for w in model.weights if w.name == "kernel"}
    for name, kernel in kernels.items():
        joint = kernel.reshape(-1, features).T if name == "attention_output" else kernel.reshape(features, -1)
        assert joint.shape[1] in (12, 24)
        np.testing.assert_allclose(np.linalg.svd(joint, compute_uv=False), 1.0, atol=1e-5)


def test_each_gate_of_a_convolutional_lstm_is_orthogonal():
    model = one_layer(layers.ConvLSTM2D(8, (1, 2)), (2, 6, 6, 3))
    report = initialize(model, Orthogonal(), seed=1)
    assert [(r.kind, r.fan_in, r.fan_out) for r in report.weights] == [("conv", 6, 16), ("conv", 16, 16)]
    for kernel in (w for w in model.weights if "kernel" in w.name):
        for gate in np.split(numbers(kernel), 4, axis=-1):
            assert_orthonormal(gate.reshape(-1, 8))


def test_delta_reaches_the_convolutions_of_a_model():
    model = keras.Sequential([keras.Input((9, 9, 16)), layers.Conv2D(32, 3, groups=4), layers.Flatten(), layers.Dense(8)])
    initialize(model, Orthogonal(delta=True), seed=1)
    kernel, dense = (numbers(w) for w in model.weights if w.name == "kernel")
    assert_orthonormal(dense)
    for group in np.split(kernel[1, 1], 4, axis=-1):
        assert_orthonormal(group)
    kernel[1, 1] = 0
    assert not kernel.any()


def test_groups_of_a_convolution_and_filters_of_a_depthwise_one_are_orthogonal_each():
    model = keras.Sequential([keras.Input((9, 9, 16)), layers.Conv2D(64, 3, groups=4), layers.DepthwiseConv2D(3, depth_multiplier=3)])
    initialize(model, Orthogonal(), seed=1)
    grouped, depthwise = (numbers(w) for w in model.weights if w.name == "kernel")
    for group in np.split(grouped, 4, axis=-1):
        assert_orthonormal(group.reshape(-1, 16))
    for channel in range(64):
        assert_orthonormal(depthwise[:, :, channel].reshape(9, 3))


class Own(keras.layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 7), name="matrix")

    def call(self, x):
        return ops.matmul(x, self.matrix)


def everything():
    """A model of many kinds of layers, nested, with two inputs."""
    block = keras.Sequential([keras.Input((10, 16)), layers.Conv1D(16, 3, padding="same", activation="relu")], name="block")
    inner_in = keras.Input((10, 16))
    inner = keras.Model(inner_in, layers.LayerNormalization()(layers.Dense(16)(inner_in)), name="inner")
    tokens, series = keras.Input((10,), dtype="int32"), keras.Input((10, 16))
    x = layers.Embedding(30, 16)(tokens)
    x = layers.Add()([block(x), inner(series)])
    x = layers.BatchNormalization()(x)
    x = layers.MultiHeadAttention(2, 8)(x, x)
    x = layers.TimeDistributed(layers.Dense(16, activation="tanh"))(x)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    images = layers.Reshape((10, 12, 1))(x)
    y = layers.ConvLSTM1D(4, 3)(layers.Reshape((2, 5, 12))(x))
    z = layers.SeparableConv2D(4, 3)(images)
    outputs = layers.Concatenate()([layers.GlobalAveragePooling2D()(z), layers.GlobalAveragePooling1D()(y), layers.GRU(5)(x)])
    return keras.Model([tokens, series], layers.Dense(3)(Own(name="own")(outputs)))


def test_a_model_of_many_kinds_nested():
    model = everything()
    before = [numbers(w) for w in model.weights]
    report = initialize(model, HeNormal(), seed=3)
    kernels = {r.layer + "/" + r.weight: r for r in report.weights}
    own = [r for r in report.weights if r.layer.endswith("own")]
    assert [r.note for r in own] == ["left: a weight of a layer that is not known"]
    assert len(kernels) == len(report.weights)
    for w, old in zip(model.weights, before, strict=True):
        row = kernels.get(w.path)
        if row is None or row.kind is None:
            # Biases, normalisation layers, and what is not known stay bit for bit.
            np.testing.assert_array_equal(numbers(w), old, err_msg=w.path)
            assert (
                w.name in ("bias", "gamma", "beta", "moving_mean", "moving_variance", "matrix", "seed_generator_state") or "seed" in w.path
            )
        else:
            assert (numbers(w) != old).mean() > 0.99, w.path
            # Five standard errors of a sample's standard deviation.
            assert abs(numbers(w).std() / row.std_wanted - 1) < 5 / np.sqrt(2 * old.size), w.path
            assert row.std_given == pytest.approx(numbers(w).std(), rel=1e-5)
    kinds = {path: row.kind for path, row in kernels.items()}
    for ending, kind in {
        "embeddings": "embedding",
        "block/conv1d/kernel": "conv",
        "query/kernel": "einsum",
        "/lstm_cell/recurrent_kernel": "recurrent",
        "conv_lstm_cell/kernel": "conv",
        "depthwise_kernel": "depthwise",
        "pointwise_kernel": "conv",
    }.items():
        assert {k for path, k in kinds.items() if re.search(rf"{ending}$", re.sub(r"_\d+(?=/)", "", path))} == {kind}, ending


def test_the_same_seed_gives_the_same_weights_and_no_two_are_alike():
    def drawn(**arguments):
        model = keras.Sequential([keras.Input((20,)), layers.Dense(20), layers.Dense(20), layers.Dense(20)])
        initialize(model, "auto", **arguments)
        return [numbers(w) for w in model.weights if w.name == "kernel"]

    first, again, other = drawn(seed=1), drawn(seed=1), drawn(seed=2)
    np.testing.assert_array_equal(first, again)
    for a in range(3):
        assert (first[a] != other[a]).mean() > 0.99
        assert (first[a] != first[a - 1]).mean() > 0.99
    keras.utils.set_random_seed(5)
    unseeded = drawn()
    assert (unseeded[0] != drawn()[0]).mean() > 0.99
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(drawn(), unseeded)


@pytest.mark.parametrize("given", [HeNormal(seed=7), keras.initializers.HeNormal(seed=7)])
def test_the_initializers_own_seed_counts(given):
    model = keras.Sequential([keras.Input((20,)), layers.Dense(20), layers.Dense(20)])

    def drawn(*arguments):
        initialize(model, *arguments)
        return [numbers(w) for w in model.weights if w.name == "kernel"]

    first = drawn(given)
    np.testing.assert_array_equal(drawn(HeNormal(), 7), first)
    np.testing.assert_array_equal(drawn("he_normal", 7), first)
    assert (first[0] != first[1]).mean() > 0.99


def test_a_generator_as_the_seed_goes_on():
    model = keras.Sequential([keras.Input((20,)), layers.Dense(20), layers.Dense(20)])
    given = HeNormal(seed=keras.random.SeedGenerator(3))
    initialize(model, given)
    first = [numbers(w) for w in model.weights if w.name == "kernel"]
    assert (first[0] != first[1]).mean() > 0.99
    initialize(model, given)
    assert (numbers(model.weights[0]) != first[0]).mean() > 0.99


def residual(x):
    """A functional model whose sum is its output."""
    inputs = keras.Input((50,))
    return keras.Model(inputs, layers.Add()([inputs, layers.Dense(50, name="it")(inputs)]))(x)


# The layers after a Dense layer, and what "auto" takes for it: class and standard deviation times the root of the fan-in of 50.
AFTER = {
    "its own relu": (lambda x: layers.Dense(50, "relu", name="it")(x), "HeNormal", 2**0.5),
    "its own selu": (lambda x: layers.Dense(50, "selu", name="it")(x), "LecunNormal", 1.0),
    "its own tanh": (lambda x: layers.Dense(50, "tanh", name="it")(x), "GlorotNormal", 1.0),
    "its own gelu": (lambda x: layers.Dense(50, "gelu", name="it")(x), "HeNormal", 1.5335),
    "its own silu": (lambda x: layers.Dense(50, "silu", name="it")(x), "HeNormal", 1.6765),
    "none": (lambda x: layers.Dense(50, name="it")(x), "GlorotNormal", 1.0),
    "a later relu": (
        lambda x: layers.ReLU()(layers.Dropout(0.1)(layers.BatchNormalization()(layers.Dense(50, name="it")(x)))),
        "HeNormal",
        2**0.5,
    ),
    "a later leaky relu": (lambda x: layers.LeakyReLU(0.5)(layers.Dense(50, name="it")(x)), "HeNormal", (2 / 1.25) ** 0.5),
    "a relu layer with a slope": (lambda x: layers.ReLU(negative_slope=0.5)(layers.Dense(50, name="it")(x)), "HeNormal", (2 / 1.25) ** 0.5),
    "a later Activation": (lambda x: layers.Activation("selu")(layers.Dense(50, name="it")(x)), "LecunNormal", 1.0),
    "an operation": (lambda x: ops.relu(layers.Dense(50, name="it")(x)), "HeNormal", 2**0.5),
    "a leaky relu of its own": (lambda x: layers.Dense(50, "leaky_relu", name="it")(x), "HeNormal", (2 / 1.04) ** 0.5),
    "a layer for its activation": (
        lambda x: layers.Dense(50, activation=layers.LeakyReLU(0.5), name="it")(x),
        "HeNormal",
        (2 / 1.25) ** 0.5,
    ),
    "an Activation of a layer": (
        lambda x: layers.Activation(layers.LeakyReLU(0.5))(layers.Dense(50, name="it")(x)),
        "HeNormal",
        (2 / 1.25) ** 0.5,
    ),
    "an operation with a slope": (
        lambda x: ops.leaky_relu(layers.Dense(50, name="it")(x), negative_slope=0.5),
        "HeNormal",
        (2 / 1.25) ** 0.5,
    ),
    "a later elu": (lambda x: layers.ELU()(layers.LayerNormalization()(layers.Dense(50, name="it")(x))), "HeNormal", 2**0.5),
    "a later softmax": (lambda x: layers.Softmax()(layers.Dense(50, name="it")(x)), "GlorotNormal", 1.0),
    "pooling": (
        lambda x: layers.ReLU()(layers.MaxPooling1D(2)(layers.Reshape((50, 1))(layers.Dense(50, name="it")(x)))),
        "HeNormal",
        2**0.5,
    ),
    "a sum": (lambda x: layers.ReLU()(layers.Add()([x, layers.Dense(50, name="it")(x)])), "HeNormal", 2**0.5),
    "another layer before the relu": (lambda x: layers.Dense(50, "relu")(layers.Dense(50, name="it")(x)), "GlorotNormal", 1.0),
    "a nested model that begins with relu": (
        lambda x: keras.Sequential([keras.Input((50,)), layers.ReLU()])(layers.Dense(50, name="it")(x)),
        "HeNormal",
        2**0.5,
    ),
    "a relu after the nested model that it ends": (
        lambda x: layers.ReLU()(keras.Sequential([keras.Input((50,)), layers.Dense(50, name="it")])(x)),
        "HeNormal",
        2**0.5,
    ),
    "nested twice": (
        lambda x: keras.Sequential([keras.Input((50,)), layers.Dropout(0.1), keras.Sequential([keras.Input((50,)), layers.ReLU()])])(
            residual(x)
        ),
        "HeNormal",
        2**0.5,
    ),
    "wrapped": (lambda x: layers.ReLU()(layers.TimeDistributed(layers.Dense(50, name="it"))(x)), "HeNormal", 2**0.5),
}


@pytest.mark.parametrize("name", AFTER)
def test_auto_chooses_by_the_activation_that_follows(name):
    build, chosen, gain = AFTER[name]
    x = keras.Input((4, 50) if name == "wrapped" else (50,))
    model = keras.Model(x, build(x))
    report = initialize(model, "auto", seed=1)
    (row,) = (r for r in report.weights if r.layer.split("/")[-1] == "it")
    assert row.initializer == chosen
    assert row.std_wanted * 50**0.5 == pytest.approx(gain, rel=1e-4)


def test_auto_takes_orthogonal_recurrent_kernels_and_one_gain_for_a_separable_layer():
    model = keras.Sequential(
        [keras.Input((9, 9, 8)), layers.SeparableConv2D(16, 3, activation="relu"), layers.Reshape((7, 7 * 16)), layers.LSTM(4)]
    )
    rows = {r.weight: r for r in initialize(model, "auto", seed=1).weights}
    assert rows["recurrent_kernel"].initializer == "Orthogonal"
    assert rows["kernel"].initializer == "GlorotNormal"
    assert rows["depthwise_kernel"].std_wanted == pytest.approx(1 / 3)
    assert rows["pointwise_kernel"].std_wanted == pytest.approx((2 / 8) ** 0.5)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(16, "relu")
        self.rest = [layers.Dense(16), layers.Dense(2)]
        self.never_called = layers.Dense(3)

    def call(self, x):
        for layer in (self.first, *self.rest):
            x = layer(x)
        return x


def test_a_subclassed_model_and_a_single_layer():
    model = Subclassed()
    model(np.zeros((1, 16), "float32"))
    report = initialize(model, "auto", seed=1)
    assert [r.initializer for r in report.weights] == ["HeNormal", "GlorotNormal", "GlorotNormal"]
    layer = layers.Dense(30)
    layer.build((None, 20))
    (row,) = initialize(layer, HeNormal(), seed=1).weights
    assert (row.fan_in, row.fan_out, row.shape) == (20, 30, (20, 30))


def test_frozen_layers_and_shared_ones():
    shared = layers.Dense(8)
    frozen = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="old")], name="base")
    frozen.trainable = False
    x = keras.Input((8,))
    model = keras.Model(x, shared(frozen(shared(x))))
    old = numbers(frozen.weights[0])
    report = initialize(model, HeNormal(), seed=1)
    assert [r.note for r in report.weights] == ["", "left: frozen"]
    np.testing.assert_array_equal(numbers(frozen.weights[0]), old)
    assert report.weights[1].std_given == pytest.approx(old.std(), rel=1e-5)


def test_quantized_kernels_and_those_under_lora_stay():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="lora"), layers.Dense(8, name="quantized"), layers.Dense(4)])
    model.get_layer("lora").enable_lora(2)
    model.get_layer("quantized").quantize("int8")
    before = [numbers(w) for w in model.weights]
    report = initialize(model, HeNormal(), seed=1)
    assert [(r.note, r.shape) for r in report.weights if r.weight == "kernel"].count(("left: quantized, or with LoRA", (8, 8))) == 2
    for w, old in zip(model.weights, before, strict=True):
        assert np.array_equal(numbers(w), old) is not (tuple(w.shape) == (8, 4))


def test_the_report_names_the_layer_under_lora():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="under")], name="whole")
    model.layers[0].enable_lora(2)
    (row,) = (r for r in initialize(model, HeNormal(), seed=1).weights if r.note == "left: quantized, or with LoRA")
    assert row.layer == "whole/under"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float16"])
@pytest.mark.parametrize("initializer", [LecunNormal(), Orthogonal(), "auto"])
def test_half_precision_models(policy, initializer):
    keras.config.set_dtype_policy(policy)
    keras_can = {"recurrent_initializer": "glorot_uniform"}  # its Orthogonal has no half precision
    model = keras.Sequential([keras.Input((12, 32)), layers.Conv1D(32, 3), layers.LSTM(32, **keras_can), layers.Dense(32)])
    for row in initialize(model, initializer, seed=1).weights:
        # bfloat16 has 8 bits; the rest is the sample's own.
        assert abs(row.std_given / row.std_wanted - 1) < 2**-8 + 5 / np.sqrt(2 * np.prod(row.shape))


def test_initializers_that_know_no_fans_give_what_they_give():
    model = keras.Sequential([keras.Input((50,)), layers.Dense(60), layers.Dense(50)])
    report = initialize(model, keras.initializers.RandomNormal(stddev=0.3), seed=1)
    assert [r.std_wanted for r in report.weights] == [None, None]
    kernels = [numbers(w) for w in model.weights if w.name == "kernel"]
    assert [k.std() for k in kernels] == pytest.approx([0.3, 0.3], rel=0.05)
    assert kernels[0].ravel()[0] != kernels[1].ravel()[0]
    initialize(model, lambda shape, dtype=None: ops.full(shape, 0.25, dtype))
    np.testing.assert_array_equal(numbers(model.weights[0]), 0.25)


def test_the_report_prints_as_a_table():
    model = keras.Sequential(
        [keras.Input((3, 3, 2)), layers.Conv2D(4, 3, name="[b]conv"), layers.Flatten(), layers.Dense(2, trainable=False)]
    )
    lines = str(initialize(model, HeNormal(), seed=1)).splitlines()
    assert re.split(r"  +", lines[0]) == ["layer", "weight", "shape", "kind", "initializer"] + [
        "fan in",
        "fan out",
        "std wanted",
        "std given",
        "note",
    ]
    assert re.split(r"  +", lines[1])[1:-1] == ["kernel", "3 x 3 x 2 x 4", "conv", "HeNormal", "18", "36", "0.3333"]
    assert "[b]conv" in lines[1]
    assert lines[2].endswith("left: frozen")


NEEDS_DATA = "a batch of the model's inputs with 'lsuv', and None with other initializers"


def dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")], name="small")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((HeNormal(kind="conv"),), "`initializer` must be without `kind`, got <HeNormal>. Each layer sets its own."),
        ((Orthogonal(blocks=2),), "`initializer` must be without `blocks`, got <Orthogonal>. Each layer sets its own."),
        ((HeNormal(strides=[1, 2], kind="conv"),), "`initializer` must be without `kind`, got <HeNormal>. Each layer sets its own."),
        (
            (LecunNormal(input_axes=[0], output_axes=[1]),),
            "`initializer` must be without `input_axes`, got <LecunNormal>. Each layer sets its own.",
        ),
        (("no_such",), "Could not interpret initializer identifier: no_such"),
        ((3,), "Could not interpret initializer identifier: 3"),
        ((HeNormal(seed=keras.random.SeedGenerator(1)), 2), "`seed` must be None for an initializer with a seed of its own, got 2."),
        ((keras.initializers.HeNormal(seed=1), 2), "`seed` must be None for an initializer with a seed of its own, got 2."),
        ((HeNormal(seed=1), 2), "`seed` must be None for an initializer with a seed of its own, got 2."),
        ((HeNormal(), -1), "`seed` must be a whole number of at least 0, got -1."),
        ((HeNormal(), 1.5), "`seed` must be a whole number of at least 0, got 1.5."),
        (("auto", 1, [[0.0] * 4]), f"`data` must be {NEEDS_DATA}, got [[0.0, 0.0, 0.0, 0.0]]."),
        (("lsuv",), f"`data` must be {NEEDS_DATA}, got None."),
        ((None,), "`initializer` must be an initializer, its name, 'auto' or 'lsuv', got None."),
    ],
)
def test_wrong_arguments_are_refused_and_cost_nothing(arguments, message):
    model = dense()
    before = [numbers(w) for w in model.weights]
    with pytest.raises(ValueError) as caught:
        initialize(model, *arguments)
    assert re.sub(r"<keras_ext[\w.]*\.(\w+) object at 0x\w+>|<(\w+) .*?>", r"<\1\2>", str(caught.value)) == message
    for w, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(numbers(w), old)


def test_an_unbuilt_model_and_no_model_are_refused():
    with pytest.raises(ValueError) as caught:
        initialize(keras.Sequential([layers.Dense(3)], name="unbuilt"), "auto")
    assert str(caught.value) == (
        "`model` must be built before its weights can be initialized, got 'unbuilt', which is not. "
        "Call `model.build(input_shape)`, or call it on a batch, first."
    )
    with pytest.raises(ValueError, match=r"`model` must be a Keras model or layer, got 3\."):
        initialize(3, "auto")


def test_a_model_that_was_compiled_trains_on():
    model = dense()
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    model.fit(x, x[:, :3], epochs=1, verbose=0)
    initialize(model, GlorotNormal(), seed=1)
    start = numbers(model.weights[0])
    model.fit(x, x[:, :3], epochs=1, verbose=0)
    assert 0 < np.abs(numbers(model.weights[0]) - start).max() < 0.01
