"""Pruners: which trials end early, by the rule itself worked out from the scores, wherever the trials run."""

import functools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import optuna
import places
import pytest
from places import in_turn

from keras_ext.search import GridSearch, OptunaTuner, results, watch
from keras_ext.search.tuners.pruning import PRUNERS

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = X @ np.float32([[1.0], [2.0], [3.0]])
FIT = {"x": X, "y": Y, "batch_size": 32, "epochs": 4, "verbose": 0}
# The rate of each trial in turn: the later of the first six learn faster, the others more slowly than all of them.
RATES = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.001, 0.035, 0.0001]
# In the strides of a grid of nine, they come in this order.
IN_TURN = {"number": [0, 4, 8, 3, 7, 2, 6, 1, 5]}


class Line(keras_tuner.HyperModel):
    """A line through the origin, whose loss depends on the rate alone."""

    def build(self, hp):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(RATES[hp.Int("number", 0, len(RATES) - 1)]), "mse")
        return model


def grid(folder, trials=9, kind=GridSearch, **kwargs):
    if kind is GridSearch:
        kwargs["values"] = IN_TURN
    return kind(Line(), "loss", max_trials=trials, seed=1, directory=folder, project_name="p", overwrite=False, **kwargs)


def by_optuna(folder, trials=9):
    order = optuna.samplers.GridSampler({"number": list(range(len(RATES)))}, seed=0)
    return grid(folder, trials, OptunaTuner, sampler=order)


def here(make, folder, pruner="median"):
    return places.here(make, folder, FIT, pruner)


def in_children(make, folder, pruner="median"):
    return places.in_children(make, folder, FIT, pruner)


def on_ray(make, folder, pruner="median"):
    return places.on_ray(make, folder, FIT, pruner)


def by_the_rule(records):
    """Return how each trial should have ended: the median of the complete trials before it, from five on."""
    ended, complete = [], []
    for record in records:
        for epoch in range(1, FIT["epochs"]):
            others = [scores[epoch - 1] for scores in complete]
            if len(others) >= 5 and min(record.scores[:epoch]) > np.median(others):
                ended.append(f"pruned at epoch {epoch}: above the median of {len(others)} trials")
                break
        else:
            ended.append("")
            complete.append(record.scores)
    return ended


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (grid, here),
        (by_optuna, here),
        (grid, in_children),
        (by_optuna, in_children),
        pytest.param(by_optuna, on_ray, marks=pytest.mark.slow),
    ],
)
def test_trials_below_the_median_end_with_their_best_score(tmp_path, make, place):
    if place is on_ray:
        pytest.importorskip("ray")
    tuner = place(make, tmp_path)
    records = in_turn(tuner)
    assert [record.ended for record in records] == by_the_rule(records)
    assert 1 <= sum(record.is_pruned for record in records) <= 4
    for record in records:
        assert record.epochs == (int(record.ended.split(":")[0].split()[-1]) if record.is_pruned else 4) == len(record.scores)
        assert record.score == pytest.approx(min(record.scores), rel=1e-6)
        assert record.status == "COMPLETED"
    study = getattr(tuner.oracle, "trial_study", None)
    if study is not None:
        # A grid proposes the defaults of the space again, which are not tried twice.
        trials = [t for t in study.study.trials if t.state.name != "FAIL"]
        assert [t.state.name for t in trials] == ["PRUNED" if record.is_pruned else "COMPLETE" for record in records]
        assert [list(t.intermediate_values.values()) for t in trials] == [list(record.scores) for record in records]


@pytest.mark.parametrize("make", [grid, by_optuna])
def test_a_pruned_search_goes_on_as_if_never_interrupted(tmp_path, make):
    whole = here(make, tmp_path / "whole")
    for trials in (4, 7, len(RATES)):
        parts = here(functools.partial(make, trials=trials), tmp_path / "parts")
    assert [(r.ended, r.scores) for r in in_turn(parts)] == [(r.ended, r.scores) for r in in_turn(whole)]


@pytest.mark.parametrize("pruner", [None, "none"])
def test_without_a_pruner_every_trial_trains_to_its_end(tmp_path, pruner):
    assert {(record.epochs, record.ended) for record in in_turn(here(grid, tmp_path, pruner))} == {(4, "")}


def test_halving_lets_the_best_quarter_go_on(tmp_path):
    records = in_turn(here(grid, tmp_path, "halving"))
    # Optuna begins to compare once a trial is complete; these four epochs have the rungs 1 and 4.
    assert records[0].ended == ""
    rungs = {1: [], 4: []}
    for record in records[1:]:
        ended = ""
        for epoch, losses in rungs.items():
            loss = record.scores[epoch - 1]
            losses.append(loss)
            if loss > sorted(losses)[max(len(losses) // 4 - 1, 0)]:
                ended = f"pruned at epoch {epoch}: not among the best of the trials that came as far"
                break
        assert record.ended == ended
    assert 1 < len(rungs[4]) < len(rungs[1]) == 8


def test_hyperband_keeps_the_best_of_those_that_have_come_as_far(tmp_path):
    order = sorted(in_turn(here(grid, tmp_path, "hyperband")), key=lambda record: RATES[record.hyperparameters["number"]])
    assert any(record.is_pruned for record in order[:4])
    assert not any(record.is_pruned for record in order[-3:])


def test_a_pruner_of_optuna_is_taken_as_it_is(tmp_path):
    records = in_turn(here(grid, tmp_path, optuna.pruners.ThresholdPruner(upper=12.5)))
    assert [record.ended for record in records] == [
        next((f"pruned at epoch {i}: by ThresholdPruner" for i in (1, 2, 3) if record.scores[i - 1 : i] > (12.5,)), "")
        for record in records
    ]
    assert {record.is_pruned for record in records} == {True, False}


def test_a_tuner_of_its_own_pruner_needs_no_other(tmp_path):
    tuner = grid(tmp_path, kind=OptunaTuner, pruner="median", sampler="random")
    with pytest.raises(ValueError, match=r"^`pruner` needs a search that is watched\. Call watch\(tuner, monitor\) first\.$"):
        tuner.search(**FIT)
    watch(tuner, places.monitor(FIT), together=1).search(**FIT)
    assert any(record.is_pruned for record in results(tuner))


def test_where_more_is_better_the_pruned_are_below_the_median(tmp_path):
    class Falling(keras.metrics.MeanSquaredError):
        """A score of which more is better, as the slow learners have."""

    class Lines(Line):
        def build(self, hp):
            model = super().build(hp)
            model.compile(model.optimizer, "mse", metrics=[Falling(name="error")])
            return model

    tuner = GridSearch(Lines(), keras_tuner.Objective("error", "max"), max_trials=9, values=IN_TURN, directory=tmp_path)
    watch(tuner, places.monitor(FIT), pruner="median", together=1).search(**FIT)
    records = in_turn(tuner)
    assert {record.ended.split(":")[1].split(" the")[0] for record in records if record.is_pruned} == {" below"}


def test_bad_pruners_are_reported_in_a_line(tmp_path):
    assert PRUNERS == ("none", "median", "patient", "halving", "hyperband", "wilcoxon")
    with pytest.raises(
        ValueError, match=r"^`pruner` must be one of 'none', 'median', 'patient', 'halving', 'hyperband', 'wilcoxon', got 'best'\.$"
    ):
        watch(grid(tmp_path), places.monitor(FIT), pruner="best")
    names = "'none', 'median', 'patient', 'halving', 'hyperband', 'wilcoxon'"
    with pytest.raises(TypeError, match=rf"^`pruner` must be one of {names}, or an Optuna pruner, got 3\.$"):
        watch(grid(tmp_path), places.monitor(FIT), pruner=3)
    hyperband = keras_tuner.Hyperband(Line(), "loss", max_epochs=3, directory=tmp_path, project_name="h")
    with pytest.raises(ValueError, match=r"^`pruner` must be None with Hyperband, .* itself, got 'median'\. Leave it out\.$"):
        watch(hyperband, places.monitor(FIT), pruner="median")
    watch(hyperband, places.monitor(FIT), pruner="none")


SCRIPT = """
import sys
sys.path[:0] = {tests!r}
import test_pruning
test_pruning.killed(*sys.argv[1:])
"""


def killed(folder, sampler, pruner, storage):
    """Search without an end of its own before the last trial; `test_a_killed_search` kills it."""
    here(functools.partial(grid, trials=8, kind=OptunaTuner, sampler=sampler, storage=storage or None), folder, pruner)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "pruner", "storage"),
    [
        ("tpe", "median", "sqlite:///{}/search.db"),
        ("tpe", "hyperband", ""),
        ("cmaes", "halving", ""),
        ("qmc", "hyperband", ""),
        ("random", "median", ""),
        ("gp", "median", ""),
    ],
)
def test_a_killed_search_ends_as_one_that_was_not(tmp_path, sampler, pruner, storage):
    if sampler == "gp":
        pytest.importorskip("torch")
    how = [sampler, pruner, storage.format(tmp_path)]
    words = [
        sys.executable,
        "-c",
        SCRIPT.format(tests=[str(folder) for folder in Path(__file__).parents[:2]]),
        str(tmp_path / "parts"),
        *how,
    ]
    draw = random.Random(f"{sampler} {pruner}")
    for ended in (1, 3, 6):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("parts/p/*/diagnosis.json"))) < ended and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(words, check=True, capture_output=True)
    killed(tmp_path / "whole", *how)
    parts, whole = (in_turn(grid(tmp_path / name, 8, OptunaTuner, sampler=sampler)) for name in ("parts", "whole"))
    assert [r.hyperparameters for r in parts] == [r.hyperparameters for r in whole]
    if pruner == "median":  # Optuna's Hyperband does not ask a trial twice at one rung, if it was killed there
        assert [r.ended for r in parts] == [r.ended for r in whole]
        np.testing.assert_allclose([r.score for r in parts], [r.score for r in whole], rtol=1e-5)
    study = grid(tmp_path / "parts", 8, OptunaTuner, sampler=sampler, storage=how[2] or None).oracle.trial_study.study
    known = [t.user_attrs["trial"] for t in study.trials if t.state.name != "FAIL"]
    assert sorted(known) == sorted(r.trial for r in parts)
