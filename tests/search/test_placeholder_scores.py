"""Scores of trials that are not finite."""

import math

import keras
import keras_tuner
import pytest

from keras_ext.search.placeholder_scores import has_score, with_finite, with_score


@pytest.mark.parametrize(
    ("found", "direction", "scores", "had_none"),
    [
        ([3.0, math.nan, 1.0], "min", [3.0, 3.0, 1.0], False),
        ([math.inf, 0.5], "max", [0.5, 0.5], False),
        ([math.nan, math.inf], "min", [7.0, 7.0], True),
        ([], "min", [], False),
    ],
)
def test_no_epoch_without_a_score_is_the_best(found, direction, scores, had_none):
    history = keras.callbacks.History()
    history.history = {"val": found}
    objective = keras_tuner.Objective("val", direction)
    assert has_score(history, "val") == (not had_none)
    completed = with_score(history, "val", 7.0) if had_none else with_finite(history, objective)
    assert completed.history["val"] == scores


def test_results_of_other_kinds_get_a_score_too():
    objective = keras_tuner.Objective("val", "min")
    assert not has_score({"val": math.nan, "a": 1}, "val")
    assert with_score({"val": math.nan, "a": 1}, "val", 7.0) == {"val": 7.0, "a": 1}
    assert not has_score(math.nan, "val")
    assert with_score(math.nan, "val", 7.0) == 7.0
    assert has_score(2.0, "val")
    assert with_finite(2.0, objective) == 2.0
    assert has_score({"a": 1}, "val")  # KerasTuner says that it has none
