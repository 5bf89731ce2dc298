"""Models whose loss is known to their own `train_step` alone: what is seen of them, and what their logged losses say."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks import Limits, SaturationMonitor
from keras_ext.callbacks.monitor.probe.probe import Probe, knows_loss
from keras_ext.callbacks.monitor.rules.findings import examine
from keras_ext.callbacks.monitor.rules.logged import logged_states
from keras_ext.callbacks.monitor.snapshot import Logged, Snapshot


class Own(keras.Model):
    """Keeps its loss to itself."""

    def __init__(self, initializer="glorot_uniform"):
        super().__init__()
        self.net = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(16, "tanh", kernel_initializer=initializer, name="h1"),
                keras.layers.Dense(16, "tanh", kernel_initializer=initializer, name="h2"),
                keras.layers.Dense(1, name="out"),
            ],
            name="net",
        )

    def train_step(self, *arguments):
        raise NotImplementedError  # never run: the tests call the hooks of the monitor


class Called(Own):
    def call(self, x):
        return self.net(x)


def data():
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    return x, x[:, :1]


def watched(model, epochs, moving=None):
    """Return a monitor that saw a training: the losses of each epoch are logged, and the kernels of `moving` layers, or of all, move."""
    model.compile(keras.optimizers.SGD(0.01))
    monitor = SaturationMonitor(data()[0], on_critical=None)
    monitor.set_params({"epochs": len(epochs), "steps": 50})
    monitor.set_model(model)
    monitor.on_train_begin()
    for epoch, logs in enumerate(epochs):
        monitor.on_epoch_begin(epoch)
        for batch in range(50):
            monitor.on_train_batch_begin(batch)
        for layer in model.net.layers if moving is None else moving:
            layer.kernel.assign(1.01 * layer.kernel)
        monitor.on_epoch_end(epoch, dict(logs))
    return monitor


def critical(monitor):
    return {f.symptom for f in monitor.findings if f.severity == "critical"}


def test_whose_loss_is_known():
    class OwnLoss(Own):
        def compute_loss(self, *arguments, **named):
            return ops.zeros(())

    sequential = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    for model, known in ((sequential, True), (Own(), False), (Called(), False), (OwnLoss(), True)):
        model.compile("sgd")
        assert knows_loss(model) == known
    model = Own()
    model.compile("sgd", "mse")
    assert knows_loss(model)


@pytest.mark.parametrize("cls", [Own, Called])
def test_activations_and_weights_are_seen_with_a_call_and_without(cls):
    snapshot = Probe(cls(), (data()[0], None, None)).snapshot(0, 0)
    assert [(a.layer, a.kind) for a in snapshot.activations] == [("h1", "tanh"), ("h2", "tanh")]
    assert [w.layer for w in snapshot.kernels] == ["h1", "h2", "out"]
    assert snapshot.finite
    assert not snapshot.has_loss
    assert math.isnan(snapshot.loss)
    assert math.isnan(snapshot.kernels[0].gradient_norm)


def test_parts_that_take_other_inputs_do_not_run():
    x = np.ones((4, 3), "float32")
    assert Probe(Own(), (x, None, None)).snapshot(0, 0).activations == ()


def test_a_healthy_training_gets_no_finding_and_its_losses_are_kept():
    monitor = watched(Called(), [{"loss": 1.0 / (1 + i), "val_loss": 2.0} for i in range(6)])
    assert monitor.findings == []
    # What the first epoch cost stands for what the first weights did.
    assert [s.loss for s in monitor.snapshots if s.is_regular] == pytest.approx([1.0, 1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6])
    assert monitor.snapshots[-1].logged == (Logged("loss", 1 / 6),)


def test_saturated_layers_are_critical_while_the_logged_loss_stands():
    huge = keras.initializers.RandomNormal(stddev=30.0, seed=1)
    assert "poor_initialization" in critical(watched(Called(huge), [{"loss": 1.0}] * 4))


@pytest.mark.parametrize("name", ["loss", "d_loss"])
def test_a_logged_loss_of_nan_is_critical(name):
    monitor = watched(Called(), [{name: 1.0, "g_loss": 1.0}, {name: math.nan, "g_loss": 1.0}])
    assert critical(monitor) == {"non_finite"}


def course(*epochs):
    return [
        Snapshot(50 * i, i, math.nan, 0.5, (), (), has_loss=False, logged=tuple(Logged(*e) for e in epoch))
        for i, epoch in enumerate(epochs)
    ]


@pytest.mark.parametrize(
    ("first", "last", "symptoms"),
    [
        ({"d_loss": 0.7, "g_loss": 0.7}, {"d_loss": 1e-5, "g_loss": 12.0}, ["one_sided_losses"]),
        ({"d_loss": 0.7, "g_loss": 0.7}, {"d_loss": 0.1, "g_loss": 2.5}, []),
        ({"d_loss": 0.7, "g_loss": 20.0}, {"d_loss": 1e-5, "g_loss": 12.0}, []),  # the other falls too
        ({"loss": 0.7, "kl_loss": 3.0}, {"loss": 0.7, "kl_loss": 0.01}, ["constant_output"]),
        ({"loss": 0.7, "kl_loss": 3.0}, {"loss": 0.7, "kl_loss": 2.0}, []),
        ({"loss": 0.7, "aux_loss": 9.0}, {"loss": 1e-4, "aux_loss": 10.0}, []),  # parts of one loss
        ({"d_loss": 0.7, "g_loss": 0.7}, {"d_loss": 0.002, "g_loss": 0.004}, ["one_sided_losses"]),  # both cannot win
        ({"disc/loss": 0.7, "generator_loss": 0.7}, {"disc/loss": 0.002, "generator_loss": 0.004}, ["one_sided_losses"]),
        ({"d_loss": 0.7, "g_loss": 0.7}, {"d_loss": 0.002, "g_loss": 0.02}, []),
        ({"d_loss": 0.005, "g_loss": 0.005}, {"d_loss": 0.002, "g_loss": 0.004}, []),
        ({"student_loss": 0.7, "teacher_loss": 0.7}, {"student_loss": 0.002, "teacher_loss": 0.004}, []),
    ],
)
def test_what_logged_losses_say(first, last, symptoms):
    found = logged_states(course(first.items(), last.items()), Limits())
    assert [s.symptom for s in found] == symptoms


def test_of_two_networks_that_is_critical_which_lasts():
    won, even = {"d_loss": 1e-5, "g_loss": 12.0}.items(), {"d_loss": 0.7, "g_loss": 0.7}.items()
    found = []
    snapshots = course((), even, won, won, won)
    for i in range(1, len(snapshots) + 1):
        found += examine(snapshots[:i], Limits(), found)
    assert [(f.symptom, f.severity) for f in found] == [("one_sided_losses", "warning"), ("one_sided_losses", "critical")]


def test_a_latent_that_has_collapsed_is_critical_where_the_whole_loss_has_another_name():
    logs = [{"total": 1.0, "kl_loss": 0.01}] * 6
    assert critical(watched(Called(), logs)) == {"constant_output"}
    assert critical(watched(Called(), [{"total": 1.0, "kl_loss": 3.0}] * 6)) == set()


@pytest.mark.parametrize("name", ["loss", "total"])
def test_a_train_step_that_changes_no_kernel_is_critical(name):
    monitor = watched(Called(), [{name: 1.0}] * 6, moving=())
    (found,) = [f for f in monitor.findings if f.severity == "critical"]
    assert (found.symptom, found.layer) == ("unchanged_weights", None)
    assert "apply the gradients" in found.advice


def test_a_loss_that_rises_from_epoch_to_epoch_is_critical():
    assert critical(watched(Called(), [{"loss": 3.0**i} for i in range(8)])) == {"rising_loss"}


def test_a_step_that_leaves_most_layers_as_they_were_drawn_is_critical_and_a_trained_body_is_none():
    def findings(first_biases):
        model = Called()
        for layer in model.net.layers[:2]:
            layer.bias.assign(np.full(16, first_biases))
        monitor = watched(model, [{"loss": 1.0}] * 6, model.net.layers[-1:])
        return [(f.layer, f.advice) for f in monitor.findings if f.symptom == "unchanged_weights" and f.severity == "critical"]

    ((layer, advice),) = findings(0.0)
    assert layer == "h1"
    assert advice.startswith('The train_step leaves "h1", "h2" as they were drawn.')
    assert findings(0.5) == []


class Pair(keras.Model):
    """Two networks, such as generator and critic, whose train_step is its own."""

    def __init__(self):
        super().__init__()
        names = ("maker", "critic")
        self.nets = [
            keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(6)], name=name) for name in names
        ]

    def call(self, x):
        return self.nets[1](self.nets[0](x))

    def train_step(self, *arguments):
        raise NotImplementedError  # never run


@pytest.mark.parametrize("moving", [(0, 1), (1,), ()])
def test_a_network_that_the_step_leaves_as_it_was_drawn_is_named(moving):
    model = Pair()
    monitor = watched(model, [{"loss": 1.0}] * 6, [layer for place in moving for layer in model.nets[place].layers])
    found = [f for f in monitor.findings if f.symptom == "unchanged_weights"]
    if moving == (1,):
        assert [f.severity for f in found] == ["warning"]  # a target network stays for a while, too
        said = 'The train_step leaves all kernels of "maker" as they were drawn. If it is to learn, take its loss along a path without'
        assert found[0].advice.startswith(said)
    else:
        assert not any("all kernels of" in f.advice for f in found)
        assert (not found) == (moving == (0, 1))
