"""Optuna's samplers behind KerasTuner's interface: the same values, one record a trial, and the same search after a kill."""

import importlib.util
import json
import math
import warnings

import keras
import keras_tuner
import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_tuner.engine import hyperparameters as kinds
from optuna.storages.journal import JournalFileBackend

from keras_ext.search import OptunaTuner
from keras_ext.search.tuners.distributions import as_optuna, distribution, named
from keras_ext.search.tuners.journal import Journal
from keras_ext.search.tuners.samplers import SAMPLERS
from keras_ext.search.tuners.study import JOURNAL

pytestmark = pytest.mark.backend_free
SCORE = keras_tuner.Objective("score", "min")
STATES = optuna.trial.TrialState


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


@st.composite
def hyperparameters(draw):
    """Draw one of KerasTuner's hyperparameters and a test of whether it allows a value, written from KerasTuner's documentation."""
    kind = draw(
        st.sampled_from(["choice", "boolean", "fixed", "int", "int log", "int log step", "float", "float step", "float log", "reverse"])
    )
    low = draw(st.integers(1, 40))
    high = low + draw(st.integers(0, 200))
    step = draw(st.integers(1, 9))
    if kind == "choice":
        values = draw(st.lists(st.integers(-9, 9), min_size=1, unique=True) | st.lists(st.text("abc"), min_size=1, unique=True))
        return kinds.Choice("x", values), lambda v: v in values and type(v) is type(values[0])
    if kind == "boolean":
        return kinds.Boolean("x"), lambda v: v is True or v is False
    if kind == "fixed":
        value = draw(st.sampled_from([3, 0.5, "a", True]))
        return kinds.Fixed("x", value), lambda v: v == value and type(v) is type(value)
    if kind == "int":
        return kinds.Int("x", low - 20, high, step=step), lambda v: type(v) is int and v in range(low - 20, high + 1, step)
    if kind == "int log":
        return kinds.Int("x", low, high, sampling="log"), lambda v: type(v) is int and low <= v <= high
    if kind == "int log step":
        powers = [low * (step + 1) ** i for i in range(20) if low * (step + 1) ** i <= high]
        return kinds.Int("x", low, high, step=step + 1, sampling="log"), lambda v: type(v) is int and v in powers
    if kind == "float step":
        size = draw(st.sampled_from([0.1, 0.25, 0.3, 1.0, 1e-3]))
        hp = kinds.Float("x", low - 20.0, low - 20.0 + draw(st.integers(0, 50)) * size, step=size)
        return hp, lambda v: any(close(v, low - 20.0 + i * size) for i in range(51)) and (v < hp.max_value or close(v, hp.max_value))
    sampling = {"float": "linear", "float log": "log", "reverse": "reverse_log"}[kind]
    return kinds.Float("x", low / 7, high / 7, sampling=sampling), lambda v: type(v) is float and low / 7 <= v <= high / 7


@settings(max_examples=300, deadline=None)
@given(hyperparameters(), st.integers(0, 2**32 - 1), st.floats(0, 1, exclude_max=True))
def test_a_distribution_has_the_values_that_the_hyperparameter_allows_and_no_others(drawn, seed, place):
    hp, allows = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna's, where a range does not end on a step
        distribution(hp)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask({"x": distribution(hp)})
    assert allows(trial.params["x"])
    # And the other way: what KerasTuner would choose is what Optuna is told.
    value = hp.prob_to_value(place)
    params, distributions = as_optuna([hp], {"x": value})
    assert params["x"] == value or close(params["x"], value)
    study.add_trial(optuna.trial.create_trial(value=0.0, params=params, distributions=distributions))
    assert study.trials[-1].params == params


def test_a_value_that_the_space_does_not_allow_is_not_told():
    space = [kinds.Int("a", 0, 10, step=5), kinds.Choice("b", ["u", "v"]), kinds.Float("c", 0.0, 1.0), kinds.Boolean("d")]
    assert as_optuna(space, {"a": 4, "b": "w", "c": 1.5, "d": 1})[0] == {}
    assert as_optuna(space, {"a": 5, "b": "v", "c": 1.0, "d": True})[0] == {"a": 5, "b": "v", "c": 1.0, "d": True}


def test_hyperparameters_of_one_name_get_one_each_by_their_conditions():
    hp = keras_tuner.HyperParameters()
    hp.Choice("optimizer", ["sgd", "adam"])
    for name, values in {"sgd": [0.1, 0.2], "adam": [1, 2]}.items():
        with hp.conditional_scope("optimizer", [name]):
            hp.Choice("rate", values)
    assert [name for name, _ in named(hp.space)] == ["optimizer", "rate", "rate (optimizer=adam)"]
    assert as_optuna(hp.space, {"optimizer": "adam", "rate": 2})[0] == {"optimizer": "adam", "rate (optimizer=adam)": 2}


def space(hp):
    hp.Int("width", 2, 64)
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Choice("momentum", [0.0, 0.5, 0.9])
    hp.Float("dropout", 0.0, 0.5, step=0.1)
    hp.Boolean("bias")
    hp.Fixed("depth", 3)


class Valley(OptunaTuner):
    """A search of numbers, without networks."""

    def run_trial(self, trial, *args, **kwargs):
        values = trial.hyperparameters
        return (values.get("width") - 40) ** 2 / 100 + abs(math.log10(values.get("rate")) + 2) + values.get("dropout")


def searched(folder, trials, sampler="tpe", tuner=Valley, build=space, **kwargs):
    found = tuner(build, SCORE, sampler, max_trials=trials, seed=1, directory=folder, project_name="p", **kwargs)
    found.search(verbose=0)
    return found


def trials_of(tuner):
    return sorted(tuner.oracle.trials.values(), key=lambda trial: int(trial.trial_id))


needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="a Gaussian process needs PyTorch")
EACH = [pytest.param(name, marks=needs_torch) if name == "gp" else name for name in SAMPLERS]


@pytest.mark.parametrize("sampler", EACH)
def test_a_search_goes_on_as_if_never_interrupted_and_its_study_has_the_values_that_were_tried(tmp_path, sampler):
    whole = searched(tmp_path / "whole", 14, sampler)
    for trials in (3, 9, 14):
        parts = searched(tmp_path / "parts", trials, sampler)
    assert [(t.hyperparameters.values, t.score) for t in trials_of(parts)] == [
        (t.hyperparameters.values, t.score) for t in trials_of(whole)
    ]
    for tuner in (whole, parts):
        study = tuner.oracle.trial_study.study
        assert [t.params for t in study.trials] == [t.hyperparameters.values for t in trials_of(tuner)]
        assert [t.value for t in study.trials] == [t.score for t in trials_of(tuner)]
        assert {t.state for t in study.trials} == {STATES.COMPLETE}
    first = trials_of(whole)[0].hyperparameters.values
    assert first == {"width": 2, "rate": 1e-4, "optimizer": "sgd", "momentum": 0.0, "dropout": 0.0, "bias": False, "depth": 3}


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", pytest.param("gp", marks=needs_torch)])
def test_a_sampler_that_learns_finds_better_values_than_a_random_one(tmp_path, sampler):
    def median(kind):
        return np.median([trial.score for trial in trials_of(searched(tmp_path / kind, 40, kind))[20:]])

    assert median(sampler) < 0.6 * median("random")


def test_an_optuna_sampler_is_taken_as_it_is(tmp_path):
    study = searched(tmp_path, 3, optuna.samplers.RandomSampler(seed=3)).oracle.trial_study.study
    assert isinstance(study.sampler, optuna.samplers.RandomSampler)
    assert len(study.trials) == 3


def small(hp):
    hp.Choice("width", [1, 2, 3])
    hp.Boolean("bias")


class Flat(OptunaTuner):
    """All of its trials are equally good."""

    def run_trial(self, trial, *args, **kwargs):
        return 0.0


@pytest.mark.parametrize("kind", [optuna.samplers.BruteForceSampler, optuna.samplers.GridSampler])
def test_a_sampler_of_a_grid_ends_the_search(tmp_path, kind):
    grid = () if kind is optuna.samplers.BruteForceSampler else ({"width": [1, 2, 3], "bias": [True, False]},)
    tuner = searched(tmp_path, 50, kind(*grid, seed=1), tuner=Flat, build=small)
    assert len({tuple(t.hyperparameters.values.values()) for t in tuner.oracle.trials.values()}) == len(tuner.oracle.trials) == 6


def test_a_space_is_tried_through_without_repeating_and_then_the_search_ends(tmp_path):
    tuner = searched(tmp_path, 50, tuner=Flat, build=small)
    assert len({tuple(t.hyperparameters.values.values()) for t in tuner.oracle.trials.values()}) == len(tuner.oracle.trials) == 6
    states = [t.state for t in tuner.oracle.trial_study.study.trials]
    assert states.count(STATES.COMPLETE) == 6
    assert set(states) == {STATES.COMPLETE, STATES.FAIL}


@pytest.mark.parametrize("sampler", EACH)
def test_each_structure_has_several_settings(tmp_path, sampler):
    names = ["width", "optimizer", "bias"]
    tuner = searched(tmp_path, 12, sampler, trials_per_structure=4, structure_hyperparameters=names)
    values = [trial.hyperparameters.values for trial in trials_of(tuner)]
    # Those that were asked for again are failed ones.
    assert [{**each} for each in values] == [t.params for t in tuner.oracle.trial_study.study.trials if t.state != STATES.FAIL]
    groups = [values[i : i + 4] for i in range(0, 12, 4)]
    for group in groups:
        assert all([each[name] for name in names] == [group[0][name] for name in names] for each in group)
        assert len({each["rate"] for each in group}) == 4
    assert len({group[0]["width"] for group in groups}) > 1


@pytest.mark.parametrize("sampler", EACH)
def test_a_strength_is_zero_in_all_trials_of_a_structure_or_in_none(tmp_path, sampler):
    tuner = searched(tmp_path, 40, sampler, trials_per_structure=4, structure_hyperparameters=["width"])
    values = [trial.hyperparameters.values for trial in trials_of(tuner)]
    assert [{**each} for each in values] == [t.params for t in tuner.oracle.trial_study.study.trials if t.state != STATES.FAIL]
    groups = [values[i : i + 4] for i in range(0, 40, 4)]
    zeros = [{each["dropout"] == 0 for each in group} for group in groups]
    assert {True} in zeros  # that of the defaults
    assert {False} in zeros
    assert {True, False} not in zeros
    assert len({each["dropout"] for each in values}) >= 5


def test_a_search_of_settings_goes_on_as_if_never_interrupted(tmp_path):
    arguments = {"trials_per_structure": 4, "structure_hyperparameters": ["width", "optimizer"]}
    whole = searched(tmp_path / "whole", 14, **arguments)
    for trials in (3, 9, 14):
        parts = searched(tmp_path / "parts", trials, **arguments)
    assert [t.hyperparameters.values for t in trials_of(parts)] == [t.hyperparameters.values for t in trials_of(whole)]


def test_a_structure_without_settings_is_tried_once(tmp_path):
    class Names(OptunaTuner):
        def run_trial(self, trial, *args, **kwargs):
            return float(trial.hyperparameters.get("width"))

    tuner = searched(
        tmp_path, 12, "random", Names, lambda hp: hp.Int("width", 1, 3), trials_per_structure=4, structure_hyperparameters=["width"]
    )
    assert sorted(t.hyperparameters.get("width") for t in trials_of(tuner)) == [1, 2, 3]


def test_trials_that_fail_or_find_hyperparameters_are_told(tmp_path):
    class Finding(OptunaTuner):
        def run_trial(self, trial, *args, **kwargs):
            if trial.hyperparameters.Int("late", 1, 5) and int(trial.trial_id) == 2:
                raise ValueError("it broke")
            return 1.0

    study = searched(tmp_path, 5, tuner=Finding).oracle.trial_study.study
    assert [t.state for t in study.trials] == [STATES.COMPLETE] * 2 + [STATES.FAIL] + [STATES.COMPLETE] * 2
    assert all("late" in t.params for t in study.trials)
    assert "it broke" in study.trials[2].user_attrs["ended"]


def test_a_trial_that_is_tried_again_has_one_record(tmp_path):
    class Shaky(OptunaTuner):
        times = 0

        def run_trial(self, trial, *args, **kwargs):
            self.times += 1
            if self.times == 2:
                raise ValueError("once")
            return 1.0

    study = searched(tmp_path, 3, tuner=Shaky, max_retries_per_trial=1).oracle.trial_study.study
    assert [t.state for t in study.trials] == [STATES.COMPLETE] * 3


def test_workers_ask_at_the_same_time(tmp_path):
    oracle = Valley(space, SCORE, max_trials=9, seed=1, directory=tmp_path).oracle
    running = [oracle.create_trial(f"t{i}") for i in range(9)]
    assert oracle.create_trial("t9").status == "STOPPED"
    for i, trial in enumerate(reversed(running)):
        oracle.update_trial(trial.trial_id, {"score": float(i)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert [t.value for t in oracle.trial_study.study.trials] == [float(i) for i in reversed(range(9))]


def test_a_journal_cut_off_anywhere_becomes_whole_again(tmp_path):
    expected = [t.hyperparameters.values for t in trials_of(searched(tmp_path, 4))]
    journal = tmp_path / "p" / JOURNAL
    written = journal.read_bytes()
    for size in range(0, len(written), 97):
        journal.write_bytes(written[:size])
        journal.with_name(f"{JOURNAL}.lock").touch()  # which a killed process leaves behind
        study = Valley(space, SCORE, max_trials=4, seed=1, directory=tmp_path, project_name="p").oracle.trial_study.study
        known = {t.user_attrs["trial"]: t for t in study.trials if t.state == STATES.COMPLETE}
        assert [known[name].params for name in sorted(known)] == expected
        assert not [t for t in study.trials if t.state in (STATES.RUNNING, STATES.WAITING)]
    for line in journal.read_bytes().splitlines():
        json.loads(line)


def test_a_journal_knows_what_others_write(tmp_path):
    path = tmp_path / JOURNAL
    journal, other = Journal(path), JournalFileBackend(str(path))
    assert list(journal.read_logs(0)) == []
    entries = [{"n": n} for n in range(6)]
    journal.append_logs(entries[:1])
    assert list(journal.read_logs(0)) == entries[:1]
    assert list(journal.read_logs(1)) == []
    other.append_logs(entries[1:3])
    assert list(journal.read_logs(1)) == entries[1:3]
    with journal.in_one_write():
        journal.append_logs(entries[3:4])
        assert list(journal.read_logs(3)) == entries[3:4]
        assert list(other.read_logs(0)) == entries[:3]
        journal.append_logs(entries[4:5])
        assert list(journal.read_logs(4)) == entries[4:5]
    assert list(journal.read_logs(5)) == []
    other.append_logs(entries[5:])
    assert list(journal.read_logs(5)) == entries[5:]
    assert list(journal.read_logs(0)) == entries == list(other.read_logs(0))


def test_a_trial_that_was_chosen_before_a_kill_is_the_next(tmp_path):
    searched(tmp_path, 3, "qmc")
    # As if killed before KerasTuner had written the trial.
    chosen = Valley(space, SCORE, "qmc", max_trials=9, seed=1, directory=tmp_path, project_name="p").oracle.populate_space("3")["values"]
    tuner = searched(tmp_path, 12, "qmc")
    assert trials_of(tuner)[3].hyperparameters.values == chosen
    study = tuner.oracle.trial_study.study
    assert [t.state for t in study.trials] == [STATES.COMPLETE] * 12
    assert [t.user_attrs["trial"] for t in study.trials][2:5] == ["2", "03", "04"]


def test_a_database_holds_the_study_where_the_dashboard_finds_it(tmp_path):
    url = f"sqlite:///{tmp_path / 'search.db'}"
    searched(tmp_path, 3, storage=url)
    searched(tmp_path, 5, storage=url)
    (name,) = optuna.get_all_study_names(url)
    assert name == str(tmp_path / "p")
    assert len(optuna.load_study(study_name=name, storage=url).trials) == 5
    searched(tmp_path, 2, storage=url, overwrite=True)
    assert len(optuna.load_study(study_name=name, storage=url).trials) == 2


def test_bad_arguments_are_reported_in_a_line(tmp_path):
    with pytest.raises(ValueError, match=r"^`sampler` must be one of 'tpe', 'gp', 'cmaes', 'qmc', 'random', got 'annealing'\.$"):
        OptunaTuner(space, SCORE, "annealing", directory=tmp_path)
    with pytest.raises(TypeError, match=r"^`sampler` must be one of 'tpe', .*, or an Optuna sampler, got 3\.$"):
        OptunaTuner(space, SCORE, 3, directory=tmp_path)
    for bad in ("", "search.db"):
        with pytest.raises(ValueError, match=r'^`storage` must be a URL such as "sqlite:///search.db", .*, got'):
            Valley(space, SCORE, storage=bad, directory=tmp_path)
    tuner = Valley(space, SCORE, storage="sqlite:////nowhere/search.db", directory=tmp_path)
    with pytest.raises(ValueError, match=r"^`storage` must be .* opened, got 'sqlite:////nowhere/search.db'\. OperationalError: [^\n]*$"):
        tuner.search(verbose=0)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_a_gaussian_process_without_pytorch_is_reported(tmp_path):
    with pytest.raises(ValueError, match=r"another one where PyTorch is not installed, got 'gp'\. Install it with: pip install keras-ext"):
        OptunaTuner(space, SCORE, "gp", directory=tmp_path)


def test_nothing_of_optuna_is_imported_before_it_is_used():
    import subprocess
    import sys

    code = "import sys, keras_ext, keras_ext.search, keras_ext.commands.search; print('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_networks_of_a_search_train(tmp_path):
    def build(hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 8)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    tuner = OptunaTuner(build, "loss", max_trials=2, seed=0, directory=tmp_path)
    tuner.search(np.zeros((8, 2)), np.zeros((8, 1)), epochs=1, verbose=0)
    assert [t.value for t in tuner.oracle.trial_study.study.trials] == [t.score for t in trials_of(tuner)]
    assert tuner.oracle.seed == 0
