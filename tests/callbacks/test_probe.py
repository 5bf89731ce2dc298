"""The snapshot: its gradient is the one that the optimizer would get, and it leaves no trace."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext.callbacks.monitor.probe.probe import Probe, _groups_of


def data(seed=0, n=32):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype("float32")
    return x, (x[:, :1] * x[:, 1:2] > 0).astype("float32")


def network(*, bn=None, frozen=False, dropout=0.0, policy=None):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01), name="first", dtype=policy)(inputs)
    if bn is not None:
        x = bn(name="bn", dtype=policy)(x)
    x = keras.layers.Dropout(dropout, seed=3, dtype=policy)(x)
    x = keras.layers.Dense(4, name="second", dtype=policy)(x)
    x = keras.layers.Activation("relu", name="rectified", dtype=policy)(x)
    outputs = keras.layers.Dense(1, activation="sigmoid", name="last", dtype=policy)(x)
    model = keras.Model(inputs, outputs)
    if frozen:
        model.get_layer("bn").trainable = False
        model.get_layer("bn").moving_mean.assign(np.full(5, 0.3))
    return model


@pytest.mark.parametrize("bn", [None, keras.layers.BatchNormalization, keras_ext.layers.BatchNormalization])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_is_the_step_of_plain_descent(bn, frozen):
    if bn is None and frozen:
        pytest.skip("nothing to freeze")
    model, (x, y) = network(bn=bn, frozen=frozen), data()
    model.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    before = [v.numpy().astype("float64") for v in model.trainable_variables]
    model.train_on_batch(x, y)
    for weight, old, variable in zip(snapshot.weights, before, model.trainable_variables, strict=True):
        step = np.linalg.norm(old - variable.numpy())
        # weights of size 1 in float32 hold a step to 1e-7 an entry
        assert weight.gradient_norm == pytest.approx(step, rel=1e-5, abs=5e-7), variable.path
        assert weight.weight_norm == pytest.approx(np.linalg.norm(old), rel=1e-5)


def test_the_loss_is_the_loss_that_fit_would_report():
    model, (x, y) = network(), data()
    model.compile("sgd", "binary_crossentropy")
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    assert snapshot.loss == pytest.approx(float(model.evaluate(x, y, verbose=0, batch_size=32)), rel=1e-5)


def test_the_penalties_on_weights_are_known_apart_from_the_loss_on_the_data():
    model, (x, y) = network(), data()
    model.compile("sgd", "binary_crossentropy")
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    kernel = model.get_layer("first").kernel.numpy().astype("float64")
    assert snapshot.penalty == pytest.approx(0.01 * np.square(kernel).sum(), rel=1e-5)
    p = model.predict(x, verbose=0).astype("float64")
    assert snapshot.loss_on_data == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-5)

    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(keras.ops.square(y - y_pred))  # without the penalties

    own = Own(model.input, model.output)
    own.compile("sgd", "mse")
    assert Probe(own, (x, y, None)).snapshot(0, 0).penalty == 0.0


def test_sample_weights_count():
    model, (x, y) = network(), data()
    model.compile("sgd", "binary_crossentropy")
    weights = np.linspace(0, 3, len(x)).astype("float32")
    snapshot = Probe(model, (x, y, weights)).snapshot(0, 0)
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0, batch_size=32)
    assert snapshot.loss == pytest.approx(float(expected), rel=1e-5)


def test_activations_come_in_the_order_of_the_network_and_know_the_output():
    model, (x, y) = network(), data()
    model.compile("sgd", "binary_crossentropy")
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    assert [(a.layer, a.kind, a.is_output) for a in snapshot.activations] == [
        ("first", "tanh", False),
        ("rectified", "relu", False),
        ("last", "sigmoid", True),
    ]
    assert [a.layer for a in snapshot.hidden] == ["first", "rectified"]
    hidden = keras.Model(model.input, model.get_layer("rectified").output).predict(x, verbose=0)
    assert snapshot.activations[1].zeros == pytest.approx((hidden == 0).mean())
    assert snapshot.activations[1].dead == pytest.approx((hidden == 0).all(axis=0).mean())
    assert [w.layer for w in snapshot.kernels] == ["first", "second", "last"]


@pytest.mark.parametrize("kind", ["nested", "subclassed"])
def test_layers_inside_models_and_blocks_are_seen(kind):
    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = keras.layers.Dense(4, activation="sigmoid", name="inside")

        def call(self, x):
            return self.inner(x)

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.block, self.out = Block(), keras.layers.Dense(1, name="out")

        def call(self, x):
            return self.out(self.block(x))

    x, y = data()
    if kind == "nested":
        model = keras.Sequential(
            [keras.Input((6,)), keras.Sequential([keras.layers.Dense(4, "sigmoid", name="inside")]), keras.layers.Dense(1)]
        )
    else:
        model = Subclassed()
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    assert [a.layer for a in snapshot.activations] == ["inside"]
    assert snapshot.weights[0].layer == "inside"


def test_dictionaries_of_inputs_and_several_outputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = keras.layers.Concatenate()([keras.layers.Dense(3, "relu")(a), b])
    model = keras.Model({"a": a, "b": b}, {"u": keras.layers.Dense(1, name="u")(h), "v": keras.layers.Dense(2, name="v")(h)})
    model.compile("sgd", {"u": "mse", "v": "mae"})
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(20, 3)), "b": rng.normal(size=(20, 2))}
    y = {"u": rng.normal(size=(20, 1)), "v": rng.normal(size=(20, 2))}
    model.fit(x, y, verbose=0)
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    assert snapshot.loss == pytest.approx(model.evaluate(x, y, verbose=0, return_dict=True)["loss"], rel=1e-5)


def test_a_snapshot_leaves_no_trace():
    model, (x, y) = network(bn=keras_ext.layers.BatchNormalization, dropout=0.5), data()
    model.compile(keras_ext.optimizers.Adam(), "binary_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    state = [v.numpy() for v in (*model.variables, *model.optimizer.variables, *model.metrics_variables)]
    calls = [layer.call for layer in model.layers]
    probe = Probe(model, (x, y, None))
    first, second, third = (probe.snapshot(0, 0) for _ in range(3))
    assert second == third
    assert replace(first, weights=second.weights) == second
    assert [math.isnan(w.update) for w in first.weights] == [True] * len(first.weights)
    assert [w.update for w in second.weights] == [0.0] * len(first.weights)
    for before, after in zip(state, (*model.variables, *model.optimizer.variables, *model.metrics_variables), strict=True):
        np.testing.assert_array_equal(before, after.numpy())
    assert calls == [layer.call for layer in model.layers]
    assert all("call" not in vars(layer) for layer in model.layers if layer.name in ("first", "bn"))


def test_dropout_is_off_in_a_snapshot():
    x, y = data()
    snapshots = []
    for rate in (0.0, 0.9):
        keras.utils.set_random_seed(5)
        model = network(dropout=rate)
        model.compile("sgd", "binary_crossentropy")
        snapshots.append(Probe(model, (x, y, None)).snapshot(0, 0))
    assert snapshots[0].loss == snapshots[1].loss


def test_float16_gradients_do_not_underflow():
    x, y = data()
    model = network(policy="mixed_float16")
    model.get_layer("last").kernel.assign(model.get_layer("last").kernel * 1e-7)
    model.compile("sgd", "binary_crossentropy")
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    assert snapshot.kernels[0].gradient_norm > 0
    assert snapshot.finite


def test_predictions_that_ignore_the_input_have_no_spread():
    model, (x, y) = network(), data()
    model.get_layer("last").kernel.assign(np.zeros((4, 1)))
    model.compile("sgd", "binary_crossentropy")
    assert Probe(model, (x, y, None)).snapshot(0, 0).spread < 1e-6


def test_a_base_that_was_called_with_training_false_is_seen_as_fit_trains_it():
    x, y = data()
    base_in = keras.Input((6,))
    base = keras.Model(base_in, keras.layers.BatchNormalization()(keras.layers.Dense(5, "tanh")(base_in)))
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(base(inputs, training=False)))
    model.compile("sgd", "binary_crossentropy")
    model.fit(x, y, epochs=2, verbose=0)
    snapshot = Probe(model, (x, y, None)).snapshot(0, 0)
    assert snapshot.loss == pytest.approx(float(model.train_on_batch(x, y)), rel=1e-5)


def test_the_update_of_a_lone_weight_is_seen_though_it_changes_in_place():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = np.ones((4, 8), "float32"), np.ones((4, 1), "float32")
    probe = Probe(model, (x, y, None))
    probe.snapshot(0, 0)
    (before,) = model.get_weights()
    model.train_on_batch(x, y)
    (weight,) = probe.snapshot(1, 0).weights
    assert weight.update == pytest.approx(np.linalg.norm(model.get_weights()[0] - before), rel=1e-5)
    assert weight.update > 0


def test_what_is_measured_together_is_of_one_kind_and_not_large():
    assert _groups_of([4096, 64, 4096, 64, 640, 10, 2**20, 64]) == [[6], [0, 2, 4, 1, 3, 7, 5]]
    assert _groups_of([4, 4, 4, 2**20, 4], "abaab") == [[3], [0, 2], [1, 4]]
    assert _groups_of([2**18] * 3) == [[0, 1], [2]]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled on PyTorch")
def test_after_many_snapshots_the_pass_is_compiled_again_and_sees_the_same(monkeypatch):
    traced, forward = [], Probe._forward
    monkeypatch.setattr(Probe, "_forward", lambda self, *arguments: traced.append(len(snapshots)) or forward(self, *arguments))
    model, (x, y) = network(bn=keras_ext.layers.BatchNormalization), data()
    model.compile("sgd", "binary_crossentropy")
    probe, snapshots = Probe(model, (x, y, None), many=3), []
    for _ in range(5):
        snapshots.append(probe.snapshot(0, 0))
    # JAX traces once, and compiles what it has traced in two ways.
    assert traced == ([0] if keras.backend.backend() == "jax" else [0, 2])
    for snapshot in snapshots[1:]:
        assert snapshot.loss == pytest.approx(snapshots[0].loss, rel=1e-5)
        for seen, first in zip(snapshot.weights, snapshots[0].weights, strict=True):
            assert seen.gradient_norm == pytest.approx(first.gradient_norm, rel=1e-5)
        assert [a.rms for a in snapshot.activations] == pytest.approx([a.rms for a in snapshots[0].activations], rel=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX traces once for both programs")
def test_after_many_snapshots_jax_compiles_the_pass_with_all_its_care(caplog):
    import jax

    model, (x, y) = network(), data()
    model.compile("sgd", "binary_crossentropy")
    probe = Probe(model, (x, y, None), many=3)
    compiled = []
    with jax.log_compiles():
        for _ in range(5):
            caplog.clear()
            probe.snapshot(0, 0)
            compiled.append(sum(record.getMessage().startswith("Finished XLA compilation of jit(run)") for record in caplog.records))
    assert compiled == [1, 0, 1, 0, 0]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="strings need TensorFlow's graph")
def test_a_pass_that_xla_cannot_compile_goes_on_as_it_was():
    import tensorflow as tf

    model = keras.Sequential(
        [keras.Input((), dtype="string"), keras.layers.StringLookup(vocabulary=["a", "b"]), keras.layers.Embedding(4, 2)]
    )
    model.compile("sgd", "mse")
    x, y = np.array(["a", "b", "c", "a"], object), np.ones((4, 2), "float32")
    probe = Probe(model, (tf.constant(x.tolist()), y, None), many=2)
    losses = [probe.snapshot(0, 0).loss for _ in range(4)]
    assert losses == [losses[0]] * 4
    assert np.isfinite(losses[0])
