"""The score of a search: the metric that the data asks for, any other of Keras, and what is reported of classes and numbers."""

import json

import keras
import numpy as np
import pytest
from sklearn import metrics

from keras_ext._checks import BadInput
from keras_ext.automl import Settings, run
from keras_ext.automl.evaluation import Evaluation
from keras_ext.automl.goal import Goal
from keras_ext.automl.preparation import Preparation
from keras_ext.automl.report import parts
from keras_ext.tables import BalancedAccuracy, TargetMetric, make_table


def rare(n=200, share=0.05):
    """A table whose second class is rare, and known by its numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(n) < round(n * share)
    return make_table(rng.normal(size=(n, 3)) + 3 * y[:, None], np.where(y, "yes", "no"), "rare")


def computed(metric, y, predicted, batches=3):
    for rows in np.array_split(np.arange(len(y)), batches):
        metric.update_state(y[rows], predicted[rows])
    return float(keras.ops.convert_to_numpy(metric.result()))


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_of_classes_are_scikit_learns(classes):
    rng = np.random.default_rng(1)
    y, shares = rng.integers(0, classes, 500), rng.dirichlet(np.ones(classes), 500).astype("float32")
    decided = shares.argmax(axis=1)
    area = metrics.roc_auc_score(y, shares[:, 1]) if classes == 2 else metrics.roc_auc_score(y, shares, multi_class="ovr")
    for name, expected, tolerance in (
        ("accuracy", metrics.accuracy_score(y, decided), 1e-6),
        ("balanced_accuracy", metrics.balanced_accuracy_score(y, decided), 1e-6),
        ("f1_score", metrics.f1_score(y, decided, average="macro"), 1e-6),
        ("sparse_categorical_crossentropy", metrics.log_loss(y, shares / shares.sum(axis=1, keepdims=True)), 1e-4),
        # Keras takes 200 thresholds.
        ("roc_auc", area, 5e-3),
    ):
        assert computed(TargetMetric(name, classes), y, shares) == pytest.approx(expected, abs=tolerance), name
    if classes == 2:
        assert computed(TargetMetric("precision", 2), y, shares) == pytest.approx(metrics.precision_score(y, decided), abs=1e-6)
        assert computed(TargetMetric("recall", 2), y, shares) == pytest.approx(metrics.recall_score(y, decided), abs=1e-6)


def test_balanced_accuracy_counts_weights_and_only_classes_that_are_there():
    metric = BalancedAccuracy(3)
    metric.update_state([[0], [0], [1]], np.eye(3)[[0, 1, 1]], sample_weight=[3.0, 1.0, 2.0])
    assert float(keras.ops.convert_to_numpy(metric.result())) == pytest.approx((0.75 + 1) / 2)
    metric.reset_state()
    assert float(keras.ops.convert_to_numpy(metric.result())) == 0.0
    assert BalancedAccuracy.from_config(metric.get_config()).classes == 3


def test_metrics_of_numbers_are_in_the_targets_own_unit():
    rng = np.random.default_rng(2)
    y, predicted = rng.normal(size=(2, 80)).astype("float32")
    metric = TargetMetric("mean_absolute_error", scale=20.0, offset=300.0)
    assert computed(metric, y, predicted[:, None]) == pytest.approx(20 * np.abs(y - predicted).mean(), rel=1e-5)
    same = TargetMetric.from_config(metric.get_config())
    assert computed(same, y, predicted[:, None]) == pytest.approx(20 * np.abs(y - predicted).mean(), rel=1e-5)
    assert computed(TargetMetric("r2_score"), y, predicted[:, None]) == pytest.approx(metrics.r2_score(y, predicted), abs=1e-4)


def test_the_data_says_what_is_searched_for():
    goal = Goal.of(rare())
    assert (goal.name, goal.direction, goal.is_imbalanced) == ("balanced_accuracy", "max", True)
    assert goal.why.startswith("class yes has 5.0% of the samples: the score is the balanced accuracy")
    # A fifth of the fair share is a tenth of two classes.
    assert Goal.of(rare(share=0.1)).name == "accuracy"
    assert Goal.of(rare(), "accuracy") == Goal("accuracy", "max", 2, True)
    numbers = make_table(np.zeros((20, 1)), np.arange(20) / 7, "numbers")
    assert Goal.of(numbers) == Goal("r2_score")


@pytest.mark.parametrize(
    ("name", "direction"),
    [("auc", "max"), ("f1_score", "max"), ("recall", "max"), ("sparse_categorical_crossentropy", "min"), ("false_negatives", "min")],
)
def test_the_direction_of_a_metric_is_known(name, direction):
    assert Goal.of(rare(), name).direction == direction


def test_the_direction_of_a_metric_of_numbers_is_known():
    numbers = make_table(np.zeros((20, 1)), np.arange(20) / 7, "numbers")
    found = {
        name: Goal.of(numbers, name).direction
        for name in ("mean_absolute_error", "root_mean_squared_error", "mean_absolute_percentage_error")
    }
    assert found == {"mean_absolute_error": "min", "root_mean_squared_error": "min", "mean_absolute_percentage_error": "min"}


@pytest.mark.parametrize(
    ("name", "classes", "perfect"),
    [
        ("accuracy", 3, 1.0),
        ("roc_auc", 2, 1.0),
        ("false_negatives", 2, 0.0),
        ("sparse_categorical_crossentropy", 3, None),  # of probabilities that are kept off 0 and 1
        ("r2_score", None, 1.0),
        ("mean_absolute_error", None, 0.0),
    ],
)
def test_the_score_that_no_other_can_better_is_known(name, classes, perfect):
    y = np.arange(30) % classes if classes else np.arange(30) / 7
    table = make_table(np.zeros((30, 1)), y.astype("int32") if classes else y, "table")
    assert Goal.of(table, name).perfect == perfect


@pytest.mark.parametrize("name", ["balanced_acuracy", "precision_at_recall", "sum", "mean_iou"])
def test_what_is_no_metric_of_classes_is_refused_with_one_that_is(name):
    with pytest.raises(BadInput) as raised:
        Goal.of(rare(), name)
    text = str(raised.value)
    assert text.startswith(f"`objective` must be the name of a Keras metric of classes that needs no arguments, got {name}. Such as ")
    assert name != "balanced_acuracy" or text.endswith("Such as balanced_accuracy.")


def test_class_weights_are_chosen_where_a_class_is_rare():
    import keras_tuner

    table = rare()
    split = table.split(0.2, 0, 0.2)
    prepared = Preparation.of(split.x, split.y, table.classes, Goal.of(table))
    counts = np.bincount(split.y)
    balanced = prepared.class_weights["balanced"]
    np.testing.assert_allclose(np.array(list(balanced.values())) * counts, len(split.y) / 2)
    root = np.array(list(prepared.class_weights["root"].values()))
    np.testing.assert_allclose(root**2 * counts, (root**2 * counts)[0])
    assert np.sum(root * counts) == pytest.approx(len(split.y))
    space, hp = prepared.space_for(Settings(), len(split.y)), keras_tuner.HyperParameters()
    hp.Fixed("class_weight", "balanced")
    model = space.build(hp)
    # What Keras itself makes of the weights.
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    model.optimizer.learning_rate = 0.1
    twin.compile(keras.optimizers.SGD(0.1), model.loss)
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    size = hp.get("batch_size")
    space.fit(hp, model, split.x, split.y, epochs=1, shuffle=False, verbose=0)
    twin.fit(split.x, split.y, class_weight=balanced, batch_size=size, epochs=1, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert "class_weight" not in _chosen(Preparation.of(split.x, split.y, table.classes))
    assert "class_weight" in _chosen(prepared)


def _chosen(prepared):
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    prepared.space_for(Settings(), 120).build(hp)
    return hp.values


def test_a_search_with_a_rare_class_is_by_balanced_accuracy_and_reports_each_class(tmp_path, in_new_process):
    table = rare(300)
    result = run(table, tmp_path / "s", Settings(trials=2, epochs=5, baseline=False))
    split = table.split(0.2, 0, 0.2)
    model = keras.models.load_model(result.model_path)
    decided = model.predict(split.x_validation, verbose=0).argmax(axis=1)
    assert result.results.score_name == "val_balanced_accuracy"
    assert result.results[0].score == pytest.approx(metrics.balanced_accuracy_score(split.y_validation, decided), abs=1e-6)
    decided = model.predict(split.x_test, verbose=0).argmax(axis=1)
    assert result.test_score == pytest.approx(metrics.balanced_accuracy_score(split.y_test, decided), abs=1e-6)
    reported = json.loads((tmp_path / "s/results.json").read_text())
    assert reported["evaluation"]["confusion_matrix"] == metrics.confusion_matrix(split.y_test, decided).tolist()
    recall = [each["recall"] for each in reported["evaluation"]["by_class"]]
    assert recall == pytest.approx(metrics.recall_score(split.y_test, decided, average=None).tolist())
    page = (tmp_path / "s/report.html").read_text()
    assert "The test by class" in page
    assert "Confusion matrix" in page
    assert result.baselines == ()
    assert "Beside classical models" not in page
    # The file loads where nothing of the search is.
    code = "import sys, keras, keras_ext; print([m.name for m in keras.models.load_model(sys.argv[1]).metrics])"
    assert "compile_metrics" in in_new_process(code, result.model_path)


def test_a_search_for_an_error_of_numbers_looks_for_the_smallest(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    table = make_table(x, 1000 + 50 * x[:, 0], "numbers")
    result = run(table, tmp_path / "s", Settings(trials=2, epochs=5, objective="mean_absolute_error", baseline=False))
    scores = [record.score for record in result.results]
    assert scores == sorted(scores)
    split = table.split(0.2, 0, 0.2)
    predicted = keras.models.load_model(result.model_path).predict(split.x_validation, verbose=0)[:, 0]
    assert scores[0] == pytest.approx(np.abs(predicted - split.y_validation).mean(), rel=1e-4)
    reported = json.loads((tmp_path / "s/results.json").read_text())
    assert reported["evaluation"]["mean_absolute_error"] == pytest.approx(result.test_score, rel=1e-4)
    assert "<h2>Residuals</h2>" in (tmp_path / "s/report.html").read_text()


def test_many_classes_are_listed_without_a_matrix():
    names = tuple(f"c{i}" for i in range(31))
    y = np.arange(31)
    found = parts((), (1.0, 1.0), "accuracy", Evaluation.of(y, np.eye(31, dtype="float32"), names, Goal("accuracy", "max", 31)))
    assert "31 classes are too many to show the confusion matrix" in "".join(found)
