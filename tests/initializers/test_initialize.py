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


# Layer, shape of one sample, axes of the output that zero padding touches (left out of the measure).
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
    "transposed to 256": (lambda k: layers.Conv2DTranspose(256, 4, strides=2, kernel_initializer=k), (8, 8, 64)),
    "transposed 1d, window no multiple": (lambda k: layers.Conv1DTranspose(64, 5, strides=3, kernel_initializer=k), (40, 64)),
    "einsum": (lambda k: layers.EinsumDense("abc,cde->abde", (9, 8, 16), kernel_initializer=k), (9, 64)),
    "einsum, a kernel each": (lambda k: layers.EinsumDense("abc,bcd->abd", (9, 64), kernel_initializer=k), (9, 64)),
    "embedding": (lambda k: layers.Embedding(500, 64, embeddings_initializer=k), (20,)),
}
# What Keras's rule gives in the same layers: the share of the wanted variance.
KERAS = {"depthwise": 1 / 64, "depthwise, 4 each": 1 / 64, "separable": 1 / 64, "transposed to 16": 4 / 4, "embedding": 1 / 500}


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


@pytest.mark.parametrize(
    ("name", "wanted"), [("depthwise", 1 / 64), ("depthwise, 4 each", 1 / 64), ("transposed to 16", 1.0), ("embedding", 1 / 500)]
)
def test_keras_reads_these_shapes_otherwise(name, wanted):
    build, shape = SIGNALS[name]
    model = one_layer(build(keras.initializers.LecunNormal(seed=1)), shape)
    # A transposed kernel (4, 4, 16, 64) by Keras's fan-in of 4 * 4 * 16: 64 / 16 / strides^2.
    assert 0.8 * wanted < output_variance(name, model) < 1.25 * wanted


def gates(kernel, count):
    return np.split(numbers(kernel), count, axis=1)


def assert_orthonormal(matrix):
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
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
    x = keras.Input((5, 24))
    model = keras.Model(x, make(4, 6)(x, x))
    initialize(model, Orthogonal(), seed=1)
    kernels = {w.path.split("/")[-2]: numbers(w) for w in model.weights if w.name == "kernel"}
    assert set(kernels) == {"query", "key", "value", "attention_output"}
    for name, kernel in kernels.items():
        for head in range(kernel.shape[0 if name == "attention_output" else 1]):
            assert_orthonormal(kernel[head] if name == "attention_output" else kernel[:, head])


def test_groups_of_a_convolution_and_filters_of_a_depthwise_one_are_orthogonal_each():
    model = keras.Sequential([keras.Input((9, 9, 16)), layers.Conv2D(32, 3, groups=4), layers.DepthwiseConv2D(3, depth_multiplier=3)])
    initialize(model, Orthogonal(), seed=1)
    grouped, depthwise = (numbers(w) for w in model.weights if w.name == "kernel")
    for group in np.split(grouped, 4, axis=-1):
        assert_orthonormal(group.reshape(-1, 8))
    for channel in range(32):
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


def dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, name="d")], name="small")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((HeNormal(kind="conv"),), "`initializer` must be without `kind`, got <HeNormal>. Each layer tells its own."),
        ((Orthogonal(blocks=2),), "`initializer` must be without `blocks`, got <Orthogonal>. Each layer tells its own."),
        ((HeNormal(seed=1), 2), "`seed` must be None for an initializer with a seed of its own, got 2."),
        ((HeNormal(), -1), "`seed` must be a whole number of at least 0, got -1."),
        ((HeNormal(), 1.5), "`seed` must be a whole number of at least 0, got 1.5."),
        (("lsuv",), "`data` must be a batch of the model's inputs with 'lsuv', and None with other initializers, got None."),
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


def test_data_without_lsuv_an_unbuilt_model_and_no_model_are_refused():
    with pytest.raises(ValueError, match="`data` must be a batch of the model's inputs with 'lsuv', and None with other initializers"):
        initialize(dense(), "auto", data=np.zeros((2, 4)))
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
