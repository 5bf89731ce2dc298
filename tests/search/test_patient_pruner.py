"""The patient pruner: healthy trials that improve go on below the median, wherever the trials run; the others end there."""

import re

import keras
import keras_tuner
import numpy as np
import optuna
import places
import pytest
from places import in_turn

from keras_ext.search import GridSearch
from keras_ext.search.tuners.patient_pruner import PatientMedianPruner
from keras_ext.search.tuners.study import FINDINGS, TunerStudy

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X @ np.float32([[1.0], [2.0], [3.0]])
FIT = {"x": X, "y": Y, "batch_size": 32, "epochs": 4, "verbose": 0}
# Seven good rates; one that learns more slowly; and the same in a network that is dead but for its last bias.
RATES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.035, 0.002, 0.002]
SLOW, DEAD = 7, 8
# In the strides of a grid of nine, they come in this order.
IN_TURN = {"number": [0, 4, 8, 3, 7, 2, 6, 1, 5]}


class Network(keras_tuner.HyperModel):
    """A line through the origin, or a network of dead units."""

    def build(self, hp):
        number = hp.Int("number", 0, len(RATES) - 1)
        hidden = [keras.layers.Dense(8, "relu", bias_initializer=keras.initializers.Constant(-50.0))] if number == DEAD else []
        model = keras.Sequential([keras.Input((3,)), *hidden, keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(RATES[number]), "mse")
        return model


def make(folder):
    return GridSearch(Network(), "loss", max_trials=len(RATES), seed=1, directory=folder, project_name="p", values=IN_TURN)


@pytest.mark.parametrize("place", [places.here, places.in_children])
def test_a_healthy_trial_that_improves_goes_on_below_the_median(tmp_path, place):
    records = {record.hyperparameters["number"]: record for record in in_turn(place(make, tmp_path, FIT, "patient"))}
    medians = np.median([records[i].scores for i in range(SLOW)], axis=0)
    slow, dead = records[SLOW], records[DEAD]
    assert (slow.diagnosis, "dead relu" in dead.diagnosis) == ("nothing found", True)
    assert min(slow.scores[0], dead.scores[0]) > medians[0]
    assert (slow.epochs, slow.ended) == (4, "")
    assert re.fullmatch(r"pruned at epoch 1: above the median of \d trials, and unhealthy", dead.ended)
    assert dead.epochs == 1
    median = {r.hyperparameters["number"]: r for r in in_turn(places.here(make, tmp_path / "median", FIT, "median"))}
    assert [median[i].is_pruned for i in (SLOW, DEAD)] == [True, True]


def trial_of(study, scores, findings):
    trial = study.ask()
    for epoch, score in enumerate(scores, start=1):
        trial.report(score, epoch)
    trial.set_user_attr(FINDINGS, findings)
    return study._storage.get_trial(trial._trial_id)


@pytest.mark.parametrize(
    ("scores", "findings", "ends"),
    [
        ([0.1], [], False),
        ([0.1, 0.2, 0.3], [], False),
        ([0.1, 0.3, 0.2], [], False),  # the epoch before was the best
        ([0.3, 0.2, 0.1], [], True),
        ([0.1, 0.3, 0.2, 0.2], [], True),
        ([0.1, 0.2, 0.3], ["a finding"], True),
        ([0.3, 0.2, 0.9], [], False),
        ([0.3, 0.2, 0.9], ["a finding"], False),  # above the median
    ],
)
def test_which_trials_end(scores, findings, ends):
    study = optuna.create_study(direction="maximize")
    for k in range(5):
        study.add_trial(optuna.trial.create_trial(value=0.5 + k / 100, intermediate_values=dict.fromkeys(range(1, 6), 0.5 + k / 100)))
    assert PatientMedianPruner().prune(study, trial_of(study, scores, findings)) == ends


def test_a_trial_that_runs_again_has_no_findings_yet(tmp_path):
    tuner = places.here(make, tmp_path, FIT, "patient")
    study = TunerStudy(tuner, in_memory=True)
    trial = next(iter(tuner.oracle.trials.values()))
    again = keras_tuner.engine.trial.Trial(trial.hyperparameters, "again", "RUNNING")
    study.begin(again)
    study.finds(again, "a finding")
    assert study.report(again, 1, 1.0).user_attrs[FINDINGS] == ["a finding"]
    study.begin(again)
    assert not study.report(again, 1, 1.0).user_attrs[FINDINGS]
