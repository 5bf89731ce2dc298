"""The grid: every combination once, by as many workers as there are, from where it stopped, and all that varies does so early."""

import collections
import itertools
import math
import random

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ext._checks import BadInput
from keras_ext.search import CNN, LSTM, MLP, ImageNetworks, ResidualMLP, ResNet
from keras_ext.search.tuners import evolution
from keras_ext.search.tuners.grid import Grid, coarse
from keras_ext.search.tuners.grid_search import GridSearch, GridSearchOracle

pytestmark = pytest.mark.backend_free
SCORE = keras_tuner.Objective("score", "min")


class Nothing(GridSearch):
    def run_trial(self, trial, *args, **kwargs):
        return 0.0


def tuner(folder, **kwargs):
    return Nothing(space_of, SCORE, directory=folder, project_name="p", overwrite=False, **kwargs)


def space_of(hp):
    hp.Choice("activation", ["relu", "tanh", "selu"])
    hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Choice("momentum", [0.0, 0.9])
    hp.Int("layers", 1, 2)


COMBINATIONS = 3 * (2 + 1) * 2


def end(oracle, trial):
    oracle.update_trial(trial.trial_id, {"score": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def active(trial):
    hp = trial.hyperparameters
    return tuple(sorted((p.name, hp.values[p.name]) for p in hp.space if hp.is_active(p)))


@pytest.mark.parametrize("workers", [1, 2, 5, 30])
def test_every_combination_is_tried_once_by_any_number_of_workers(tmp_path, workers):
    oracle, drawn = tuner(tmp_path).oracle, random.Random(0)
    assert isinstance(oracle, GridSearchOracle)
    running, most = [], 0
    while True:
        while len(running) < workers:
            trial = oracle.create_trial(f"t{len(oracle.trials)}")
            if trial.status != "RUNNING":
                break
            running.append(trial)
        most = max(most, len(running))
        if not running:
            break
        end(oracle, running.pop(drawn.randrange(len(running))))
    tried = [active(trial) for trial in oracle.trials.values()]
    assert len(tried) == len(set(tried)) == COMBINATIONS == oracle.grid.size
    assert most == min(workers, COMBINATIONS)


@pytest.mark.parametrize("ended", [0, 1, 4])
def test_it_goes_on_where_several_workers_were_stopped(tmp_path, ended):
    from keras_ext.search.project_folder import recover

    oracle = tuner(tmp_path).oracle
    running = [oracle.create_trial(f"t{i}") for i in range(5)]
    for trial in running[:ended]:
        end(oracle, trial)
    again = tuner(tmp_path)
    recover(again)
    oracle = again.oracle
    while (trial := oracle.create_trial("t")).status == "RUNNING":
        end(oracle, trial)
    tried = [active(trial) for trial in oracle.trials.values()]
    assert len(tried) == len(set(tried)) == COMBINATIONS
    assert {t.status for t in oracle.trials.values()} == {"COMPLETED"}


def by_product(space, values):
    """Return all combinations as a set, by trying every value of every hyperparameter."""
    found = set()
    for drawn in itertools.product(*values):
        point = {}
        for hp, value in zip(space, drawn, strict=True):
            if all(condition.is_active(point) for condition in hp.conditions):
                point[hp.name] = value
        found.add(frozenset(point.items()))
    return found


@st.composite
def spaces(draw):
    """Return a space in which some hyperparameters depend on others, in any order that has parents first."""
    hp = keras_tuner.HyperParameters()
    names = []
    for i in range(draw(st.integers(1, 6))):
        values = list(range(draw(st.integers(1, 4))))
        parents = draw(st.none() | st.sampled_from(names)) if names else None
        if parents is None:
            hp.Choice(f"h{i}", values, default=draw(st.sampled_from(values)))
        else:
            name, others = parents
            kept = draw(st.lists(st.sampled_from(others), min_size=1, unique=True))
            hps = keras_tuner.HyperParameters()
            hps.Choice(name, others)
            with hps.conditional_scope(name, kept):
                hps.Choice(f"h{i}", values, default=draw(st.sampled_from(values)))
            hp.merge([hps.space[-1]])
        names.append((f"h{i}", values))
    return hp.space


@settings(max_examples=200, deadline=None)
@given(spaces())
def test_the_points_are_all_combinations_and_the_first_has_the_defaults(space):
    grid = Grid(space)
    points = [grid.point(i) for i in range(grid.size)]
    found = {frozenset(point.items()) for point in points}
    assert found == by_product(space, [hp.values for hp in space])
    assert len(found) == len(points)
    assert points[0] == evolution.defaults(space)
    assert grid.point(grid.size) == points[0]


NETWORKS = {
    "mlp": MLP((9,), classes=3, samples=500),
    "deep_mlp": MLP((9,), classes=3, samples=500, max_layers=20, wide=True, epochs=9),
    "residual": ResidualMLP((9,), samples=500),
    "cnn": CNN((8, 8), samples=500),
    "resnet": ResNet((8, 8), samples=500),
    "images": ImageNetworks((8, 8), samples=500, wide=True),
    "lstm": LSTM((5, 2), samples=500),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_grid_of_a_search_space_is_small_and_varies_everything_early(tmp_path, name):
    grid = Nothing(NETWORKS[name], SCORE, directory=tmp_path).oracle.grid
    assert 50 < grid.size < 20_000
    points = [grid.point(i) for i in range(20)]
    names = collections.Counter(name for point in points for name in point)
    for each, times in names.items():
        had = len({point[each] for point in points if each in point})
        assert had >= min(2, times, len(grid.values_of(each))), each
    for each in ("optimizer", "activation", "normalization"):
        several = grid.values_of(each)
        assert {point[each] for point in points if each in point} == set(several)
    assert {point.get("batch_size") for point in points} == {16}


def test_values_that_are_given_are_those_of_the_grid(tmp_path):
    grid = tuner(tmp_path, values={"activation": ("tanh",), "momentum": [0.9], "layers": ["2"]}).oracle.grid
    points = [grid.point(i) for i in range(grid.size)]
    assert points == [
        {"activation": "tanh", "optimizer": "sgd", "momentum": 0.9, "layers": 2},
        {"activation": "tanh", "optimizer": "adam", "layers": 2},
    ]


def test_a_number_has_its_default_and_two_others():
    kinds = keras_tuner.engine.hyperparameters
    assert coarse(kinds.Float("x", 0.0, 1.0, default=0.5)) == [0.25, 0.5, 0.75]
    assert coarse(kinds.Int("x", 1, 5)) == [1, 2, 3, 4, 5]
    assert coarse(kinds.Float("x", 1e-4, 1.0, default=1e-4, sampling="log")) == pytest.approx([1e-4, 1e-3, 0.1])
    wide = coarse(kinds.Int("x", 1, 100, default=7))
    assert wide[0] == 7
    assert len(wide) == 3
    assert all(isinstance(value, int) for value in wide)
    assert coarse(kinds.Boolean("x")) == [True, False]


def test_a_grid_of_millions_is_refused_with_the_fix(tmp_path):
    def many(hp):
        for i in range(4):
            hp.Choice(f"h{i}", list(range(10 * (i + 2))))

    size = math.prod(10 * (i + 2) for i in range(4))
    with pytest.raises(BadInput) as raised:
        Nothing(many, SCORE, directory=tmp_path)
    assert str(raised.value) == (
        f"the grid has {size:,} combinations, more than 1,000,000. Fix fewer values with `values`, most of all of h3, h2, h1, or take the "
        "tuner random or tpe."
    )
    assert Nothing(many, SCORE, values={"h3": [1], "h2": [1, 2]}, directory=tmp_path / "less").oracle.grid.size == 20 * 30 * 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"units": [1]}, "`values` must be values of some of the hyperparameters activation, optimizer, momentum, layers, got 'units'."),
        ({"layers": [3]}, "`values` must be values that layers may have, 1, 2, got 3."),
        ({"activation": ["gelu"]}, "`values` must be values that activation may have, relu, tanh, selu, got 'gelu'."),
        ({"activation": "relu"}, "`values` must be a sequence of values for activation, got 'relu'."),
        ([1], "`values` must be a dict of names and values, or None, got [1]."),
    ],
)
def test_bad_values_are_reported(tmp_path, values, message):
    with pytest.raises((ValueError, TypeError)) as raised:
        tuner(tmp_path, values=values)
    assert str(raised.value) == message


def test_values_of_a_range_lie_in_it(tmp_path):
    def rates(hp):
        hp.Float("rate", 0.001, 1.0, sampling="log")

    grid = Nothing(rates, SCORE, values={"rate": ["0.5", 0.01]}, directory=tmp_path).oracle.grid
    assert grid.values_of("rate") == [0.5, 0.01]
    with pytest.raises(ValueError, match=r"values that rate may have, 0\.001 to 1, got 2\.$"):
        Nothing(rates, SCORE, values={"rate": [2]}, directory=tmp_path / "b")
