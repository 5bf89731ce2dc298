"""The records of trials, and their order."""

import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch
from keras_ext.search.records import Record, in_order

OUTCOMES = [
    {"val_accuracy": 0.9, "val_loss": 0.1},
    {"val_accuracy": 1.0, "val_loss": 0.5},
    {"val_accuracy": 1.0, "val_loss": 0.2},
    {"val_accuracy": 1.0, "val_loss": float("nan")},
    {"val_accuracy": 1.0, "val_loss": 0.3},
]


class Told(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, callbacks=(), **kwargs):
        trial.hyperparameters.Float("rate", 0.0, 1.0)
        return OUTCOMES[int(trial.trial_id)]


@pytest.mark.backend_free
def test_of_equal_scores_the_one_with_the_lower_loss_is_better(tmp_path):
    tuner = Told(lambda hp: hp.Float("rate", 0.0, 1.0), keras_tuner.Objective("val_accuracy", "max"), max_trials=5, directory=tmp_path)
    watch(tuner, SaturationMonitor(np.zeros((8, 2)), np.zeros(8)))
    tuner.search()
    found = results(tuner)
    assert [record.trial for record in found] == ["2", "4", "1", "3", "0"]
    assert [record.loss for record in found] == [0.2, 0.3, 0.5, None, 0.1]


@pytest.mark.backend_free
@pytest.mark.parametrize("direction", ["min", "max"])
def test_trials_without_a_score_are_last_and_those_without_a_loss_keep_their_order(direction):
    records = [Record(i, str(i), "COMPLETED", score, 1, 1.0, "", {}) for i, score in enumerate([None, 0.5, 0.5, 0.7])]
    first = ["1", "2", "3"] if direction == "min" else ["3", "1", "2"]
    assert [record.trial for record in in_order(records, direction)] == [*first, "0"]
