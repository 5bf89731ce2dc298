"""Trials of several trainings (KerasTuner's `executions_per_trial`): their scores, their spread, and which trials differ."""

import itertools
import math

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch
from keras_ext.search.records import Record
from keras_ext.search.report.results import Results
from keras_ext.search.trial_report import TrialReport
from keras_ext.search.trial_run import note_epoch

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def build(hp):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2, "softmax")])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.1)), "sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize("together", ["auto", "off"])
def test_a_trial_has_the_mean_course_and_the_best_score_of_each_training(tmp_path, together):
    histories = []

    class Keeps(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.losses = []

        def on_epoch_end(self, epoch, logs=None):
            self.losses.append(logs["val_loss"])

        def on_train_end(self, logs=None):
            histories.append(self.losses)

        def __deepcopy__(self, memo):
            return type(self)()

    tuner = keras_tuner.RandomSearch(build, "val_loss", max_trials=1, executions_per_trial=3, seed=1, directory=tmp_path)
    watch(tuner, SaturationMonitor(X, Y, on_critical=None), seed=1, together=together)
    tuner.search(X, Y, validation_data=(X, Y), epochs=4, verbose=0, callbacks=[Keeps()])
    (record,) = results(tuner)
    assert np.shape(histories) == (3, 4)
    assert len({each[0] for each in histories}) == 3  # each has its own first weights
    np.testing.assert_allclose(record.scores, np.mean(histories, axis=0), rtol=1e-6)
    np.testing.assert_allclose(record.executions, np.min(histories, axis=1), rtol=1e-6)
    assert record.spread == pytest.approx(np.std(np.min(histories, axis=1), ddof=1))
    assert record.score == pytest.approx(np.mean(np.min(histories, axis=1)))
    assert (record.epochs, record.planned_epochs, record.ended) == (4, 4, "")
    assert "±" in str(next(iter(results(tuner).table().columns[2].cells)))


def test_trainings_of_several_lengths_and_without_a_score_are_kept():
    reported, executions = TrialReport(), []
    for scores in ([3.0, 1.0, 2.0], [5.0], [1.0, None]):
        for epoch, score in enumerate(scores):
            note_epoch(executions, reported, epoch, score, min)
    assert reported.scores == [3.0, None, 2.0]
    assert reported.executions == [1.0, 5.0, 1.0]
    assert reported.epochs == 3


def test_a_training_that_goes_on_counts_from_where_it_began():
    reported, executions = TrialReport(), []
    for epoch, score in ((0, 1.0), (1, 2.0), (0, 3.0), (1, 6.0)):
        note_epoch(executions, reported, epoch, score, max)
    assert reported.scores == [2.0, 4.0]
    assert reported.executions == [2.0, 6.0]


def records(*executions, direction="max", folds=0):
    found = [Record(i, str(i), "COMPLETED", sum(each) / len(each), 1, 0.0, "", {}, executions=each) for i, each in enumerate(executions, 1)]
    return Results(tuple(found), "score", direction, folds=folds)


def chance(a, b):
    """The probability of Welch's test (1947), by integrating Student's density."""
    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    t = abs(np.mean(a) - np.mean(b)) / math.sqrt(va + vb)
    n = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    scale = math.gamma((n + 1) / 2) / math.sqrt(n * math.pi) / math.gamma(n / 2)
    at = np.linspace(0, t, 100_001)
    return 1 - 2 * np.trapezoid(scale * (1 + at * at / n) ** (-(n + 1) / 2), at)


def test_the_first_trials_are_tied_until_one_differs():
    rng = np.random.default_rng(0)
    groups = [tuple(rng.normal(mean, 0.01, size=4).tolist()) for mean in (0.95, 0.949, 0.945, 0.93, 0.8)]
    groups = sorted(groups, key=lambda each: -sum(each))
    expected = next(i for i, each in enumerate(groups) if i and chance(groups[0], each) <= 0.05)
    assert 1 < expected < 5
    assert records(*groups).tied == expected
    assert f"the first {expected} apart" in records(*groups).table().caption


def test_trials_of_one_training_are_not_compared_and_equal_ones_are_tied():
    assert records((0.9,), (0.8,)).tied == 0
    assert records((0.9, 0.9), (0.9, 0.9), (0.8, 0.8)).tied == 2
    assert records((0.9, 0.91), (0.9,)).tied == 1
    assert Results((), "score").tied == 0


def by_signed_ranks(differences):
    """The probability of Wilcoxon's signed ranks (1945) to be as high as these, by counting all signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    found = ranks[np.array(differences) > 0].sum()
    return np.mean([ranks @ signs >= found for signs in itertools.product([0, 1], repeat=len(differences))])


@pytest.mark.parametrize("direction", ["max", "min"])
def test_folds_are_compared_in_pairs(direction):
    # Easy and hard folds differ more than the trials do: Welch's test cannot tell these apart.
    fold = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    sign = 1 if direction == "max" else -1
    rng = np.random.default_rng(2)
    trials = [tuple((sign * (fold - worse + rng.normal(0, 0.004, 6))).tolist()) for worse in (0.0, 0.001, 0.003, 0.02, 0.05)]
    best = np.array(trials[0])
    expected = next(i for i in range(1, 5) if by_signed_ranks(sign * (best - trials[i])) <= 0.05)
    found = records(*trials, direction=direction, folds=6)
    assert found.tied == expected
    assert 1 < expected < 5
    assert records(*trials, direction=direction).tied == 5
    assert found.table().caption == (
        f"each score is the mean of 6 folds; the folds do not tell the first {expected} apart (Wilcoxon's test, 5 %)"
    )
    # A trial that lacks folds is compared as repeated trainings are.
    assert records(trials[0], trials[4][:5], direction=direction, folds=6).tied == 2
    assert records((0.91, 0.92, 0.9), (0.1, 0.12), folds=3).tied == 1


def test_five_folds_are_needed_to_differ():
    best = [0.9, 0.91, 0.92, 0.93, 0.94]
    for folds, expected in ((4, 2), (5, 1)):
        worse = [score - 0.01 * i for i, score in enumerate(best[:folds], start=1)]
        assert records(tuple(best[:folds]), tuple(worse), folds=folds).tied == expected
    assert records((0.9,) * 5, (0.9,) * 5, (0.8,) * 5, folds=5).tied == 2
    # Equal scores speak for no trial.
    assert records((0.9, 0.9, 0.9, 0.9, 0.9), (0.9, 0.9, 0.9, 0.9, 0.8), folds=5).tied == 2
