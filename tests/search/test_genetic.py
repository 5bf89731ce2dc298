"""The genetic search: what children are made of, and a search that goes on where it stopped."""

import math
from collections import Counter

import keras_tuner
import numpy as np
import pytest

from keras_ext._backend import keras_private
from keras_ext.search import GeneticOracle, GeneticTuner
from keras_ext.search.tuners import evolution

pytestmark = pytest.mark.backend_free

SCORE = keras_tuner.Objective("score", "max")


def declare(hp):
    """A space of every type, with two levels of conditions."""
    hp.Choice("activation", ["relu", "tanh", "sigmoid"])
    with hp.conditional_scope("activation", ["relu"]):
        hp.Choice("initializer_relu", ["he_normal", "he_uniform"])
    with hp.conditional_scope("activation", ["tanh", "sigmoid"]):
        hp.Choice("initializer", ["xavier", "lecun", "orthogonal"])
    hp.Int("layers", 1, 8)
    hp.Float("learning_rate", 1e-5, 1.0, sampling="log", default=1e-3)
    hp.Float("dropout", 0.0, 0.5, step=0.1)
    hp.Choice("units", [16, 32, 64, 128], default=64)
    hp.Choice("optimizer", ["adam", "sgd"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Boolean("nesterov")
        with hp.conditional_scope("nesterov", [True]):
            hp.Float("momentum", 0.5, 0.99)
    hp.Fixed("loss", "mse")


def space():
    hp = keras_tuner.HyperParameters()
    declare(hp)
    return hp.space


def active_names(values):
    """Return the hyperparameters of `declare` that `values` make active, written out by hand."""
    names = {"activation", "layers", "learning_rate", "dropout", "units", "optimizer", "loss"}
    names.add("initializer_relu" if values["activation"] == "relu" else "initializer")
    if values["optimizer"] == "sgd":
        names |= {"nesterov"} | ({"momentum"} if values["nesterov"] else set())
    return names


def assert_valid(values):
    assert set(values) == active_names(values)
    assert values["activation"] in ("relu", "tanh", "sigmoid")
    assert values["optimizer"] in ("adam", "sgd")
    assert values["layers"] in range(1, 9)
    assert values["units"] in (16, 32, 64, 128)
    assert 1e-5 <= values["learning_rate"] <= 1
    assert values["loss"] == "mse"
    assert min(abs(values["dropout"] - k / 10) for k in range(6)) < 1e-9
    if "initializer" in values:
        assert values["initializer"] in ("xavier", "lecun", "orthogonal")
    if "momentum" in values:
        assert 0.5 <= values["momentum"] <= 0.99


def test_the_defaults_are_those_of_the_space():
    assert evolution.defaults(space()) == {
        "activation": "relu", "initializer_relu": "he_normal", "layers": 1, "learning_rate": 1e-3, "dropout": 0.0, "units": 64,
        "optimizer": "adam", "loss": "mse",
    }  # fmt: skip


def test_random_values_cover_the_space_evenly_on_its_own_scale():
    rng = np.random.default_rng(0)
    drawn = [evolution.at_random(space(), rng) for _ in range(2000)]
    for values in drawn:
        assert_valid(values)
    for name, count in (("activation", 3), ("layers", 8), ("units", 4), ("optimizer", 2)):
        share = np.array(list(Counter(v[name] for v in drawn).values())) / len(drawn)
        assert len(share) == count
        # Five standard deviations of a binomial share.
        assert np.abs(share - 1 / count).max() < 5 * math.sqrt(1 / count * (1 - 1 / count) / len(drawn))
    logs = np.log10([v["learning_rate"] for v in drawn])
    assert abs(logs.mean() + 2.5) < 5 * 5 / math.sqrt(12 * len(drawn))


def test_a_child_has_each_value_from_one_of_its_parents():
    rng = np.random.default_rng(0)
    taken = Counter()
    for _ in range(300):
        parents = [evolution.at_random(space(), rng) for _ in range(2)]
        child = evolution.crossed(space(), parents, rng)
        assert_valid(child)
        for name, value in child.items():
            known = [p[name] for p in parents if name in p]
            assert not known or value in known
            if len(known) == 2 and known[0] != known[1]:
                taken[value == known[0]] += 1
    assert abs(taken[True] - taken[False]) < 5 * math.sqrt(sum(taken.values()))


def test_a_child_of_one_parent_is_its_copy():
    rng = np.random.default_rng(0)
    for _ in range(50):
        parent = evolution.at_random(space(), rng)
        assert evolution.crossed(space(), [parent], rng) == parent
        assert evolution.mutated(space(), parent, [], rng) == parent


@pytest.mark.parametrize("name", ["activation", "layers", "learning_rate", "dropout", "units", "optimizer"])
def test_a_mutation_changes_what_it_names_and_what_hangs_on_it(name):
    rng = np.random.default_rng(0)
    for _ in range(100):
        parent = evolution.at_random(space(), rng)
        child = evolution.mutated(space(), parent, [name], rng)
        assert_valid(child)
        assert child[name] != parent[name]
        conditional = {"initializer", "initializer_relu", "nesterov", "momentum"}
        assert {k for k in set(child) & set(parent) if child[k] != parent[k]} - conditional == {name}


def test_numbers_mutate_to_near_ones_on_their_own_scale():
    rng, hp = np.random.default_rng(0), keras_tuner.HyperParameters()
    hp.Float("rate", 1e-5, 1.0, sampling="log")
    steps = [math.log10(evolution.another(hp.space[0], 10**-2.5, rng)) + 2.5 for _ in range(2000)]
    assert abs(np.std(steps) / (5 * evolution.SIGMA) - 1) < 0.1
    assert abs(np.mean(steps)) < 5 * 5 * evolution.SIGMA / math.sqrt(2000)


def test_what_has_one_value_cannot_change():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("a", 1)
    hp.Choice("b", ["x"])
    hp.Int("c", 3, 3)
    hp.Boolean("d")
    hp.Float("e", 0.0, 1.0)
    assert [evolution.can_change(each) for each in hp.space] == [False, False, False, True, True]
    assert evolution.another(hp.space[1], "x", np.random.default_rng(0)) == "x"


def test_a_value_of_another_condition_is_not_taken_over():
    def build(hp):
        hp.Choice("kind", ["small", "large"])
        with hp.conditional_scope("kind", ["small"]):
            hp.Int("units", 1, 9)
        with hp.conditional_scope("kind", ["large"]):
            hp.Int("units", 100, 900)

    hp, rng = keras_tuner.HyperParameters(), np.random.default_rng(0)
    build(hp)
    for _ in range(50):
        child = evolution.mutated(hp.space, {"kind": "small", "units": 5}, ["kind"], rng)
        assert child["kind"] == "large"
        crossed = evolution.crossed(hp.space, [{"kind": "small", "units": 5}, {"kind": "large", "units": 500}], rng)
        assert crossed["units"] == (5 if crossed["kind"] == "small" else 500)
        assert 100 <= child["units"] <= 900


# The oracle.


def oracle_in(folder, **kwargs):
    class Nothing(GeneticTuner):
        def run_trial(self, trial, *args, **kwargs):
            return 0.0

    arguments = {"max_trials": 60, "seed": 3, "population_size": 8, "tournament_size": 3, **kwargs}
    return Nothing(declare, SCORE, directory=folder, project_name="p", overwrite=False, **arguments).oracle


def score_of(values):
    """Best at tanh, 5 layers, rate 1e-2."""
    return -abs(math.log10(values["learning_rate"]) + 2) - abs(values["layers"] - 5) / 4 - (values["activation"] != "tanh")


def step(oracle, score=score_of):
    trial = oracle.create_trial("t")
    if trial.status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"score": score(trial.hyperparameters.values)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return trial


def test_the_first_trial_has_the_defaults_and_every_one_is_new_and_valid(tmp_path):
    oracle = oracle_in(tmp_path)
    trials = [step(oracle) for _ in range(40)]
    assert trials[0].hyperparameters.values == evolution.defaults(space())
    values = [tuple(sorted(t.hyperparameters.values.items())) for t in trials]
    assert len(set(values)) == 40
    for trial in trials:
        assert_valid(trial.hyperparameters.values)


def test_evolution_gets_better_than_chance(tmp_path):
    """Selection shows in the mean of the last trials, less noisily than in the best."""

    def last(name, **kwargs):
        means = []
        with keras_private.keras_tuner_saves_json_with(lambda path, content: ""):
            for seed in range(8):
                oracle = oracle_in(tmp_path / f"{name}{seed}", seed=seed, **kwargs)
                oracle.verbose = 0
                scores = [step(oracle).score for _ in range(50)]
                means.append(np.mean(scores[-20:]))
        return np.array(means)

    # With a population as large as the search every trial is drawn at random.
    evolved, random = last("evolved"), last("random", population_size=60)
    # Four standard errors of the difference.
    assert evolved.mean() - random.mean() > 4 * np.sqrt((evolved.var(ddof=1) + random.var(ddof=1)) / 8)


def test_parents_die_of_age(tmp_path):
    """Once the best is older than the population, its values are nobody's."""
    oracle = oracle_in(tmp_path, population_size=4, tournament_size=4, mutations=0.0, crossover=0.0)
    for k in range(30):
        step(oracle, lambda values, k=k: -float(k))  # older is better
    # Of four parents the oldest wins, so a child descends from the trial four places before it.
    order = [oracle.trials[name].hyperparameters.values for name in oracle.end_order]

    def changes(a, b):
        return sum(a.get(k) != b.get(k) for k in set(a) | set(b))

    # The copy was tried already: one value more is changed, and what depends on it.
    assert all(changes(order[k], order[k - 4]) <= 4 for k in range(8, 30))
    assert np.mean([changes(order[k], order[k - 4]) for k in range(8, 30)]) < np.mean(
        [changes(order[k], order[k - 7]) for k in range(8, 30)]
    )


def test_the_direction_of_the_objective_counts(tmp_path):
    class Nothing(GeneticTuner):
        def run_trial(self, trial, *args, **kwargs):
            return 0.0

    tuner = Nothing(
        declare, keras_tuner.Objective("score", "min"), max_trials=60, population_size=6, tournament_size=6, mutations=0.0, seed=0,
        crossover=0.0, directory=tmp_path,
    )  # fmt: skip
    for _ in range(40):
        step(tuner.oracle, lambda values: values["layers"])
    last = [tuner.oracle.trials[name].hyperparameters.values["layers"] for name in tuner.oracle.end_order[-15:]]
    assert np.mean(last) < 3


def test_a_search_that_stopped_goes_on_as_if_it_had_not(tmp_path):
    whole, cut = oracle_in(tmp_path / "whole", seed=0), oracle_in(tmp_path / "cut", seed=0)
    for _ in range(30):
        step(whole)
    for k in range(32):  # KerasTuner runs the last trial again after a restart
        if k in (5, 17):
            cut = oracle_in(tmp_path / "cut", seed=0, population_size=7)
            cut.reload()
            assert cut.population_size == 8
        step(cut)
    assert [t.hyperparameters.values for t in whole.trials.values()] == [
        cut.trials[name].hyperparameters.values for name in sorted(cut.trials)
    ]


def test_seeds_differ_and_0_is_one(tmp_path):
    oracles = [oracle_in(tmp_path / f"{i}", seed=seed) for i, seed in enumerate((0, 0, 1))]
    a, b, c = ([step(oracle).hyperparameters.values for _ in range(3)] for oracle in oracles)
    assert a == b != c


def test_a_search_ends_when_every_combination_was_tried(tmp_path):
    class Nothing(GeneticTuner):
        def run_trial(self, trial, *args, **kwargs):
            return 0.0

    oracle = Nothing(lambda hp: hp.Int("n", 1, 5), SCORE, max_trials=50, population_size=2, tournament_size=2, directory=tmp_path).oracle
    seen = []
    while (trial := step(oracle, lambda values: values["n"])).status != "STOPPED":
        seen.append(trial.hyperparameters.values["n"])
    assert sorted(seen) == [1, 2, 3, 4, 5]


def test_failed_trials_have_no_children(tmp_path):
    oracle = oracle_in(tmp_path, max_consecutive_failed_trials=99)
    for _ in range(20):
        trial = oracle.create_trial("t")
        trial.status, trial.message = "FAILED", "no memory"
        oracle.end_trial(trial)
        assert_valid(trial.hyperparameters.values)
    step(oracle)
    assert step(oracle).status == "COMPLETED"


def test_several_workers_get_trials_before_others_end(tmp_path):
    oracle = oracle_in(tmp_path)
    running = [oracle.create_trial(f"t{i}") for i in range(12)]
    assert {t.status for t in running} == {"RUNNING"}
    assert len({tuple(sorted(t.hyperparameters.values.items())) for t in running}) == 12


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"population_size": 1}, "`population_size` must be a whole number of at least 2, got 1."),
        ({"tournament_size": 0}, "`tournament_size` must be a whole number of at least 1, got 0."),
        ({"tournament_size": 13}, "`tournament_size` must be at most population_size, 12, got 13."),
        ({"crossover": 1.5}, "`crossover` must be a number in [0, 1], got 1.5."),
        ({"mutations": -1}, "`mutations` must be a finite number of at least 0, got -1."),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, got -1."),
    ],
)
def test_bad_arguments_are_reported(argument, message):
    with pytest.raises(ValueError) as error:
        GeneticOracle(SCORE, **argument)
    assert str(error.value) == message
