"""What is noted beside the outputs of layers: gates, attention, and what counts as the model's output."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks.monitor.probe.gates import gates
from keras_ext.callbacks.monitor.probe.probe import Probe


def numpy_of(tensor):
    return ops.convert_to_numpy(tensor).astype("float64")


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def lstm_by_hand(layer, x):
    kernel, recurrent, bias = (w.astype("float64") for w in layer.get_weights())
    h = c = np.zeros((len(x), layer.units))
    found = {"input gate": [], "forget gate": [], "candidate": [], "output gate": []}
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, axis=1)
        values = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
        c = values[1] * c + values[0] * values[2]
        h = values[3] * np.tanh(c)
    return {name: np.stack(values, axis=1) for name, values in found.items()}, h


def gru_by_hand(layer, x):
    kernel, recurrent, bias = (w.astype("float64") for w in layer.get_weights())
    u = layer.units
    h = np.zeros((len(x), u))
    found = {"update gate": [], "reset gate": [], "candidate": []}
    for t in range(x.shape[1]):
        a = x[:, t] @ kernel + (bias[0] if layer.reset_after else bias)
        b = h @ recurrent + (bias[1] if layer.reset_after else 0)
        z, r = sigmoid(a[:, :u] + b[:, :u]), sigmoid(a[:, u : 2 * u] + b[:, u : 2 * u])
        inner = r * b[:, 2 * u :] if layer.reset_after else (r * h) @ recurrent[:, 2 * u :]
        g = np.tanh(a[:, 2 * u :] + inner)
        for name, value in zip(found, (z, r, g), strict=True):
            found[name].append(value)
        h = z * h + (1 - z) * g
    return {name: np.stack(values, axis=1) for name, values in found.items()}, h


@pytest.mark.parametrize(
    ("layer", "by_hand"),
    [
        (lambda: keras.layers.LSTM(4), lstm_by_hand),
        (lambda: keras.layers.GRU(4), gru_by_hand),
        (lambda: keras.layers.GRU(4, reset_after=False), gru_by_hand),
    ],
)
def test_gates_are_those_of_the_equations_and_lead_to_the_layers_output(layer, by_hand):
    layer = layer()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 2)).astype("float32")
    layer.build(x.shape)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    wanted, last = by_hand(layer, x.astype("float64"))
    np.testing.assert_allclose(numpy_of(layer(x)), last, atol=1e-5)
    got = gates(layer, ops.convert_to_tensor(x))
    assert {name: kind for name, (kind, _) in got.items()} == {name: "tanh" if name == "candidate" else "sigmoid" for name in wanted}
    for name, (_, values) in got.items():
        np.testing.assert_allclose(numpy_of(values), wanted[name], atol=1e-5, err_msg=name)


def test_a_layer_that_goes_backwards_begins_at_the_end():
    layer = keras.layers.LSTM(4, go_backwards=True)
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    layer.build(x.shape)
    wanted, _ = lstm_by_hand(layer, x[:, ::-1].astype("float64"))
    np.testing.assert_allclose(numpy_of(gates(layer, ops.convert_to_tensor(x))["forget gate"][1]), wanted["forget gate"], atol=1e-5)


def snapshot_at(model, x, y, **arguments):
    model.compile("sgd", "mse")
    return Probe(model, (x, y, None), **arguments).snapshot(0, 0)


def test_gates_are_looked_at_also_in_both_directions():
    inputs = keras.Input((5, 2))
    h = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True, name="lstm"))(inputs)
    outputs = keras.layers.Dense(1)(keras.layers.GRU(3, name="gru", bias_initializer=keras.initializers.Constant(50.0))(h))
    x = np.random.default_rng(0).normal(size=(8, 5, 2)).astype("float32")
    snapshot = snapshot_at(keras.Model(inputs, outputs), x, np.zeros((8, 1)))
    lstm = ["input gate", "forget gate", "output gate", "candidate"]
    assert [(a.layer, a.part) for a in snapshot.activations] == [
        *(("forward_lstm", part) for part in lstm),
        *(("backward_lstm", part) for part in lstm),
        *(("gru", part) for part in ("update gate", "reset gate", "candidate")),
    ]
    assert [a.saturated for a in snapshot.activations if a.layer == "gru"] == [1.0, 1.0, 1.0]
    assert max(a.saturated for a in snapshot.activations if a.layer != "gru") < 0.5


def test_the_choices_of_attention_are_measured_and_do_not_count():
    inputs = keras.Input((6, 4))
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    h = attention(inputs, inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(h)))
    x = np.random.default_rng(0).normal(size=(8, 6, 4)).astype("float32")
    before = model.predict(x, verbose=0)
    snapshot = snapshot_at(model, x, np.zeros((8, 1)))
    (choices,) = snapshot.activations
    assert (choices.layer, choices.kind, choices.counts) == ("attention", "softmax", False)
    _, scores = attention(x, x, return_attention_scores=True)
    largest = numpy_of(scores).max(axis=-1)
    assert choices.saturated == pytest.approx((4 * largest * (1 - largest) < 0.05).mean(), abs=1e-6)
    assert choices.rms == pytest.approx(np.sqrt(np.mean(numpy_of(scores) ** 2)), rel=1e-5)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


@pytest.mark.parametrize("behind", [[], [keras.layers.Reshape((2, 2)), keras.layers.Permute((2, 1))], [keras.layers.Rescaling(10.0)]])
def test_an_output_behind_a_change_of_shape_or_scale_is_an_output(behind):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "sigmoid"), keras.layers.Dense(4, "sigmoid"), *behind])
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    snapshot = snapshot_at(model, x, np.zeros((8, *model.output_shape[1:])))
    assert [a.is_output for a in snapshot.activations] == [False, True]


def test_only_the_layers_that_were_named_are_reported():
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(4, "tanh", name=name) for name in "abc")])
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    snapshot = snapshot_at(model, x, np.zeros((8, 4)), layers=["b"])
    assert [a.layer for a in snapshot.activations] == ["b"]
    assert [w.layer for w in snapshot.weights] == ["b", "b"]
    with pytest.raises(ValueError, match=r"`layers` must name layers of the model, got 'd'\. It has a, b, c\."):
        snapshot_at(model, x, np.zeros((8, 4)), layers=["d"])


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow convolves channels first on GPUs alone")
def test_channels_that_come_first_are_the_units():
    bias = keras.initializers.Constant(np.array([-1.0, 1.0, 1.0, 1.0]))
    conv = keras.layers.Conv2D(4, 3, data_format="channels_first", activation="relu", kernel_initializer="zeros", bias_initializer=bias)
    model = keras.Sequential([keras.Input((2, 6, 6)), conv, keras.layers.Flatten(), keras.layers.Dense(1)])
    (seen,) = snapshot_at(model, np.ones((8, 2, 6, 6)), np.zeros((8, 1))).activations
    assert (seen.dead, seen.zeros) == (0.25, 0.25)


def test_activations_that_are_layers_are_seen_and_the_scale_is_that_of_the_first_input():
    kinds = [keras.layers.Dense(4), keras.layers.ReLU(name="r"), keras.layers.Dense(4), keras.layers.Softmax(name="s")]
    x = 7 * np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    snapshot = snapshot_at(keras.Sequential([keras.Input((3,)), *kinds, keras.layers.Dense(1)]), x, np.zeros((8, 1)))
    assert [(a.layer, a.kind) for a in snapshot.activations] == [("r", "relu"), ("s", "softmax")]
    assert snapshot.input_rms == pytest.approx(np.sqrt(np.mean(x**2)), rel=1e-5)
