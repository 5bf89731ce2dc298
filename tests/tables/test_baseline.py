"""The classical models beside a search: trained by scikit-learn alone, they have the same scores."""

import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from keras_ext.automl import Settings, run
from keras_ext.automl import baseline as beside
from keras_ext.automl.baseline import Baseline, baselines, verdict
from keras_ext.automl.goal import Goal
from keras_ext.automl.preparation import Preparation
from keras_ext.tables import load_frame, make_table


def people(n=300):
    rng = np.random.default_rng(0)
    age, town = rng.normal(40, 10, n), rng.choice(["Bonn", "Oslo", "Rome"], n)
    return pd.DataFrame(
        {"age": age, "town": town, "size": rng.normal(170, 10, n), "y": 3 * age + 40 * (town == "Oslo") + rng.normal(0, 5, n)}
    )


def prepared_of(table, **more):
    split = table.split(0.2, 0, 0.2)
    return Preparation.of(split.x, split.y, table.classes, Goal.of(table), **more), split


def test_regression_is_scikit_learns_of_the_raw_columns():
    prepared, split = prepared_of(load_frame(people(), "y"))
    by_name = {each.name: each for each in baselines(prepared, split)}
    train, validation, test = (pd.DataFrame(x) for x in (split.x, split.x_validation, split.x_test))
    linear = make_pipeline(make_column_transformer((OneHotEncoder(), ["town"]), (StandardScaler(), ["age", "size"])), Ridge())
    linear.fit(train, split.y)
    assert by_name["Ridge"].score == pytest.approx(linear.score(validation, split.y_validation), abs=1e-5)
    assert by_name["Ridge"].test_score == pytest.approx(linear.score(test, split.y_test), abs=1e-5)
    coded = [frame.assign(town=frame["town"].map({"Bonn": 0, "Oslo": 1, "Rome": 2})) for frame in (train, test)]
    trees = HistGradientBoostingRegressor(categorical_features=["town"], random_state=0).fit(coded[0], split.y)
    assert by_name["HistGradientBoostingRegressor"].test_score == pytest.approx(trees.score(coded[1], split.y_test), abs=0.02)


def test_classification_is_scikit_learns_with_gaps_marked_and_classes_balanced():
    frame = people(400)
    frame["y"] = np.where(frame["y"] > np.quantile(frame["y"], 0.94), "yes", "no")
    frame.loc[::7, "size"] = np.nan
    prepared, split = prepared_of(load_frame(frame, "y"))
    found = baselines(prepared, split)
    assert found[0].score >= found[1].score
    by_name = {each.name: each for each in found}
    columns = make_column_transformer(
        (OneHotEncoder(), ["town"]),
        (make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0, add_indicator=True)), ["age", "size"]),
    )
    linear = make_pipeline(columns, LogisticRegression(max_iter=1000, class_weight="balanced"))
    linear.fit(pd.DataFrame(split.x), split.y)
    decided = linear.predict(pd.DataFrame(split.x_test))
    recalls = [np.mean(decided[split.y_test == number] == number) for number in (0, 1)]
    assert by_name["LogisticRegression"].test_score == pytest.approx(np.mean(recalls), abs=1e-6)


def test_an_array_is_classified_by_its_own_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype("float32")
    table = make_table(x, x[:, 0] + 0.3 * rng.normal(size=200) > 0, "made")
    prepared, split = prepared_of(table)
    by_name = {each.name: each for each in baselines(prepared, split, refit=True)}
    trees = HistGradientBoostingClassifier(random_state=0)
    whole = trees.fit(np.concatenate([split.x, split.x_validation]), np.concatenate([split.y, split.y_validation]))
    assert by_name["HistGradientBoostingClassifier"].test_score == pytest.approx(whole.score(split.x_test, split.y_test))
    assert by_name["HistGradientBoostingClassifier"].score == pytest.approx(
        trees.fit(split.x, split.y).score(split.x_validation, split.y_validation)
    )


def test_images_have_no_baseline():
    table = make_table(np.random.default_rng(0).random((20, 4, 4, 1)), [0, 1] * 10, "images")
    assert baselines(*prepared_of(table)) == ()


def test_the_verdict_says_who_is_better_and_where():
    best, goal = Baseline("Ridge", 0.9, 0.8, 0.1), Goal("r2_score")
    assert verdict([best], (0.95, 0.7), goal, 30) == (
        "scikit-learn's Ridge beats the best network: r2_score 0.8000 against 0.7000 on the 30 samples of the test"
    )
    assert verdict([best], (0.5, 0.85), goal, 30).startswith("the best network is better than scikit-learn's Ridge: r2_score 0.8500")
    assert verdict([best], (0.5, 0.8), goal, 30).startswith("the best network is as good as")
    untested = Baseline("Ridge", 2.0, None, 0.1)
    said = verdict([untested], (3.0, None), Goal("mean_squared_error", "min"), 40)
    assert said.endswith("mean_squared_error 2.0000 against 3.0000 on the 40 samples of the validation")
    assert verdict([], (0.5, 0.8), goal, 30) == verdict([best], None, goal, 30) == ""


def test_a_search_of_a_data_frame_has_its_baselines_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(people(100), settings=Settings(trials=1, epochs=1), target="y")
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("table-")
    reported = json.loads((folder / "results.json").read_text())
    assert [each["name"] for each in reported["baselines"]] == [each.name for each in result.baselines]
    assert {each.name for each in result.baselines} == {"Ridge", "HistGradientBoostingRegressor"}
    assert reported["verdict"] == result.verdict
    assert result.verdict.startswith("scikit-learn's Ridge beats the best network: r2_score ")
    page = (folder / "report.html").read_text()
    assert "Beside classical models" in page
    assert f"{result.baselines[0].test_score:.4f}" in page


def test_a_baseline_that_fails_costs_no_search(tmp_path, monkeypatch):
    def broken(*_):
        raise MemoryError("too large")

    monkeypatch.setattr(beside, "_models", broken)
    with (tmp_path / "said.txt").open("w") as file:
        result = run(people(60), tmp_path / "s", Settings(trials=1, epochs=1), target="y", console=Console(file=file))
    assert result.model_path is not None
    assert result.baselines == ()
    assert "no baseline: MemoryError: too large" in (tmp_path / "said.txt").read_text()
