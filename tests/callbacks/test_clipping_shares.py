"""The shares of clipped and skipped steps in each snapshot, against a count of the steps themselves."""

import math

import keras
import numpy as np
import pytest

from keras_ext.callbacks import ClippingLog, SaturationMonitor
from keras_ext.callbacks.clipping_log import ClippingShares, clipping_of
from keras_ext.optimizers import GradientClipping


def fitted(optimizer, *, epochs=2, steps_per_execution=1, bad=(), big=(), callbacks=(), **arguments):
    """Fit 8 steps an epoch; the gradient of those in `bad` is NaN, that of those in `big` is over the threshold, all others are 0."""
    x = np.zeros((32, 3), "float32")
    y = np.zeros((32, 1), "float32")
    for batch in big:
        x[4 * batch : 4 * batch + 4], y[4 * batch : 4 * batch + 4] = 1.0, 1e6
    for batch in bad:
        x[4 * batch] = np.nan
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    monitor = SaturationMonitor(np.ones((4, 3), "float32"), np.ones((4, 1), "float32"), on_critical=None, **arguments)
    history = model.fit(x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=[*callbacks, monitor]).history
    return [(snapshot.step, snapshot.clipped, snapshot.skipped) for snapshot in monitor.snapshots], history


def test_every_step_is_reported_in_the_snapshot_after_it():
    snapshots, _ = fitted(GradientClipping("sgd", threshold=1e-3), every=1, big=(1, 4), bad=(2, 7))
    assert snapshots[0][0] == 0
    assert all(math.isnan(share) for share in snapshots[0][1:])
    reported = {step: (clipped, skipped) for step, clipped, skipped in snapshots[1:]}
    assert sorted(reported) == list(range(1, 17))
    for step, shares in reported.items():
        batch = (step - 1) % 8
        assert shares == (float(batch in (1, 4)), float(batch in (2, 7))), step


def test_shares_are_of_the_steps_since_the_snapshot_before():
    snapshots, history = fitted(GradientClipping("sgd", threshold=1e-3), big=(0, 1, 4), bad=(2, 7), callbacks=[ClippingLog()])
    assert snapshots[1:] == [(1, 1.0, 0.0), (8, 2 / 7, 2 / 7), (16, 3 / 8, 2 / 8)]
    assert history["clipped_share"] == [3 / 6, 3 / 6]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras runs one step at a time on PyTorch")
def test_where_several_steps_run_at_once_too():
    snapshots, _ = fitted(GradientClipping("sgd", threshold=1e-3), every=4, steps_per_execution=4, big=(1, 4, 5), bad=(2, 7))
    assert snapshots[1:] == [(4, 1 / 4, 1 / 4), (8, 2 / 4, 1 / 4), (12, 1 / 4, 1 / 4), (16, 2 / 4, 1 / 4)]


def test_an_optimizer_that_was_used_before_counts_from_here():
    optimizer = GradientClipping("sgd", threshold=1e-3)
    x, y = np.ones((8, 3), "float32"), np.full((8, 1), 1e6, "float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    monitor = SaturationMonitor(x, y, on_critical=None)
    for _ in range(2):
        model.fit(x, y, batch_size=2, verbose=0, callbacks=[monitor])
        assert math.isnan(monitor.snapshots[0].clipped)
        assert [(snapshot.step, snapshot.clipped, snapshot.skipped) for snapshot in monitor.snapshots[1:]] == [(1, 1.0, 0.0), (4, 1.0, 0.0)]
    assert optimizer.steps == 8


def test_without_it_there_is_nothing_to_report():
    snapshots, _ = fitted(keras.optimizers.SGD())
    assert all(math.isnan(share) for snapshot in snapshots for share in snapshot[1:])


class Wrapper(keras.optimizers.Optimizer):
    """A wrapper of somebody else's."""

    def __init__(self, inner):
        super().__init__(learning_rate=0.0)
        self.inner_optimizer = inner


def test_it_is_found_inside_wrappers():
    clipping = GradientClipping("sgd")
    model = keras.Sequential()
    for optimizer in (clipping, keras.optimizers.LossScaleOptimizer(clipping), keras.optimizers.LossScaleOptimizer(Wrapper(clipping))):
        model.compile(optimizer, "mse")
        assert clipping_of(model) is clipping
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "mse")
    assert clipping_of(model) is None
    assert clipping_of(object()) is None


def test_snapshots_tell_it_under_a_loss_scale():
    optimizer = keras.optimizers.LossScaleOptimizer(GradientClipping("sgd", threshold=1e-3), initial_scale=2.0)
    snapshots, _ = fitted(optimizer, epochs=1, big=(0, 3))
    assert snapshots[1:] == [(1, 1.0, 0.0), (8, 1 / 7, 0.0)]


def test_over_no_steps_there_is_no_share():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(GradientClipping("sgd"), "mse")
    shares = ClippingShares()
    assert all(math.isnan(share) for _ in range(2) for share in shares.since_last(model))
