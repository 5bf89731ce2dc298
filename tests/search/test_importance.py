"""Which part helped: on trials whose scores are made from known effects, against sums worked out by hand."""

import keras_tuner
import numpy as np
import optuna
import pytest

from keras_ext.search.records import Record
from keras_ext.search.report.results import Results

pytestmark = pytest.mark.backend_free


def space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("normalization", ["none", "batch"])
    hp.Choice("activation", ["relu", "selu", "tanh"])
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    with hp.conditional_scope("activation", ["relu"]):
        hp.Choice("initializer", ["he", "glorot"])
    return tuple(hp.space)


def trials(count, seed=0, effect=0.05, direction="max"):
    """Return trials whose accuracy depends on the normalization and, less, on the rate, with noise."""
    rng, records = np.random.default_rng(seed), []
    for i in range(count):
        values = {"normalization": str(rng.choice(["none", "batch"])), "activation": str(rng.choice(["relu", "selu", "tanh"]))}
        values["rate"] = float(10 ** rng.uniform(-4, 0))
        if values["activation"] == "relu":
            values["initializer"] = str(rng.choice(["he", "glorot"]))
        score = 0.8 + effect * (values["normalization"] == "batch") - 0.01 * abs(np.log10(values["rate"]) + 2) + 0.005 * rng.normal()
        records.append(Record(i + 1, f"{i:02d}", "COMPLETED", float(score), 2, 1.0, "nothing found", values, 2, scores=(0.5, float(score))))
    return Results(tuple(records), "val_accuracy" if direction == "max" else "val_loss", direction, space())


def test_the_part_that_made_the_difference_comes_first_with_its_effect():
    results = trials(60)
    first, *others = results.importance()
    assert first.name == "normalization"
    assert {each.name for each in others} == {"activation", "rate", "initializer"}
    assert sum(each.share for each in [first, *others]) == pytest.approx(1.0)
    assert all(each.low <= each.high for each in [first, *others])
    scores = {kind: [r.score for r in results if r.hyperparameters["normalization"] == kind] for kind in ("none", "batch")}
    effect = np.median(scores["batch"]) - np.median(scores["none"])
    assert first.effect == pytest.approx(effect)
    assert first.is_distinct
    counts = f"({len(scores['batch'])} with, {len(scores['none'])} without)"
    assert first.sentence == f"normalization batch: {100 * effect:+.1f} points in median {counts}"
    assert {v.value: (v.trials, v.median, v.low, v.high) for v in first.values} == {
        kind: (len(s), *(pytest.approx(q) for q in np.percentile(s, [50, 25, 75]))) for kind, s in scores.items()
    }


def test_less_is_better_where_the_score_is_a_loss():
    first = trials(60, effect=-0.05, direction="min").importance()[0]
    assert first.sentence.startswith("normalization batch: -0.0")
    assert " val_loss in median (" in first.sentence


def test_what_has_no_effect_is_seldom_told_apart():
    activation = [
        next(each for each in trials(40, seed).importance(bootstraps=1) if each.name == "activation").is_distinct for seed in range(40)
    ]
    assert sum(activation) <= 6


def test_numbers_stand_in_four_ranges_and_conditional_values_count_their_own_trials():
    results = trials(60)
    found = {each.name: each for each in results.importance(bootstraps=2)}
    assert len(found["rate"].values) == 4
    assert sum(v.trials for v in found["rate"].values) == 60
    assert sum(v.trials for v in found["initializer"].values) == sum(r.hyperparameters["activation"] == "relu" for r in results)


def test_the_interval_is_repeatable_and_too_few_trials_say_nothing():
    assert trials(30).importance(bootstraps=3) == trials(30).importance(bootstraps=3)
    assert trials(3).importance() == ()
    with pytest.raises(ValueError, match=r"^`bootstraps` must be a whole number of at least 1, got 0\.$"):
        trials(30).importance(bootstraps=0)


def test_what_few_trials_had_is_not_compared():
    results = trials(30)
    rare = [
        Record(**{**vars(r), "hyperparameters": {**r.hyperparameters, **({"rare": i} if i < 3 else {})}}) for i, r in enumerate(results)
    ]
    assert Results(tuple(rare), "val_accuracy", "max", space()).importance(bootstraps=1) == results.importance(bootstraps=1)
    few = [r for r in results if r.hyperparameters["normalization"] == "none"]
    few += [r for r in results if r.hyperparameters["normalization"] == "batch"][:4]
    found = {each.name: each for each in Results(tuple(few), "val_accuracy", "max", space()).importance(bootstraps=1)}
    assert found["normalization"].effect > 0.04
    assert not found["normalization"].is_distinct
    assert found["normalization"].sentence == f"normalization: its values are not told apart (4 with, {len(few) - 4} without)"


def test_trials_without_a_score_do_not_count_and_pruned_ones_do():
    results = trials(40)
    failed = Record(41, "40", "FAILED", None, 0, 1.0, "failed: it broke", {"normalization": "batch", "activation": "relu", "rate": 0.1}, 2)
    more = Results((*results.records, failed), "val_accuracy", "max", space())
    assert more.importance(bootstraps=1) == results.importance(bootstraps=1)
    one = results.records[0]
    pruned = Record(**{**vars(one), "ended": "pruned at epoch 1: below the median of 9 trials"})
    assert Results((pruned, *results.records[1:]), "val_accuracy", "max", space()).importance(bootstraps=1) == results.importance(
        bootstraps=1
    )


def test_a_study_has_every_trial_with_its_values_scores_and_state():
    records = list(trials(5).records)
    records[3] = Record(**{**vars(records[3]), "ended": "pruned at epoch 1: below the median of 9 trials"})
    records[4] = Record(**{**vars(records[4]), "status": "FAILED", "score": None, "scores": (None, 0.5)})
    study = Results(tuple(reversed(records)), "val_accuracy", "max", space()).to_optuna()
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 3 + ["PRUNED", "FAIL"]
    assert [t.params for t in study.trials] == [r.hyperparameters for r in records]
    assert [t.value for t in study.trials[:4]] == [r.score for r in records[:4]]
    assert [t.intermediate_values for t in study.trials] == [{1: 0.5, 2: r.score} for r in records[:4]] + [{2: 0.5}]
    assert [t.user_attrs["trial"] for t in study.trials] == [r.trial for r in records]
