"""When the monitor takes a snapshot: on whole fits, and step by step."""

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.snapshot_schedule import SnapshotSchedule


def snapshots_of(*, samples=64, epochs=2, steps_per_execution=1, initial_epoch=0, **arguments):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 4)).astype("float32")
    y = x[:, :1]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    monitor = SaturationMonitor(x, y, **arguments)
    model.fit(x, y, batch_size=4, epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=[monitor])
    return [(snapshot.step, snapshot.epoch, snapshot.is_regular) for snapshot in monitor.snapshots]


def test_before_the_first_step_early_in_the_first_epoch_and_at_the_end_of_each():
    assert snapshots_of() == [(0, 0, True), (1, 0, False), (10, 0, False), (16, 1, True), (32, 2, True)]


def test_where_the_epoch_ends_one_snapshot_is_enough():
    assert snapshots_of(samples=40) == [(0, 0, True), (1, 0, False), (10, 1, True), (20, 2, True)]


def test_every_so_many_steps():
    assert snapshots_of(every=6) == [(0, 0, True), *((6 * i, 6 * i // 16, True) for i in range(1, 6))]
    assert snapshots_of(every=16) == [(0, 0, True), (16, 1, True), (32, 2, True)]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras runs one step at a time on PyTorch")
def test_steps_that_run_at_once_are_rounded_up():
    assert snapshots_of(steps_per_execution=8) == [(0, 0, True), (8, 0, False), (16, 1, True), (32, 2, True)]


def test_a_fit_that_goes_on_goes_on_counting_without_early_snapshots():
    assert snapshots_of(epochs=4, initial_epoch=2) == [(32, 2, True), (48, 3, True), (64, 4, True)]


def due(every, steps, begin=0):
    rhythm = SnapshotSchedule(every, begin)
    return [step for step in steps if rhythm.is_due(step)]


def test_a_snapshot_is_due_at_the_first_moment_at_or_after_its_step():
    assert due("epoch", range(3000)) == [1, 10, 100, 1000]
    assert due("epoch", range(0, 3000, 7)) == [7, 14, 105, 1001]
    assert due("epoch", range(60, 200), begin=50) == [100]
    assert due(6, range(20)) == [6, 12, 18]
    assert due(6, range(0, 40, 4)) == [8, 12, 20, 24, 32, 36]
    assert due(6, range(9, 20), begin=8) == [12, 18]


def test_early_snapshots_end_and_those_of_the_rhythm_do_not():
    epochs, steps = SnapshotSchedule("epoch"), SnapshotSchedule(6)
    epochs.end_early_snapshots()
    steps.end_early_snapshots()
    assert not any(epochs.is_due(step) for step in range(3000))
    assert steps.is_due(6)
    assert (epochs.is_regular, steps.is_regular) == (False, True)


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "step"])
def test_another_rhythm_is_refused(every):
    with pytest.raises(ValueError) as caught:
        SnapshotSchedule(every)
    assert str(caught.value) == f'`every` must be "epoch" or a whole number of steps of at least 1, got {every!r}.'
