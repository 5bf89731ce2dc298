"""The first trials of a search: every value to choose from is tried early, whatever the seed."""

import collections

import keras_tuner
import numpy as np
import pytest

from keras_ext.search import MLP, OptunaTuner, choices
from keras_ext.search.tuners import evolution

pytestmark = pytest.mark.backend_free
SEEDS, TRIALS = 20, 20


class Nothing(OptunaTuner):
    """A search whose trials train nothing and are equally good."""

    def run_trial(self, trial, *args, **kwargs):
        return 0.0


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """All hyperparameters of the command's default space, which building its models shows."""
    space = MLP((64,), classes=10, samples=1000)
    return Nothing(space, space.objective, directory=tmp_path_factory.mktemp("space")).oracle.get_space()


def drawn(folder, known, sampler, seed, trials=TRIALS):
    hp = keras_tuner.HyperParameters.from_config(known.get_config())
    objective = keras_tuner.Objective("score", "max")
    tuner = Nothing(None, objective, sampler, max_trials=trials, seed=seed, hyperparameters=hp, directory=folder, project_name=str(seed))
    tuner.oracle.verbose = 0
    tuner.search()
    return [trial.hyperparameters.values for _, trial in sorted(tuner.oracle.trials.items())]


def test_twenty_random_trials_use_every_part_of_the_default_space(tmp_path, known):
    initializers = {name for activation in choices.ACTIVATIONS for name in choices.INITIALIZERS[activation]}
    for seed in range(SEEDS):
        values = drawn(tmp_path, known, "random", seed)
        assert len(values) == TRIALS
        assert {each["optimizer"] for each in values} == set(choices.LEARNING_RATES)
        assert {each[f"initializer_{each['activation']}"] for each in values} == initializers
        assert {each["normalization"] for each in values} == {"none", "batch"}
        assert {each["clipping"] for each in values} == set(choices.CLIPPINGS)
        assert {each["activation"] for each in values} == set(choices.ACTIVATIONS)
        assert {each["batch_size"] for each in values} == {16, 32, 64, 128}


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_each_value_has_its_share_of_the_first_trials(tmp_path, known, sampler):
    spaces = {hp.name: hp for hp in known.space}
    for seed in range(3):
        values = drawn(tmp_path, known, sampler, seed, 10)
        for name in ("activation", "optimizer", "batch_size", "units", "normalization", "clipping"):
            counts = collections.Counter(each[name] for each in values)
            assert min(counts[value] for value in spaces[name].values) == 10 // len(spaces[name].values), name


def test_different_seeds_draw_differently_and_the_same_seed_the_same(tmp_path, known):
    assert drawn(tmp_path / "a", known, "random", 1) == drawn(tmp_path / "b", known, "random", 1)
    assert drawn(tmp_path / "a", known, "random", 2)[1:] != drawn(tmp_path / "b", known, "random", 1)[1:]


def test_what_is_given_stays_and_the_rest_is_spread():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Choice("of_a", [1, 2, 3])
    hp.Float("rate", 0.0, 0.75, step=0.25)
    tried = []
    for i in range(12):
        tried.append(evolution.spread(hp.space, np.random.default_rng(i), tried, {"kind": "a"}))
    assert {each["kind"] for each in tried} == {"a"}
    assert set(collections.Counter(each["of_a"] for each in tried).values()) == {4}
    assert set(collections.Counter(each["rate"] for each in tried).values()) == {3}


def test_decimals_of_optuna_count_as_sums_of_steps():
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 0.0, 0.35, step=0.1)
    assert 0.3 not in hp.space[0].values
    for seed in range(10):
        drawn = evolution.spread(hp.space, np.random.default_rng(seed), [{"rate": value} for value in (0.0, 0.1, 0.3)])
        assert drawn["rate"] == 0.2
