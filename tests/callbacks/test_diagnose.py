"""A snapshot of a model as it stands: the unhealthy are named, the sound left alone, and nothing of the model moves."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import ops
from rich.console import Console

import keras_ext
from keras_ext.callbacks import Limits, diagnose
from keras_ext.callbacks.monitor.report.json_report import from_json


def data(n=300):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 10)).astype("float32")
    return x, (x[:, :1] + x[:, 1:2] > 0).astype("float32")


def network(activation="relu", compiled=True, **hidden):
    model = keras.Sequential([keras.Input((10,)), keras_ext.layers.BatchNormalization(name="norm")], name="net")
    for name in ("h0", "h1"):
        model.add(keras.layers.Dense(16, activation, name=name, **hidden))
        model.add(keras_ext.layers.Dropout(0.1, seed=3))
    model.add(keras.layers.Dense(1, "sigmoid", name="out"))
    if compiled:
        model.compile(keras_ext.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return model


def shout(model, factor=30.0, layer="h0"):
    """Make the units of a layer saturate."""
    kernel = model.get_layer(layer).kernel
    kernel.assign(factor * ops.convert_to_numpy(kernel))
    return model


def silence(model, layer="h1"):
    """Make the ReLUs of a layer die."""
    model.get_layer(layer).bias.assign(np.full(16, -10.0))
    return model


def reported(diagnosis):
    return [(f.symptom, f.layer, f.severity) for f in diagnosis.findings]


def state(model):
    values = {v.path: ops.convert_to_numpy(v).copy() for v in (*model.variables, *model.optimizer.variables, *model.metrics_variables)}
    return values | {"compiled": model.compiled, "built": [layer.built for layer in model.layers]}


def text(renderable, width=120):
    return "\n".join(
        "".join(segment.text for segment in line).rstrip() for line in Console(width=width).render_lines(renderable, pad=False)
    )


@pytest.mark.parametrize(
    ("activation", "policy"), [("relu", "float32"), ("relu", "mixed_float16"), ("sigmoid", "mixed_float16"), ("tanh", "float32")]
)
def test_a_sound_model_gets_no_finding(activation, policy):
    keras.config.set_dtype_policy(policy)
    diagnosis = diagnose(network(activation), *data())
    assert diagnosis.findings == []
    assert str(diagnosis) == f"net, 256 samples, loss {diagnosis.snapshot.loss:.3g}: nothing found"


@pytest.mark.parametrize(("policy", "compiled"), [("float32", True), ("float32", False), ("mixed_float16", True)])
def test_saturated_and_dead_layers_are_named_as_warnings(policy, compiled):
    keras.config.set_dtype_policy(policy)
    x, y = data()
    saturated = diagnose(shout(network("sigmoid", compiled)), x, y if compiled else None)
    assert ("saturated", "h0", "warning") in reported(saturated)
    assert {(f.layer, f.severity) for f in saturated.findings} == {("h0", "warning")}
    dead = diagnose(silence(network("relu", compiled)), x, y if compiled else None)
    assert ("dead_relu", "h1", "warning") in reported(dead)
    assert {f.layer for f in dead.findings} <= {"h1", None}
    assert {f.severity for f in dead.findings} == {"warning"}
    assert 'warning: dead relu in layer "h1". 100% of its relu units are zero on every sample.' in str(dead)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_not_finite_is_critical(compiled):
    x, y = data()
    model = network(compiled=compiled)
    model.get_layer("h1").bias.assign(np.full(16, np.nan))
    diagnosis = diagnose(model, x, y)
    assert reported(diagnosis) == [("non_finite", "h1", "critical")]
    assert ': 1 critical finding\ncritical: non finite in layer "h1". A value is NaN or infinite.' in str(diagnosis)
    assert ("loss" in str(diagnosis).splitlines()[0]) is compiled
    assert ("not compiled" in str(diagnosis)) is not compiled


def test_the_model_stays_as_it_is_bit_for_bit():
    x, y = data()
    model = network()
    model.fit(x, y, epochs=1, verbose=0)
    before, seed = state(model), np.random.get_state()[1].copy()
    diagnosis = diagnose(model, x, y)
    after = state(model)
    assert before.keys() == after.keys()
    for path, value in before.items():
        np.testing.assert_array_equal(value, after[path], path)
    np.testing.assert_array_equal(seed, np.random.get_state()[1])
    assert (diagnosis.snapshot.step, diagnosis.snapshot.epoch) == (10, 0)


@pytest.mark.parametrize("built", [True, False])
def test_a_training_after_it_is_the_same_as_without_it(built):
    x, y = data(64)
    histories = []
    for observed in (True, False):
        keras.utils.set_random_seed(7)
        hidden = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1, "sigmoid")]
        model = keras.Sequential([keras.Input((10,)), *hidden] if built else hidden)
        model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
        if observed:
            diagnose(model, x, y)
        histories.append(model.fit(x, y, epochs=2, batch_size=32, verbose=0).history)
    assert histories[0] == histories[1]


def test_a_model_without_weights_is_built_for_batches_of_any_size():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = keras.layers.Dense(8, "sigmoid", name="hidden"), keras.layers.Dense(1, name="out")

        def call(self, x):
            return self.out(self.hidden(ops.concatenate([x["a"], x["b"]], axis=-1)))

    x, y = data(40)
    model = Two()
    model.compile("sgd", "mse")
    diagnosis = diagnose(model, {"a": x[:, :4], "b": 100 * x[:, 4:]}, y)
    assert [w.layer for w in diagnosis.snapshot.kernels] == ["hidden", "out"]
    assert ("saturated", "hidden", "warning") in reported(diagnosis)
    assert model.predict({"a": x[:3, :4], "b": x[:3, 4:]}, verbose=0).shape == (3, 1)
    sequential = keras.Sequential([keras.layers.Dense(2)])
    assert diagnose(sequential, x).samples == 40
    assert sequential.input_shape == (None, 10)


def test_a_model_that_is_not_compiled_is_looked_at_without_gradients(tmp_path):
    x, _ = data()
    diagnosis = diagnose(shout(network("sigmoid", compiled=False), 3e4), x)
    assert {("saturated", "h0", "warning"), ("exploding_weight", "h0", "warning")} <= set(reported(diagnosis))
    assert {f.layer for f in diagnosis.findings} == {"h0"}
    assert math.isnan(diagnosis.snapshot.loss)
    assert all(math.isnan(w.gradient_norm) and w.scale > 0 for w in diagnosis.snapshot.kernels)
    last = "It is not compiled with a loss: nothing is known of its gradients. Call model.compile(loss=...) first."
    assert str(diagnosis).splitlines()[-1] == last
    assert last in text(diagnosis.table())
    diagnosis.report(tmp_path / "page.html")
    assert "not finite" not in (tmp_path / "page.html").read_text()
    # A gradient of NaN would be drawn as a symptom.
    assert not any("not finite" in entry.get_text() for legend in diagnosis.plot().legends for entry in legend.get_texts())


def test_several_outputs_and_a_dataset_of_batches():
    x, y = data(64)
    inputs = keras.Input((10,))
    hidden = keras.layers.Dense(8, "sigmoid", name="h0")(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(1, name="a")(hidden), keras.layers.Dense(1, "sigmoid", name="b")(hidden)])
    model.compile("adam", ["mse", "binary_crossentropy"], metrics=[["mae"], ["accuracy"]])
    batches = [(x[i : i + 16], (y[i : i + 16], y[i : i + 16])) for i in range(0, 64, 16)]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return batches[index]

    assert diagnose(model, Batches()).findings == []
    assert ("saturated", "h0", "warning") in reported(diagnose(shout(model), Batches(), probe_size=32))
    with pytest.raises(ValueError, match="`y` must be targets"):
        diagnose(model, x)


def test_layers_limits_rank_and_seed_reach_the_snapshot():
    x, y = data()
    model = shout(silence(network("relu")))
    only = diagnose(model, x, y, layers=["h0"], rank=True, probe_size=64)
    assert {p.layer for p in (*only.snapshot.activations, *only.snapshot.weights)} == {"h0"}
    assert only.snapshot.activations[0].rank > 1
    assert only.samples == 64
    assert not [f for f in reported(only) if f[0] == "dead_relu"]
    assert ("exploding_weight", "h0", "warning") in reported(diagnose(network(), x, y, limits=Limits(exploding_weight=0.1)))
    losses = [diagnose(network(), x, y, probe_size=32, seed=seed).snapshot.input_rms for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_its_table_picture_file_and_page_tell_the_same(tmp_path):
    diagnosis = diagnose(silence(network()), *data())
    shown = text(diagnosis.table())
    assert shown.splitlines()[0].startswith(f"net, 256 samples, loss {diagnosis.snapshot.loss:.3g}: nothing critical, ")
    row = next(line.split() for line in shown.splitlines() if line.strip().startswith("h1"))
    scale = next(w.scale for w in diagnosis.snapshot.kernels if w.layer == "h1")
    assert row == ["h1", "-", "100%", "0", "0", f"{scale:.3g}", "warning:", "poor", "initialization"]
    assert 'warning: dead relu in layer "h1". 100% of its relu units' in shown
    assert "not compiled" not in shown
    diagnosis.plot(tmp_path / "new" / "snapshot.png")
    assert (tmp_path / "new" / "snapshot.png").stat().st_size > 5_000
    diagnosis.to_json(tmp_path / "snapshot.json")
    snapshots, findings = from_json(tmp_path / "snapshot.json")
    assert findings == diagnosis.findings
    assert [snapshot.loss for snapshot in snapshots] == [diagnosis.snapshot.loss]
    diagnosis.report(tmp_path / "page.html")
    assert "<h1>net, as it stands</h1>" in (tmp_path / "page.html").read_text()
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnosis.samples = 0


def test_a_saved_model_is_diagnosed_in_a_new_process(tmp_path, in_new_process):
    x, y = data()
    model = shout(network("sigmoid"))
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    printed = in_new_process(
        "import sys, keras, numpy as np, keras_ext; d = np.load(sys.argv[2]); "
        "print(keras_ext.callbacks.diagnose(keras.models.load_model(sys.argv[1]), d['x'], d['y']))",
        tmp_path / "model.keras",
        tmp_path / "data.npz",
    )
    assert printed.strip() == str(diagnose(model, x, y))


class Unbuildable(keras.Model):
    def call(self, x):
        raise RuntimeError("no such thing")


MISTAKES = {
    "no model": ({"model": "net"}, TypeError, "`model` must be a keras.Model, got 'str'."),
    "limits": ({"limits": 0.5}, TypeError, "`limits` must be a keras_ext.callbacks.Limits or None, got 0.5."),
    "layers": (
        {"layers": "h0"}, TypeError, "`layers` must be None or names of layers, got 'h0'. Write layers=[\"dense_1\", \"dense_2\"].",
    ),
    "unknown layer": (
        {"layers": ["h9"]}, ValueError,
        "`layers` must name layers of the model, got 'h9'. It has norm, h0, dropout, h1, dropout_1, out.",
    ),
    "probe_size": ({"probe_size": 0}, ValueError, "`probe_size` must be a whole number of at least 1, got 0."),
    "seed": ({"seed": -1}, ValueError, "`seed` must be a whole number of at least 0, got -1."),
    "rank": ({"rank": 1}, ValueError, "`rank` must be True or False, got 1."),
    "no targets": (
        {"y": None}, ValueError,
        "`y` must be targets, as the model is compiled with a loss, got None. Give them as `fit` takes them.",
    ),
    "empty": (
        {"x": np.ones((0, 10)), "y": np.ones((0, 1))}, ValueError,
        "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [0].",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_bad_argument_is_reported(name):
    keras.backend.clear_session()
    changed, error, message = MISTAKES[name]
    x, y = data(20)
    arguments = {"model": network(), "x": x, "y": y, **changed}
    with pytest.raises(error) as raised:
        diagnose(arguments.pop("model"), arguments.pop("x"), arguments.pop("y"), **arguments)
    assert str(raised.value) == message


def test_data_that_the_model_does_not_take_is_reported_with_both_shapes():
    x, y = data(20)
    with pytest.raises(ValueError, match=r"^`model` cannot be run on this data: `x` float32 \(20, 3\), `y` float32 \(20, 1\); it takes "):
        diagnose(network(), x[:, :3], y)
    with pytest.raises(ValueError, match=r"it takes \(None, 10\)\. \w+: .*\b3\b"):
        diagnose(network(), x[:, :3], y)
    with pytest.raises(ValueError, match=r"^`model` cannot be built on this data: `x` float32 \(20, 10\)\. RuntimeError: ") as raised:
        diagnose(Unbuildable(), x)
    assert "\x1b" not in str(raised.value)
