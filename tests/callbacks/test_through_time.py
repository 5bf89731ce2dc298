"""The gradient through time: measured against gradients by hand, named where it is lost, quiet where the network learns."""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_ext.callbacks import Limits, SaturationMonitor
from keras_ext.callbacks.monitor.probe.probe import Probe
from keras_ext.callbacks.monitor.probe.through_time import NOTED, norms
from keras_ext.callbacks.monitor.rules.through_time import through_time_states
from keras_ext.callbacks.monitor.snapshot import Activation, Recurrent, Snapshot


def recurrent_model(layer, steps, features=3):
    model = keras.Sequential([keras.Input((steps, features)), layer, keras.layers.Dense(1, name="out")])
    model.compile("sgd", "mse")
    return model


def by_hand(model, x, y):
    """Return the norm by step of the gradient of mean((p - y)^2) at the inputs of a SimpleRNN of tanh, in float64."""
    kernel, recurrent, bias, out, out_bias = (w.astype("float64") for w in model.get_weights())
    states = [np.zeros((len(x), recurrent.shape[0]))]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ kernel + states[-1] @ recurrent + bias))
    upstream = 2 * (states[-1] @ out + out_bias - y) / len(x) @ out.T
    found = []
    for t in reversed(range(x.shape[1])):
        at_sum = upstream * (1 - states[t + 1] ** 2)
        found.append(np.linalg.norm(at_sum @ kernel.T))
        upstream = at_sum @ recurrent.T
    return found[::-1]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_norms_by_step_are_those_of_the_equations(backwards):
    keras.utils.set_random_seed(2)
    model = recurrent_model(keras.layers.SimpleRNN(4, go_backwards=backwards, name="rnn"), 7)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 7, 3)).astype("float32"), rng.normal(size=(5, 1)).astype("float32")
    (seen,) = Probe(model, (x, y, None)).snapshot(0, 0).recurrent
    assert (seen.layer, seen.steps) == ("rnn", 7)
    # In the order in which the layer takes its steps.
    expected = by_hand(model, x[:, ::-1].astype("float64") if backwards else x.astype("float64"), y)
    np.testing.assert_allclose(seen.norms, expected, rtol=2e-4)


def test_of_a_long_sequence_neighbouring_steps_share_a_number():
    keras.utils.set_random_seed(2)
    model = recurrent_model(keras.layers.SimpleRNN(4, name="rnn"), 150)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 150, 3)).astype("float32"), rng.normal(size=(5, 1)).astype("float32")
    (seen,) = Probe(model, (x, y, None)).snapshot(0, 0).recurrent
    squares = np.square(by_hand(model, x.astype("float64"), y))
    assert len(seen.norms) == 50
    assert seen.norms[-1] == pytest.approx(math.sqrt(squares[-3:].mean()), rel=1e-3)
    # 130 steps: 43 groups of three, and one step that is left over.
    sums = np.zeros(NOTED)
    sums[:44] = [3.0] * 43 + [1.0]
    assert norms(sums, 130, False) == (1.0,) * 44


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Bidirectional", "RNN", "stacked"])
def test_every_kind_of_recurrent_layer_is_measured(kind):
    layers = {
        "LSTM": [keras.layers.LSTM(3, name="a")],
        "GRU": [keras.layers.GRU(3, name="a")],
        "Bidirectional": [keras.layers.Bidirectional(keras.layers.LSTM(3, name="a"))],
        "RNN": [keras.layers.RNN([keras.layers.GRUCell(3), keras.layers.GRUCell(3)], name="a")],
        "stacked": [keras.layers.LSTM(3, return_sequences=True, name="a"), keras.layers.GRU(3, name="b")],
    }[kind]
    model = keras.Sequential([keras.Input((6, 2)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(4, 6, 2)).astype("float32")
    seen = Probe(model, (x, np.ones((4, 1)), None)).snapshot(0, 0).recurrent
    expected = {"Bidirectional": ["forward_a", "backward_a"], "stacked": ["a", "b"]}.get(kind, ["a"])
    assert sorted(r.layer for r in seen) == sorted(expected)
    assert all(len(r.norms) == 6 and min(r.norms) > 0 for r in seen)


def test_padded_sequences_are_not_measured():
    layers = [keras.layers.Embedding(9, 4, mask_zero=True), keras.layers.LSTM(3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *layers])
    model.compile("sgd", "mse")
    x = np.array([[0, 0, 0, 1, 2, 3], [0, 4, 5, 6, 7, 8]])
    assert Probe(model, (x, np.ones((2, 1)), None)).snapshot(0, 0).recurrent == ()


def test_ratio_and_reach():
    r = Recurrent("a", 100, (0.0,) * 30 + (1e-5,) * 10 + (1.0,) * 10)
    assert r.ratio == 0.0
    assert (r.reach(1e-3), r.reach(1e-6)) == (20, 40)
    assert (Recurrent("a", 4, (0.0,) * 4).ratio, Recurrent("a", 4, ()).ratio) == (1.0, 1.0)


def course(norms_of, losses):
    return [Snapshot(50 * i, i, loss, 0.5, (), (), recurrent=(Recurrent("rnn", 40, tuple(norms_of(i))),)) for i, loss in enumerate(losses)]


def lost(i):
    return [1e-9] * 30 + [1.0] * 10


@pytest.mark.parametrize(
    ("norms_of", "losses", "symptoms"),
    [
        (lost, [0.7] * 8, ["vanishing_through_time"]),
        (lost, [0.7] * 6, []),  # too early to say
        (lost, [0.7 - 0.02 * i for i in range(8)], []),  # it learns
        (lambda i: [1e-9] * (30 - i) + [1.0] * (10 + i), [0.7] * 8, []),  # on its way
        (lambda i: [0.002] * 30 + [1.0] * 10, [0.7] * 8, []),
        (lambda i: [1e-9] * 20 + [1.0] * 20, [0.7] * 8, []),  # half of the steps
        (lambda i: [2e3] * 30 + [1.0] * 10, [0.7] * 8, ["exploding_through_time"]),
        (lambda i: [900.0] * 30 + [0.1] * 10, [0.7] * 8, []),  # no length that a step cannot take
    ],
)
def test_what_is_lost_or_overgrown_while_the_loss_stands(norms_of, losses, symptoms):
    found = list(through_time_states(course(norms_of, losses), Limits(), 2, math.nan))
    assert [s.symptom for s in found] == symptoms
    assert all(s.quiet and s.layer == "rnn" for s in found)


def test_the_advice_has_the_steps_that_the_gradient_reaches():
    (state,) = through_time_states(course(lost, [0.7] * 8), Limits(), 2, math.nan)
    assert state.advice.startswith("Its gradient reaches the last 10 of 40 time steps, and is 1e-09 of the largest at the first.")


def memory(samples=512, steps=40):
    """The class is the mark of the first step; the rest is noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, samples)
    x = 0.5 * rng.normal(size=(samples, steps, 3)).astype("float32")
    x[:, :, 2] = 0
    x[:, 0, 2], x[:, 0, 0] = 1, 2 * y - 1
    return x, y[:, None].astype("float32")


def test_of_a_gate_that_was_closed_at_first_less_is_asked():
    gate = Activation("rnn", "sigmoid", "forget gate", False, 0.0, 0.0, 0.0, 0.0, 0.04, True)
    snapshots = course(lost, [0.7] * 4)
    assert list(through_time_states(snapshots, Limits(), 2, math.nan)) == []
    snapshots[0] = replace(snapshots[0], activations=(gate,))
    (state,) = through_time_states(snapshots, Limits(), 2, math.nan)
    assert state.symptom == "vanishing_through_time"


def fit(layer, optimizer, epochs=10):
    keras.utils.set_random_seed(1)
    x, y = memory()
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Dense(1, "sigmoid", name="out")])
    model.compile(optimizer, "binary_crossentropy")
    monitor = SaturationMonitor(x, y, on_critical=None)
    history = model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=[monitor]).history
    return monitor.findings, history["loss"][-1]


def test_a_network_that_forgets_is_named_and_its_twin_that_remembers_is_not():
    weak = keras.initializers.Orthogonal(gain=0.3, seed=1)
    found, loss = fit(keras.layers.SimpleRNN(16, recurrent_initializer=weak, name="rnn"), keras.optimizers.SGD(0.1))
    assert loss > 0.6
    assert ("vanishing_through_time", "rnn") in {(f.symptom, f.layer) for f in found if f.severity == "critical"}
    identity = keras.initializers.Orthogonal(gain=1.0, seed=1)
    found, loss = fit(keras.layers.SimpleRNN(16, recurrent_initializer=identity, name="rnn"), keras.optimizers.Adam(3e-3))
    assert loss < 0.4
    assert [f for f in found if f.severity == "critical"] == []


@pytest.mark.parametrize(("forget", "expected"), [(-3.0, True), (1.0, False)])
def test_a_forget_gate_that_starts_closed_is_named(forget, expected):
    x, y = memory(64)
    layer = keras.layers.LSTM(8, name="lstm")
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, keras.layers.Dense(1, "sigmoid")])
    bias = layer.cell.bias.numpy() if hasattr(layer.cell.bias, "numpy") else np.array(layer.cell.bias)
    layer.cell.bias.assign(np.concatenate([bias[:8], np.full(8, forget, "float32"), bias[16:]]))
    model.compile("adam", "binary_crossentropy")
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    found = [f for f in monitor.findings if (f.symptom, f.layer) == ("poor_initialization", "lstm")]
    assert bool(found) == expected
    assert all(f.advice.startswith("Its forget gate starts at 0.0") and "unit_forget_bias=True" in f.advice for f in found)


def test_reports_keep_what_was_measured(tmp_path):
    from keras_ext.callbacks.monitor.report.json_report import from_json, to_json

    snapshot = replace(course(lost, [0.7])[0], loss=0.5)
    to_json(tmp_path / "run.json", [snapshot], [])
    assert from_json(tmp_path / "run.json")[0][0].recurrent == snapshot.recurrent
