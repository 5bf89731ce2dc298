"""Searches over folds, and pruning between them: scores and decisions worked out from the data, wherever the trials run."""

import functools
import itertools

import keras
import keras_tuner
import numpy as np
import optuna
import places
import pytest
from places import in_turn

from keras_ext.search import GridSearch, OptunaTuner, results, watch
from keras_ext.search.folds import Folds

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)).astype("float32")
Y = RNG.normal(size=(60, 1)).astype("float32")
NUMBERS = RNG.permutation(np.arange(60) % 6)
FIT = {"x": X, "y": Y, "batch_size": 25, "epochs": 2, "verbose": 0}
# What each trial in turn predicts, whatever it learns: the second is bad, and the others are near the first or better.
ANSWERS = [0.3, 3.0, 0.31, 0.1, 0.8, -0.1, 0.12]
TRIALS = len(ANSWERS)


class Answers(keras_tuner.HyperModel):
    """Networks that predict a constant."""

    def __init__(self):
        super().__init__()
        self.folds = Folds(NUMBERS)

    def build(self, hp):
        answer = keras.initializers.Constant(ANSWERS[hp.Int("number", 0, len(ANSWERS) - 1)])
        last = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=answer)
        model = keras.Sequential([keras.Input((2,)), last])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        return model

    def fit(self, hp, model, x, y, **kwargs):
        x, y, kwargs = self.folds.of_this_training(x, y, kwargs)
        return model.fit(x, y, **kwargs)


def grid(folder, trials=TRIALS, executions=6, kind=GridSearch, space=Answers, **kwargs):
    if kind is GridSearch:
        kwargs["values"] = {"number": list(range(len(ANSWERS)))}
    kwargs |= {"executions_per_trial": executions, "directory": folder, "project_name": "p", "overwrite": False}
    return kind(space(), keras_tuner.Objective("val_loss", "min"), max_trials=trials, seed=1, **kwargs)


def by_optuna(folder, trials=TRIALS):
    return grid(folder, trials, kind=OptunaTuner, sampler=optuna.samplers.GridSampler({"number": list(range(len(ANSWERS)))}, seed=0))


def here(make, folder, pruner="wilcoxon", together=1):
    return places.here(make, folder, FIT, pruner, together)


def in_children(make, folder, pruner="wilcoxon"):
    return places.in_children(make, folder, FIT, pruner)


def on_ray(make, folder, pruner="wilcoxon"):
    return places.on_ray(make, folder, FIT, pruner)


def losses(number):
    """Return the loss of a trial on each fold, by its definition."""
    return [float(np.mean((Y[fold == NUMBERS] - ANSWERS[number]) ** 2)) for fold in range(6)]


def chance(differences):
    """Return the probability of Wilcoxon's signed ranks (1945) to be as high as these, by counting all signs."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    found = ranks[np.array(differences) > 0].sum()
    signs = np.array(list(itertools.product([0, 1], repeat=len(differences))))
    return np.mean(signs @ ranks >= found)


def by_the_rule(numbers):
    """Return the losses on the folds that each trial should have, and how it should have ended."""
    expected, complete = [], []
    for number in numbers:
        mine, ended = losses(number), ""
        for done in range(2, 6):
            if not complete:
                break
            best = min(complete, key=np.mean)
            differences = np.array(mine[:done]) - best[:done]
            if chance(differences) < 0.2 and np.mean(mine[:done]) > np.mean(best):
                worse = (differences > 0).sum()
                where = "each fold" if worse == done else f"{worse} of {done} folds"
                mine, ended = mine[:done], f"pruned after fold {done}: worse than the best trial in {where} so far (Wilcoxon)"
                break
        if not ended:
            complete.append(mine)
        expected.append((mine, ended))
    return expected


def has_the_losses(record, expected):
    np.testing.assert_allclose(record.executions, expected, rtol=1e-4)
    assert record.score == pytest.approx(np.mean(expected), rel=1e-4)
    assert (record.status, record.epochs, record.planned_epochs) == ("COMPLETED", 2, 2)


@pytest.mark.parametrize("together", ["off", 1, "auto"])
def test_each_training_is_validated_on_its_fold_and_the_score_is_the_mean(tmp_path, together):
    for record in in_turn(here(functools.partial(grid, trials=3), tmp_path, None, together)):
        has_the_losses(record, losses(record.hyperparameters["number"]))
        assert record.ended == ""


def test_after_the_last_fold_comes_the_first_again(tmp_path):
    (record,) = in_turn(here(functools.partial(grid, trials=1, executions=9), tmp_path))
    has_the_losses(record, (losses(record.hyperparameters["number"]) * 2)[:9])


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (grid, here),
        (by_optuna, here),
        (grid, in_children),
        pytest.param(by_optuna, on_ray, marks=pytest.mark.slow),
    ],
)
def test_a_trial_that_is_worse_in_the_folds_trains_no_further_ones(tmp_path, make, place):
    if place is on_ray:
        pytest.importorskip("ray")
    tuner = place(make, tmp_path)
    records = in_turn(tuner)
    expected = by_the_rule([record.hyperparameters["number"] for record in records])
    assert [record.ended for record in records] == [ended for _, ended in expected]
    for record, (mine, ended) in zip(records, expected, strict=True):
        has_the_losses(record, mine)
        assert record.is_pruned == bool(ended)
    bad = next(record for record in records if record.hyperparameters["number"] == 1)
    assert bad.is_pruned
    assert len(bad.executions) == 3
    assert sum(not record.is_pruned for record in records) >= 2
    study = getattr(tuner.oracle, "trial_study", None)
    if study is not None:
        trials = [t for t in study.study.trials if t.state.name != "FAIL"]
        assert [t.state.name for t in trials] == ["PRUNED" if record.is_pruned else "COMPLETE" for record in records]


@pytest.mark.parametrize("make", [grid, by_optuna])
def test_a_search_pruned_between_folds_goes_on_as_if_never_interrupted(tmp_path, make):
    whole = in_turn(here(make, tmp_path / "whole"))
    for trials in (2, 3, len(ANSWERS)):
        parts = here(functools.partial(make, trials=trials), tmp_path / "parts")
    assert [(r.ended, r.executions) for r in in_turn(parts)] == [(r.ended, r.executions) for r in whole]


def test_a_trial_that_was_pruned_early_is_not_the_one_to_compare_with(tmp_path):
    # The first fold is easy: of this fold alone, the first trial has the best score of all.
    (first,) = in_turn(here(functools.partial(grid, trials=1), tmp_path, optuna.pruners.ThresholdPruner(lower=100.0)))
    assert first.is_pruned
    records = in_turn(here(grid, tmp_path))
    assert min(records, key=lambda record: record.score).number == 1
    expected = by_the_rule([record.hyperparameters["number"] for record in records[1:]])
    assert [record.ended for record in records[1:]] == [ended for _, ended in expected]
    assert sum(record.is_pruned for record in records[1:]) >= 1


def test_where_more_is_better_the_lower_one_is_worse(tmp_path):
    class Negative(keras.metrics.MeanSquaredError):
        def result(self):
            return -super().result()

    class Better(Answers):
        def build(self, hp):
            model = super().build(hp)
            model.compile(model.optimizer, "mse", metrics=[Negative(name="fit")])
            return model

    values = {"number": list(range(len(ANSWERS)))}
    objective = keras_tuner.Objective("val_fit", "max")
    tuner = GridSearch(Better(), objective, max_trials=7, values=values, executions_per_trial=6, seed=1, directory=tmp_path)
    watch(tuner, places.monitor(FIT), pruner="wilcoxon", together=1).search(**FIT)
    records = in_turn(tuner)
    expected = by_the_rule([record.hyperparameters["number"] for record in records])
    assert [record.ended for record in records] == [ended for _, ended in expected]


class Repeated(Answers):
    """Trainings of one validation, which have no folds."""

    def __init__(self):
        super().__init__()
        self.folds = None

    def fit(self, hp, model, x, y, **kwargs):
        return model.fit(x, y, validation_data=(x, y), **kwargs)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_repeated_trainings_are_compared_too_and_are_called_so(tmp_path):
    records = in_turn(here(functools.partial(grid, executions=4, space=Repeated), tmp_path, optuna.pruners.WilcoxonPruner(p_threshold=0.2)))
    assert "pruned after training 3: worse than the best trial in each training so far (Wilcoxon)" in {record.ended for record in records}


class Own(GridSearch):
    def run_trial(self, trial, *args, **kwargs):
        return super().run_trial(trial, *args, **kwargs)


@pytest.mark.parametrize("kind", [GridSearch, Own])
def test_whatever_prunes_a_trial_it_trains_no_further_times(tmp_path, kind):
    bad = optuna.pruners.ThresholdPruner(upper=5.0)
    tuner = kind(
        Repeated(), keras_tuner.Objective("val_loss", "min"), max_trials=7, values={"number": list(range(7))}, executions_per_trial=3,
        seed=1, directory=tmp_path,
    )  # fmt: skip
    watch(tuner, places.monitor(FIT), pruner=bad, together=1).search(**FIT)
    pruned = [record for record in in_turn(tuner) if record.is_pruned]
    assert [record.hyperparameters["number"] for record in pruned] == [1]
    assert pruned[0].ended == "pruned at epoch 1: by ThresholdPruner"
    # A loop of the user's own gets what it asks for: an epoch each.
    assert len(pruned[0].executions) == (1 if kind is GridSearch else 3)
    assert pruned[0].score == pytest.approx(np.mean((Y - 3.0) ** 2), rel=1e-4)
    assert {len(record.executions) for record in results(tuner) if not record.is_pruned} == {3}


def test_a_single_training_has_nothing_to_compare(tmp_path):
    own = grid(tmp_path / "own", executions=1, kind=OptunaTuner, sampler="random", pruner="wilcoxon")
    for tuner, pruner in ((own, None), (grid(tmp_path / "given", executions=1), "wilcoxon")):
        with pytest.raises(ValueError) as raised:
            watch(tuner, places.monitor(FIT), pruner=pruner)
        assert str(raised.value) == (
            "`pruner` must be another one for trials of one training, got 'wilcoxon'. It compares the trainings of a trial: give the tuner "
            "several, executions_per_trial=5, or search with --folds 5."
        )
