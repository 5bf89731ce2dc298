"""A search as KerasTuner's guide for beginners writes one, with one more line: it shares programs and finds what it found before."""

from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch
from keras_ext.search.together import stacked_program

BACKEND = keras.backend.backend()


def data():
    """Return training and validation data as the guide prepares it: images in [0, 1] with a channel, and classes as vectors."""
    digits = load_digits()
    x = np.expand_dims(digits.images.astype("float32") / 16, -1)
    y = keras.utils.to_categorical(digits.target, 10)
    return x[:1200], y[:1200], x[1200:], y[1200:]


X_TRAIN, Y_TRAIN, X_VAL, Y_VAL = data()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Let programs take the steps from the first on, whatever time they take."""
    monkeypatch.setattr(stacked_program, "_STEPS_WORTH_TRACING", 0)
    monkeypatch.setattr(stacked_program.StackedProgram, "_compare", lambda *_: None)


def call_existing_code(units, activation, dropout, lr):
    model = keras.Sequential()
    model.add(keras.layers.Flatten())
    for width in units:
        model.add(keras.layers.Dense(units=width, activation=activation))
    if dropout:
        model.add(keras.layers.Dropout(rate=0.25))
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=lr), loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def build_model(hp):
    units = [hp.Int(f"units_{i}", min_value=32, max_value=512, step=32) for i in range(hp.Int("num_layers", 1, 3))]
    activation = hp.Choice("activation", ["relu", "tanh"])
    dropout = hp.Boolean("dropout")
    lr = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    return call_existing_code(units, activation, dropout, lr)


def searched(
    folder, together="auto", hypermodel: Any = build_model, objective: Any = "val_accuracy", kind=keras_tuner.RandomSearch, **arguments
):
    tuner = kind(
        hypermodel=hypermodel,
        objective=objective,
        **{"max_trials": 3, "executions_per_trial": 2, "overwrite": True, "seed": 1, **arguments},
        directory=folder,
        project_name="helloworld",
    )
    watch(tuner, SaturationMonitor(X_TRAIN, Y_TRAIN, on_critical=None), together=together)
    tuner.search_space_summary()
    tuner.search(X_TRAIN, Y_TRAIN, epochs=2, validation_data=(X_VAL, Y_VAL))
    return tuner


def scores(tuner):
    return {trial.trial_id: trial.score for trial in tuner.oracle.trials.values()}


def assert_shares(tuner):
    """The second execution of a trial has the structure of the first, whose program it takes over."""
    assert all(record.program.startswith("shared") for record in results(tuner))


def assert_same_search(tuner, alone):
    assert {record.program for record in results(alone)} == {"own"}
    ours, theirs = scores(tuner), scores(alone)
    assert ours.keys() == theirs.keys()
    for trial, score in theirs.items():
        assert ours[trial] == pytest.approx(score, abs=0.005), trial  # of 597 validation samples three
    values = [{name: trial.hyperparameters.values for name, trial in each.oracle.trials.items()} for each in (tuner, alone)]
    assert values[0] == values[1]


def test_the_search(tmp_path, capsys):
    tuner = searched(tmp_path / "shared")
    assert "num_layers (Int)" in capsys.readouterr().out
    assert_shares(tuner)
    assert_same_search(tuner, searched(tmp_path / "alone", together="off"))
    capsys.readouterr()
    tuner.results_summary()
    shown = capsys.readouterr().out
    assert "Showing 10 best trials" in shown
    assert f"Score: {max(scores(tuner).values())}" in shown


def test_the_best_models(tmp_path):
    tuner = searched(tmp_path)
    best, second = tuner.get_best_models(num_models=2)
    best.build(input_shape=(None, 8, 8, 1))
    assert second.built
    # The checkpoint is that of the best epoch of both executions, and the score is the mean of them.
    _, accuracy = best.evaluate(X_VAL, Y_VAL, verbose=0)
    assert accuracy >= tuner.oracle.get_best_trials(1)[0].score - 1e-6
    x_all, y_all = np.concatenate((X_TRAIN, X_VAL)), np.concatenate((Y_TRAIN, Y_VAL))
    model = build_model(tuner.get_best_hyperparameters(5)[0])
    assert model.fit(x=x_all, y=y_all, epochs=1, verbose=0).epoch == [0]


class ChoosesShuffling(keras_tuner.HyperModel):
    """The guide's class whose training has a hyperparameter, too."""

    def build(self, hp):
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(hp.Int("units", 32, 64, step=32), activation="relu")])
        model.add(keras.layers.Dense(10, activation="softmax"))
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, shuffle=hp.Boolean("shuffle"), **kwargs)


def test_a_hyperparameter_of_the_training(tmp_path):
    tuner = searched(tmp_path / "shared", hypermodel=ChoosesShuffling())
    assert "shuffle" in tuner.get_best_hyperparameters()[0].values
    assert_shares(tuner)
    assert_same_search(tuner, searched(tmp_path / "alone", together="off", hypermodel=ChoosesShuffling()))


class MeanError(keras.metrics.Metric):
    """The guide's metric of its own: the mean squared error of the classes."""

    def __init__(self, **kwargs):
        super().__init__(**{"name": "custom_metric", **kwargs})
        self.sum = self.add_weight(name="sum", initializer="zeros")
        self.count = self.add_weight(name="count", dtype="int32", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = keras.ops.argmax(y_true, axis=1)
        guesses = keras.ops.argmax(y_pred, axis=1)
        self.sum.assign_add(keras.ops.sum(keras.ops.square(keras.ops.cast(labels - guesses, "float32"))))
        self.count.assign_add(keras.ops.shape(y_pred)[0])

    def result(self):
        return self.sum / keras.ops.cast(self.count, "float32")

    def reset_state(self):
        self.sum.assign(0.0)
        self.count.assign(0)


def with_own_metric(hp):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-4, 1e-2, sampling="log")), "categorical_crossentropy", metrics=[MeanError()])
    return model


def test_an_objective_of_ones_own(tmp_path):
    objective = keras_tuner.Objective("val_custom_metric", direction="min")
    alone = searched(tmp_path / "alone", "off", with_own_metric, objective)
    tuner = searched(tmp_path / "shared", "auto", with_own_metric, objective)
    assert {trial: pytest.approx(score, rel=0.02) for trial, score in scores(alone).items()} == scores(tuner)


class Errors(keras_tuner.HyperModel):
    """The guide's class that evaluates the model itself and returns the objective."""

    def build(self, hp):
        return with_own_metric(hp)

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, **kwargs)
        guesses = model.predict(validation_data[0], verbose=0).argmax(1)
        return float((guesses != validation_data[1].argmax(1)).mean())


def test_a_training_that_returns_the_objective(tmp_path):
    alone = searched(tmp_path / "alone", "off", Errors(), None)
    tuner = searched(tmp_path / "shared", "auto", Errors(), None)
    assert {trial: pytest.approx(score, abs=0.005) for trial, score in scores(alone).items()} == scores(tuner)
