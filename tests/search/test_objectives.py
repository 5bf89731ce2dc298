"""An objective that no training logs ends the search at once, with the names there are; tuners with a `run_trial` of their own."""

import warnings

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def build(hp):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2, "softmax")])
    model.compile(keras.optimizers.SGD(hp.Float("rate", 0.01, 0.1)), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def watched(folder, objective, hypermodel=build, kind=keras_tuner.RandomSearch, **kwargs):
    tuner = kind(hypermodel, objective, max_trials=3, directory=folder)
    return watch(tuner, SaturationMonitor(X, Y), **kwargs)


@pytest.mark.parametrize("together", ["auto", "off"])
@pytest.mark.parametrize(
    ("name", "data", "fix"),
    [
        ("val_acc", {"validation_data": (X, Y)}, "Give 'val_accuracy'."),
        ("val_accuracy", {}, "Give `validation_data` to `search`."),
        ("auc", {}, "Compile the model with this metric."),
    ],
)
def test_a_name_that_no_training_logs_ends_the_search_after_an_epoch(tmp_path, together, name, data, fix):
    tuner = watched(tmp_path, keras_tuner.Objective(name, "max"), together=together)
    epochs = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    with pytest.raises(keras_tuner.errors.FatalValueError) as caught:
        tuner.search(X, Y, epochs=3, verbose=0, callbacks=[count], **data)
    begins, _, names = str(caught.value).partition(f", got '{name}'. ")[0].partition(", ")
    assert begins == "`objective` must be among what the trainings log"
    assert {"'accuracy'", "'loss'"} <= set(names.split(", "))
    assert str(caught.value).endswith(f", got '{name}'. {fix}")
    # Side by side another trial may have had its first epoch.
    assert set(epochs) == {0}


def test_every_part_of_several_objectives_must_be_there(tmp_path):
    parts = [keras_tuner.Objective("loss", "min"), keras_tuner.Objective("los", "min")]
    with pytest.raises(keras_tuner.errors.FatalValueError, match=r"got 'los'\. Give 'loss'\.$"):
        watched(tmp_path, parts).search(X, Y, epochs=2, verbose=0)


def test_a_callback_of_the_users_may_log_the_objective(tmp_path):
    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = float(epoch)

    tuner = watched(tmp_path, keras_tuner.Objective("score", "max"))
    tuner.search(X, Y, epochs=2, verbose=0, callbacks=[Logs()])
    assert [record.score for record in results(tuner)] == [1.0, 1.0, 1.0]


def test_a_fit_of_the_users_own_may_return_the_objective(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            super().fit(hp, model, *args, **kwargs)
            return {"score": hp.get("rate")}

    tuner = watched(tmp_path, keras_tuner.Objective("score", "max"), Own())
    tuner.search(X, Y, epochs=2, verbose=0)
    assert len(results(tuner)) == 3


def test_a_fit_of_the_users_own_without_the_objective_ends_the_search_after_its_trial(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, **kwargs)

    with pytest.raises(keras_tuner.errors.FatalValueError, match=r", got 'los'\. Give 'loss'\.$"):
        watched(tmp_path, keras_tuner.Objective("los", "min"), Own()).search(X, Y, epochs=2, verbose=0)


class Plain(keras_tuner.RandomSearch):
    """KerasTuner's documented way to tune what is no model.fit."""

    def run_trial(self, trial, x, y):
        return {"score": abs(trial.hyperparameters.get("a") - x.shape[1])}


def test_a_tuner_whose_trials_take_no_callbacks_runs_and_says_so_once(tmp_path):
    def space(hp):
        hp.Float("a", 0.0, 1.0)

    tuner = watched(tmp_path, keras_tuner.Objective("score", "min"), space, Plain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuner.search(X, Y)
    heard = [str(each.message) for each in caught if "run_trial" in str(each.message)]
    assert heard == ["Plain.run_trial takes no `callbacks`, so that its trials are not monitored. Add `callbacks` to its arguments."]
    assert [record.score for record in results(tuner)] == sorted(4 - record.hyperparameters["a"] for record in results(tuner))
