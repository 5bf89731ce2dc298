"""The records of trials, and their order."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor, StopAt
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


X = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
Y = X[:, :1]


def linear(hp):
    hp.Float("width", 0.0, 1.0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant([[0.1], [0.2]]))])
    model.compile(keras.optimizers.SGD(0.02), "mse", metrics=["mae"])
    return model


@pytest.mark.parametrize("together", ["auto", "off"])
@pytest.mark.parametrize(("patience", "reason"), [(0, "1 epoch"), (3, "3 epochs")])
def test_a_trial_that_early_stopping_ends_says_what_it_waited_for(tmp_path, patience, reason, together):
    tuner = keras_tuner.RandomSearch(linear, "val_loss", max_trials=2, seed=1, directory=tmp_path)
    watch(tuner, SaturationMonitor(X, Y, on_critical=None), seed=1, together=together)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=patience)
    # The better it learns, the further it is from what validation asks for.
    tuner.search(X, Y, validation_data=(X, -Y), epochs=6, verbose=0, callbacks=[stop])
    assert [record.ended for record in results(tuner)] == [f"val_loss no better for {reason}"] * 2
    assert [record.epochs for record in results(tuner)] == [max(patience, 1) + 1] * 2


@pytest.mark.parametrize("target", [{"below": 1e9}, {"above": 0.0}])
def test_a_trial_that_has_reached_its_target_says_so(tmp_path, target):
    tuner = keras_tuner.RandomSearch(linear, "val_loss", max_trials=2, directory=tmp_path)
    watch(tuner, SaturationMonitor(X, Y, on_critical=None))
    out_of_reach = StopAt("loss", below=-1.0)
    tuner.search(X, Y, validation_data=(X, Y), epochs=6, verbose=0, callbacks=[out_of_reach, StopAt("val_loss", **target)])
    reason = f"val_loss reached {next(iter(target.values())):g}"
    assert [(record.ended, record.epochs) for record in results(tuner)] == [(reason, 1)] * 2


def test_a_trial_that_another_callback_ends_says_so(tmp_path):
    class Ends(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    tuner = keras_tuner.RandomSearch(linear, "val_loss", max_trials=1, directory=tmp_path)
    watch(tuner, SaturationMonitor(X, Y, on_critical=None))
    stops = [keras.callbacks.EarlyStopping(name, patience=1) for name in ("val_loss", "val_mae")]
    tuner.search(X, Y, validation_data=(X, Y), epochs=6, verbose=0, callbacks=[*stops, Ends()])
    assert [(record.ended, record.epochs) for record in results(tuner)] == [("by another callback", 2)]
