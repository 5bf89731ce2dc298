"""What a search keeps: preparation in the model's file, the test that no trial sees, and the network trained again."""

import json
import re

import keras
import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from keras_ext._checks import BadInput
from keras_ext.automl import run
from keras_ext.automl.preparation import Preparation
from keras_ext.automl.settings import Settings
from keras_ext.search.spaces import MLP
from keras_ext.tables import load_digits, make_table


def columns(n=150, missing=""):
    rng = np.random.default_rng(0)
    age, town = rng.normal(40, 10, n), rng.choice(["Bonn", "Oslo", "Rome"], n)
    if missing:
        town[-1] = missing
    return {"age": age, "town": town}, np.where(age + 8 * (town == "Oslo") > 42, "old", "young")


def test_the_parts_do_not_overlap_and_each_class_keeps_its_share():
    table = load_digits()
    split = table.split(0.2, 3, 0.1)
    assert [len(part) for part in (split.y, split.y_validation, split.y_test)] == [1257, 360, 180]
    rows = [tuple(row) for part in (split.x, split.x_validation, split.x_test) for row in part]
    assert sorted(rows) == sorted(tuple(row) for row in table.x)
    for part in (split.y, split.y_validation, split.y_test):
        np.testing.assert_allclose(np.bincount(part) / len(part), np.bincount(table.y) / 1797, atol=1 / len(part))


def test_without_a_test_the_split_is_scikit_learns():
    table = load_digits()
    split = table.split(0.2, 3)
    x, held_out, y, _ = train_test_split(table.x, table.y, test_size=0.2, random_state=3, stratify=table.y)
    np.testing.assert_array_equal(split.x, x)
    np.testing.assert_array_equal(split.y, y)
    np.testing.assert_array_equal(split.x_validation, held_out)
    assert split.x_test is None


def test_columns_are_split_together():
    x, y = columns()
    table = make_table(x, y, "people")
    split = table.split(0.2, 0, 0.2)
    assert [len(split.x["age"]), len(split.x_validation["town"]), len(split.x_test["age"])] == [90, 30, 30]
    where = {age: i for i, age in enumerate(x["age"])}
    for part, labels in ((split.x, split.y), (split.x_validation, split.y_validation), (split.x_test, split.y_test)):
        taken = [where[age] for age in part["age"]]
        assert part["town"].tolist() == x["town"][taken].tolist()
        assert labels.tolist() == table.y[taken].tolist()


def test_a_class_of_two_samples_leaves_none_for_a_test(tmp_path):
    table = make_table(np.zeros((20, 1)), ["a"] * 18 + ["b"] * 2, "data")
    with pytest.raises(BadInput, match=r"class b has two samples; .* leave the test out with --test 0"):
        run(table, tmp_path / "s", Settings(trials=1, epochs=1))
    assert not (tmp_path / "s").exists()
    assert len(table.split(0.2).y_validation) == 4


def test_columns_are_prepared_by_the_samples_of_training_alone():
    x, y = columns(missing="Nome")
    prepared = Preparation.of({name: column[:-1] for name, column in x.items()}, y[:-1], ("old", "young"))
    model = prepared.space(100, (16,)).build(_defaults())
    scaled = StandardScaler().fit(x["age"][:-1, None]).transform(x["age"][:, None])
    coded = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(x["town"][:-1, None]).transform(x["town"][:, None])
    assert coded[-1].tolist() == [0, 0, 0]
    features = keras.Model(model.input, model.layers[1].output)
    found = keras.ops.convert_to_numpy(features(prepared.inputs(x)))
    np.testing.assert_allclose(found, np.concatenate([scaled, coded], axis=1), rtol=1e-6, atol=1e-6)


def _defaults():
    import keras_tuner

    return keras_tuner.HyperParameters()


def test_half_precision_neither_rounds_inputs_nor_predictions():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        space = MLP((2,), classes=2, mean=np.array([1e4, 0.0]), variance=np.array([1.0, 1.0]))
        model = space.build(_defaults())
    finally:
        keras.config.set_dtype_policy("float32")
    normalized = keras.Model(model.input, model.get_layer(index=1).output)(np.array([[10001.0, 0.0]], "float32"))
    assert keras.ops.convert_to_numpy(normalized).tolist() == [[1.0, 0.0]]
    assert model.get_layer("hidden_1").compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


@pytest.fixture(scope="module")
def refitted(tmp_path_factory):
    """A search on columns, and the same with its best network trained again."""
    folder = tmp_path_factory.mktemp("people")
    table = make_table(*columns(300), "people")
    plain = run(table, folder / "s", Settings(trials=2, epochs=3))
    reported = json.loads((folder / "s/results.json").read_text())
    model, pages = keras.models.load_model(plain.model_path), [(folder / "s/report.html").read_text()]
    again = run(table, folder / "s", Settings(trials=2, epochs=3, refit=True), resume=True)
    pages.append((folder / "s/report.html").read_text())
    return table, plain, reported, model, again, pages


def test_the_test_is_reported_apart_from_the_score(refitted):
    table, plain, reported, model, *_ = refitted
    split = table.split(0.2, 0, 0.2)
    features = model.layers[1]
    names = model.layers[-1].decode(model.predict(features.encode(split.x_test), verbose=0))
    expected = np.mean(names == np.array(table.classes)[split.y_test])
    assert plain.test_score == pytest.approx(expected, abs=1e-6)
    assert plain.test_samples == 60
    assert reported["test"] == {"samples": 60, "accuracy": plain.test_score}


def test_the_best_network_is_trained_again_on_training_and_validation(refitted):
    table, plain, _, model, again, _ = refitted
    assert [(r.trial, r.score) for r in again.results] == [(r.trial, r.score) for r in plain.results]
    new = keras.models.load_model(again.model_path)
    split = table.split(0.2, 0, 0.2)
    age = new.layers[1].columns[0]
    assert age.mean == pytest.approx(np.concatenate([split.x["age"], split.x_validation["age"]]).mean(), rel=1e-12)
    assert model.layers[1].columns[0].mean == pytest.approx(split.x["age"].mean(), rel=1e-12)
    trial = json.loads((again.model_path.parent / f"trials/trial_{plain.results[0].trial}/trial.json").read_text())
    batches = -(-240 // trial["hyperparameters"]["values"]["batch_size"])
    assert int(new.optimizer.iterations) == (trial["best_step"] + 1) * batches


def test_the_page_says_how_the_search_was_made_and_at_its_top_what_came_of_it(refitted):
    _, plain, reported, _, again, pages = refitted
    abouts = [text.partition("<h2>About the search</h2>")[2] for text in pages]
    facts = [dict(re.findall(r'<tr><td class="words">(.*?)</td><td class="words name">(.*?)</td></tr>', text)) for text in abouts]
    for text, found in zip(pages, facts, strict=True):
        top = text.partition("<h2>")[0]
        assert f"<p>test: {found['test']}</p>" in top
        assert f"<p>baseline: {found['baseline']}</p>" in top
    assert [found.pop("best model") for found in facts] == [
        "as its trial left it, not trained again",
        "trained again on the 240 samples of training and validation",
    ]
    assert [found.pop("test") for found in facts] == [
        f"accuracy {result.test_score:.4f} on 60 samples that no trial saw" for result in (plain, again)
    ]
    for found in facts:
        assert found.pop("baseline").endswith("on the 60 samples of the test")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", found.pop("ended"))
        assert found == {
            "tuner": "tpe, seed 0",
            "pruner": "median",
            "trials": "at most 2, of at most 3 epochs each",
            "put aside": "0.2 of the samples for the scores, 0.2 for the test",
            "networks": "mlp",
            "batch sizes": "16, 32, 64, 128",
            "computed in": "float32",
            "backend": f"keras {keras.__version__} on {reported['backend']}, {reported['device']}",
        }
    assert (plain.trained_again, again.trained_again) == (0, 240)


def test_a_resumed_search_without_settings_is_what_it_was(refitted):
    table, _, _, _, again, _ = refitted
    folder = again.model_path.parent
    before = keras.models.load_model(again.model_path).get_weights()
    resumed = run(table, folder, resume=True)
    assert resumed.trained_again == 240
    for old, new in zip(before, keras.models.load_model(resumed.model_path).get_weights(), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)
    assert json.loads((folder / "search.json").read_text())["refit"] is True


def test_a_search_on_columns_with_gaps_learns_from_them(tmp_path):
    x, _ = columns(200)
    gaps = np.random.default_rng(1).random(200) < 0.3
    x["age"] = np.where(gaps, np.nan, x["age"])
    # What is missing reports the class, and the numbers that are there do not.
    table = make_table(x, np.where(gaps, "old", "young"), "people")
    assert table.inputs == f"2 inputs (1 of numbers, 1 of text) with {gaps.sum()} gaps"
    result = run(table, tmp_path / "s", Settings(trials=1, epochs=20, batch_sizes=(8,), refit=True))
    assert result.test_score > 0.95
    model = keras.models.load_model(result.model_path)
    encoded = model.layers[1].encode({"age": [None, 40.0, "NA", "38"], "town": ["Oslo"] * 4})
    assert list(model.layers[-1].decode(model.predict(encoded, verbose=0))) == ["old", "young", "old", "young"]


@pytest.mark.slow
def test_no_test_and_no_score(tmp_path):
    result = run(make_table(*columns(60), "people"), tmp_path / "s", Settings(trials=1, epochs=1, test=0.0))
    assert result.test_score is None
    assert json.loads((tmp_path / "s/results.json").read_text())["test"] is None


def test_numbers_to_predict_are_tested_in_their_own_unit(tmp_path):
    x, _ = columns(200)
    table = make_table(x, 1000 + 30 * x["age"], "people")
    result = run(table, tmp_path / "s", Settings(trials=1, epochs=4))
    split = table.split(0.2, 0, 0.2)
    model = keras.models.load_model(result.model_path)
    predicted = model.predict(model.layers[1].encode(split.x_test), verbose=0)[:, 0].astype("float64")
    r2 = 1 - np.sum((predicted - split.y_test) ** 2) / np.sum((split.y_test - split.y_test.mean()) ** 2)
    # float32 around 2,000 with a spread of 300
    assert result.test_score == pytest.approx(r2, abs=1e-4)


@pytest.mark.parametrize("kind", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_search_in_half_precision(tmp_path, kind):
    result = run(make_table(*columns(100), "people"), tmp_path / "s", Settings(trials=1, epochs=2, mixed_precision=kind, batch_sizes=(20,)))
    assert keras.config.dtype_policy().name == "float32"
    assert result.results[0].hyperparameters["batch_size"] == 20
    model = keras.models.load_model(result.model_path)
    assert model.get_layer("hidden_1").compute_dtype == kind
    assert np.isfinite(result.test_score)
