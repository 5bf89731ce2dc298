"""Training loops of a user's own, which call those hooks of the callbacks that they like."""

import math

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X[:, :1]


def network(bias=0.0):
    hidden = keras.layers.Dense(8, "relu", bias_initializer=keras.initializers.Constant(bias), name="hidden")
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1, name="out")])


def step(model, rate=0.1):
    """Move the weights along the gradients of the squared error, written out by hand; return that error."""
    hidden, out = model.layers
    inside = keras.ops.convert_to_numpy(hidden(X))
    error = keras.ops.convert_to_numpy(out(inside)) - Y
    back = (error @ keras.ops.convert_to_numpy(out.kernel).T) * (inside > 0)
    for layer, before, after in ((out, inside, error), (hidden, X, back)):
        layer.kernel.assign(layer.kernel - rate * 2 * before.T @ after / len(X))
        layer.bias.assign(layer.bias - rate * 2 * after.mean(axis=0))
    return float((error**2).mean())


def epoch_end_alone(model, callback, epoch):
    step(model)
    callback.on_epoch_end(epoch, {})


def both_ends_of_an_epoch(model, callback, epoch):
    callback.on_epoch_begin(epoch)
    epoch_end_alone(model, callback, epoch)


def every_hook(model, callback, epoch):
    callback.on_epoch_begin(epoch)
    for batch in range(5):
        callback.on_train_batch_begin(batch)
        step(model)
        callback.on_train_batch_end(batch)
    callback.on_epoch_end(epoch, {})


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("loop", "steps"), [(epoch_end_alone, [1, 2, 3]), (both_ends_of_an_epoch, [0, 1, 2, 3]), (every_hook, [0, 1, 5, 10, 15])]
)
def test_a_loop_may_call_the_hooks_that_it_likes(loop, steps, compiled):
    model, monitor = network(-50.0), SaturationMonitor(X, Y, on_critical=None)
    if compiled:
        model.compile("sgd", "mse")
    monitor.set_model(model)
    for epoch in range(3):
        loop(model, monitor, epoch)
    assert [snapshot.step for snapshot in monitor.snapshots] == steps
    assert "dead_relu" in {finding.symptom for finding in monitor.findings}
    assert [snapshot.has_loss for snapshot in monitor.snapshots] == [compiled] * len(steps)


def test_no_steps_are_planned_where_no_number_of_epochs_is_told():
    monitor = SaturationMonitor(X, Y, on_critical=None)
    monitor.set_model(network())
    monitor.on_epoch_end(0, {})
    assert math.isnan(monitor._planned(1))
    monitor.set_params({"epochs": 3, "steps": 5})
    assert monitor._planned(1) == 15


class Guide(keras_tuner.HyperModel):
    """As KerasTuner's guide to custom training loops has it: the callbacks get the model and the ends of epochs alone."""

    def build(self, hp):
        return network(-50.0 if hp.Choice("kind", ["well", "dead"]) == "dead" else 0.0)

    def fit(self, hp, model, callbacks=None, **kwargs):
        for callback in callbacks:
            callback.set_model(model)
        losses = []
        for epoch in range(4):
            losses.append(step(model))
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_loss": losses[-1]})
        return min(losses)


@pytest.mark.parametrize("together", ["auto", 1, "off"])
def test_the_loop_of_kerastuners_guide_is_watched(tmp_path, together):
    objective = keras_tuner.Objective("my_loss", "min")
    tuner = watch(keras_tuner.GridSearch(Guide(), objective, directory=tmp_path), SaturationMonitor(X, Y), together=together)
    tuner.search(verbose=0)
    found = {record.hyperparameters["kind"]: record for record in results(tuner)}
    assert {kind: (record.status, record.epochs) for kind, record in found.items()} == dict.fromkeys(("well", "dead"), ("COMPLETED", 4))
    assert found["well"].symptoms == ()
    assert found["dead"].symptoms == ("unchanged_weights",)  # as no loss is known; the dead units are a warning
    for record in found.values():
        assert record.score == min(record.scores)
