"""The grid: every combination once, by as many workers as there are, and from where it stopped."""

import random

import keras_tuner
import pytest

from keras_ext.search.tuners import GridSearch, GridSearchOracle

pytestmark = pytest.mark.backend_free


def tuner(folder):
    class Nothing(GridSearch):
        def run_trial(self, trial, *args, **kwargs):
            return 0.0

    return Nothing(space_of, keras_tuner.Objective("score", "min"), directory=folder, project_name="p", overwrite=False)


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
    assert len(tried) == len(set(tried)) == COMBINATIONS
    assert most == min(workers, COMBINATIONS)


def test_one_worker_has_the_order_of_kerastuner(tmp_path):
    theirs = keras_tuner.oracles.GridSearchOracle(keras_tuner.Objective("score", "min"))
    ours = tuner(tmp_path / "ours").oracle
    hp = keras_tuner.HyperParameters()
    space_of(hp)
    theirs.update_space(hp)
    theirs._set_project_dir(str(tmp_path / "theirs"), "p")
    for oracle in (ours, theirs):
        while (trial := oracle.create_trial("t")).status == "RUNNING":
            end(oracle, trial)
    assert [active(t) for t in ours.trials.values()] == [active(t) for t in theirs.trials.values()]


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
