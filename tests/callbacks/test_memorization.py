"""Samples that a network learns by heart, and networks that overfit after they have learned something."""

import math

import keras
import numpy as np
import pytest

from keras_ext.callbacks import Limits, SaturationMonitor
from keras_ext.callbacks.monitor.probe.targets import Aim
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.rules.findings import examine
from keras_ext.callbacks.monitor.rules.memorization import memorization_states
from keras_ext.callbacks.monitor.snapshot import Logged, Output, Snapshot


def seen(validation, trained, training=None, baseline=1.0):
    """Return the values of the rule on a course of validations and the last loss in training."""
    snapshots = [
        Snapshot(50 * i, i, trained, 1.0, (), (), logged=(Logged("loss", trained),), validation=v) for i, v in enumerate(validation)
    ]
    return [round(s.value, 3) for s in memorization_states(snapshots, Limits(), training or Training(), baseline)]


def test_a_validation_that_was_never_better_than_a_constant_is_found():
    assert seen([math.nan, 1.3, 1.2, 1.5], 0.2) == [1.2]


@pytest.mark.parametrize(
    ("validation", "trained", "training", "baseline"),
    [
        ([math.nan, 1.3, 0.97, 1.5], 0.2, None, 1.0),  # it has once learned something
        ([math.nan, 1.3, 1.2, 1.5], 0.7, None, 1.0),  # the training has not
        ([math.nan] * 4, 0.2, None, 1.0),  # no validation
        ([math.nan, 1.3, 1.2, 1.5], 0.0, None, 1.0),  # weights of 0 leave out all samples
        ([math.nan, 1.3, 1.2, 1.5], 0.2, None, math.nan),  # nothing to compare with
        ([math.nan, 1.3, 1.2, 1.5], 0.2, Training(penalty=0.1), 1.0),  # penalties are in both losses
        ([math.nan, 1.3, 1.2, 1.5], 0.2, Training(moving=(("bn", 0.99),)), 1.0),  # moving statistics of 150 steps
    ],
)
def test_a_healthy_course_is_not(validation, trained, training, baseline):
    assert seen(validation, trained, training, baseline) == []


def test_validations_count_once_the_moving_statistics_are_the_datas():
    slow = Training(moving=(("bn", 0.99),))
    assert seen([math.nan, *[1.2] * 7], 0.2, slow) == [1.2]
    # The first five are left out: that they were no worse than a constant was by chance.
    assert seen([math.nan, *[0.5] * 5, 1.2, 1.3], 0.2, slow) == [1.2]


@pytest.mark.parametrize("is_random", [True, False])
def test_labels_that_do_not_belong_to_their_samples_are_critical(is_random):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 16)).astype("float32")
    y = (rng.random(400) < 0.5 if is_random else x[:, 0] + x[:, 1] > 0).astype("float32")[:, None]
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    monitor = SaturationMonitor(x[:200], y[:200], on_critical=None)
    model.fit(x[:200], y[:200], validation_data=(x[200:], y[200:]), epochs=30, batch_size=20, verbose=0, callbacks=[monitor])
    found = [f for f in monitor.findings if f.severity == "critical"]
    assert {f.symptom for f in found} == ({"memorization"} if is_random else set())
    if is_random:
        assert "belong together row by row" in found[0].advice


def test_late_in_a_training_less_shows_it():
    course = [math.nan, *[1.2] * 3]
    assert seen(course, 0.9, Training(planned=200.0)) == [1.2]
    assert seen(course, 0.96, Training(planned=200.0)) == []  # three validations say too little
    assert seen(course, 0.9, Training(planned=201.0)) == []


def test_late_in_a_training_validations_that_do_not_get_better_show_it():
    training = Training(planned=400.0)
    assert seen([math.nan, 1.0, 0.985, 1.1, 1.05, 1.02, 1.0], 0.98, training) == [0.985]
    assert seen([math.nan, 1.0, 0.985, 1.1, 1.05, 1.02, 0.984], 0.98, training) == []  # better than ever: it may leave a plateau
    assert seen([math.nan, 1.0, 0.979, 1.1, 1.05, 1.02, 1.0], 0.98, training) == []  # it has once learned something
    assert seen([math.nan, 1.0, 0.985, 1.1, 1.05, 1.02, 1.0], 1.01, training) == []  # the loss has not fallen at all
    assert seen([math.nan, 1.0, 0.985, 1.1, 1.05, 1.02, 1.0], 0.98, Training(planned=401.0)) == []  # not late yet


def test_validations_that_stand_late_in_a_training_are_critical_at_once():
    aims = (Aim("binary_crossentropy", False, 0.0, 1.0, 0.7, baseline=1.0, units=1),)
    output = Output(1, 0.1, 0.9, 0.0, 0.5, 0.5)
    course = []
    for i in range(11):
        logged, validation = Logged("loss", 1 - 0.01 * i), 1.0 + 0.01 * i if i else math.nan
        course.append(Snapshot(40 * i, i, logged.value, 0.5, (), (), outputs=(output,), logged=(logged,), validation=validation))
    found = {i: examine(course[: i + 1], Limits(), aims=aims, training=Training(planned=400.0)) for i in range(3, 11)}
    # Three quarters of the steps are taken after the eighth epoch.
    assert [i for i, each in found.items() if [f.severity for f in each if f.symptom == "memorization"] == ["critical"]] == [8, 9, 10]
