"""A search over nuisance hyperparameters: each structure is tried with the same settings, and the structures are found by building."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext import layers
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import NuisanceSearch, results, watch
from keras_ext.search.together import stacked_program

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")
STRUCTURE = {"layers", "units_0", "units_1", "units_2", "last", "activation", "is_dropped", "optimizer"}
SETTING = {"learning_rate", "momentum", "l2", "dropout", "rho"}
OBJECTIVE = keras_tuner.Objective("score", "min")


def build(hp):
    model = keras.Sequential([keras.Input((6,))])
    activation = hp.Choice("activation", ["relu", "tanh"])
    last, count = hp.Int("last", 4, 16, step=4), hp.Int("layers", 1, 3)
    for i in range(count):
        units = hp.Int(f"units_{i}", 4, 16, step=4)
        model.add(
            keras.layers.Dense(units, activation, kernel_regularizer=keras.regularizers.L2(hp.Float("l2", 1e-5, 1e-2, sampling="log")))
        )
    if count == 3:
        model.add(keras.layers.Dense(last, activation))
    if hp.Boolean("is_dropped"):
        model.add(layers.Dropout(hp.Float("dropout", 0.0, 0.5, step=0.25), seed=1))
    model.add(keras.layers.Dense(2, "softmax"))
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    optimizer = hp.Choice("optimizer", ["sgd", "rmsprop"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        momentum = hp.Float("momentum", 0.0, 0.9)
    with hp.conditional_scope("optimizer", ["rmsprop"]):
        rho = hp.Float("rho", 0.5, 0.99)
    rule = keras.optimizers.SGD(rate, momentum=momentum) if optimizer == "sgd" else keras.optimizers.RMSprop(rate, rho=rho)
    model.compile(rule, "sparse_categorical_crossentropy")
    return model


class Valley(NuisanceSearch):
    """A search of numbers: its trials train no network."""

    def run_trial(self, trial, *args, **kwargs):
        values = trial.hyperparameters.values
        return {"score": abs(np.log10(values["learning_rate"]) + 2) + values["units_0"] / 100}


def searched(folder, structures=3, settings=4, kind=Valley, make=build, **kwargs):
    tuner = kind(make, OBJECTIVE, structures, settings, directory=folder, project_name="p", **{"seed": 1, **kwargs})
    tuner.search(verbose=0)
    return tuner


def values_of(tuner):
    return [trial.hyperparameters.values for _, trial in sorted(tuner.oracle.trials.items())]


def of(names, values):
    return {name: value for name, value in values.items() if name in names}


def test_the_hyperparameters_that_change_the_structure_are_found(tmp_path):
    tuner = searched(tmp_path)
    assert set(tuner.oracle.structure_hyperparameters) == STRUCTURE
    assert {hp.name for hp in tuner.oracle.get_space().space} == STRUCTURE | SETTING


def test_every_structure_has_the_same_settings(tmp_path):
    tuner = searched(tmp_path, structures=5, settings=4)
    names = set(tuner.oracle.structure_hyperparameters)
    values = values_of(tuner)
    structures = [values[i : i + 4] for i in range(0, 20, 4)]
    assert len(values) == 20
    for group in structures:
        assert all(of(names, each) == of(names, group[0]) for each in group)
    assert len({tuple(sorted(of(names, group[0]).items())) for group in structures}) == 5
    always = {"learning_rate", "l2"}
    for name in [*always, "momentum", "rho"]:
        settings = [[each[name] for each in group] for group in structures if name in group[0]]
        assert all(each == settings[0] for each in settings)
        assert len(set(settings[0])) == 4
    defaults = {hp.name: hp.default for hp in tuner.oracle.get_space().space}
    assert values[0] == of(values[0], defaults)
    assert all(group[0]["learning_rate"] == defaults["learning_rate"] for group in structures)


def test_settings_are_spread_evenly_on_the_scale_of_each_number(tmp_path):
    tuner = searched(tmp_path, structures=1, settings=17)
    places = [(np.log10(each["learning_rate"]) + 3) / 2 for each in values_of(tuner)[1:]]
    assert sorted(np.floor(np.array(places) * 16)) == list(range(16))


def test_structures_named_by_hand_need_no_model(tmp_path):
    def make(hp):
        built.append(1)
        return build(hp)

    built = []
    tuner = searched(tmp_path / "named", make=make, structure_hyperparameters=["units_0"])
    assert len(built) == 2  # KerasTuner's own
    assert len({each["units_0"] for each in values_of(tuner)}) == 3
    assert len({each["activation"] for each in values_of(tuner)}) == 2


def test_a_search_that_stopped_goes_on_with_the_same_draws(tmp_path):
    class Interrupted(Valley):
        def on_trial_end(self, trial):
            super().on_trial_end(trial)
            if trial.trial_id == "05":
                raise KeyboardInterrupt

    whole = searched(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "parts", kind=Interrupted)
    # The seed, too, is that of the search which began.
    again = searched(tmp_path / "parts", seed=None, overwrite=False)
    assert values_of(again) == values_of(whole)
    assert again.oracle.structure_hyperparameters == whole.oracle.structure_hyperparameters
    more = searched(tmp_path / "parts", structures=4, settings=9, overwrite=False)  # the settings are those of before
    assert values_of(more)[:12] == values_of(whole)
    assert len(values_of(more)) == 16


def test_trials_may_begin_before_others_end(tmp_path):
    whole = searched(tmp_path / "whole")
    tuner = Valley(build, OBJECTIVE, 3, 4, seed=1, directory=tmp_path / "at once", project_name="p")
    for i in range(12):
        assert tuner.oracle.create_trial(f"tuner{i}").status == "RUNNING"
    assert values_of(tuner) == values_of(whole)
    assert tuner.oracle.create_trial("tuner12").status == "STOPPED"


def test_a_search_ends_where_no_structure_is_left(tmp_path):
    def make(hp):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, hp.Choice("activation", ["relu", "tanh"]))])
        model.compile(keras.optimizers.SGD(hp.Float("learning_rate", 0.1, 1.0)), "mse")
        return model

    class Numbers(NuisanceSearch):
        def run_trial(self, trial, *args, **kwargs):
            return {"score": trial.hyperparameters.values["learning_rate"]}

    tuner = searched(tmp_path, structures=8, settings=3, kind=Numbers, make=make)
    assert [each["activation"] for each in values_of(tuner)] == ["relu"] * 3 + ["tanh"] * 3


def test_the_best_trial_of_each_structure(tmp_path):
    tuner = searched(tmp_path)
    best = results(tuner).by_structure()
    groups = [list(tuner.oracle.trials.values())[i : i + 4] for i in (0, 4, 8)]
    assert [record.score for record in best] == sorted(min(trial.score for trial in group) for group in groups)
    assert len(results(tuner).by_structure(["activation"])) == len({each["activation"] for each in values_of(tuner)})
    other = keras_tuner.RandomSearch(build, OBJECTIVE, directory=tmp_path, project_name="other")
    with pytest.raises(ValueError, match="`names` must be a list of hyperparameters, got None"):
        results(other).by_structure()


def test_watched_trials_of_one_structure_share_a_program(tmp_path, monkeypatch):
    monkeypatch.setattr(stacked_program, "_STEPS_WORTH_TRACING", 0)
    monkeypatch.setattr(stacked_program.StackedProgram, "_compare", lambda *_: None)

    def make(hp):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(hp.Int("units", 4, 16), "tanh"), keras.layers.Dense(2, "softmax")])
        rule = keras.optimizers.SGD(hp.Float("learning_rate", 1e-3, 1e-1, sampling="log"), momentum=hp.Float("momentum", 0.1, 0.9))
        model.compile(rule, "sparse_categorical_crossentropy")
        return model

    tuner = NuisanceSearch(make, "val_loss", 2, 4, seed=1, directory=tmp_path, project_name="p")
    watch(tuner, SaturationMonitor(X, Y, on_critical=None))
    tuner.search(X, Y, validation_data=(X, Y), epochs=2, verbose=0)
    assert tuner.oracle.structure_hyperparameters == ("units",)
    programs = [record.program for record in sorted(results(tuner), key=lambda record: record.number)]
    if keras.backend.backend() == "torch":
        assert all(program.startswith("shared by") for program in programs), programs
    else:
        assert programs == 2 * ["own", "shared", "shared", "shared"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"structures": 0}, ValueError, "`structures` must be a whole number of at least 1, got 0."),
        ({"settings": 1.5}, ValueError, "`settings` must be a whole number of at least 1, got 1.5."),
        ({"structure_hyperparameters": "units"}, TypeError, "`structure_hyperparameters` must be a list of names, or None, got 'units'."),
    ],
)
def test_bad_arguments_are_reported(arguments, error, message):
    with pytest.raises(error) as caught:
        NuisanceSearch(build, OBJECTIVE, **arguments)
    assert str(caught.value) == message


class Own(keras.Model):
    """A model whose structure no config describes."""


@pytest.mark.parametrize("reason", ["Own is a class of its own", "two models of the same values differ", "build returns no compiled model"])
def test_models_that_cannot_be_compared_are_reported(tmp_path, reason):
    def make(hp):
        hp.Float("learning_rate", 0.1, 1.0)
        made = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
        model = Own(made.inputs, made.outputs) if reason.startswith("Own") else made
        if not reason.startswith("build"):
            model.compile("sgd", lambda y, p: y - p if reason.startswith("two") else None)
        return model

    with pytest.raises(ValueError, match=f"cannot be found: {reason}.*Name them in `structure_hyperparameters`."):
        searched(tmp_path, make=make)
