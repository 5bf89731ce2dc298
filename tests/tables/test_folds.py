"""Searches of a table by folds: the scores, the best network, the baselines, and what is refused; by the command and in Python."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import processes
import pytest
from rich.console import Console
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_ext._checks import BadInput
from keras_ext.automl import Settings, run
from keras_ext.automl.baseline import Baseline, verdict
from keras_ext.automl.goal import Goal
from keras_ext.tables import load_frame, make_table

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 3)).astype("float32")
Y = X @ [1.0, -2.0, 0.5] + RNG.normal(0, 0.5, 150) > 0.3
SMALL = Settings(trials=3, epochs=3, folds=3, batch_sizes=(16,), network="mlp", max_layers=1)


def patients():
    """Return rows of patients, whose answers depend on the patient alone."""
    who = np.repeat(np.arange(30), 5)
    age = np.repeat(RNG.normal(50, 10, 30), 5)
    frame = pd.DataFrame({"patient": who, "age": age + RNG.normal(0, 0.1, 150), "dose": RNG.normal(size=150)})
    return frame.assign(y=np.repeat(RNG.normal(size=30), 5))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search by three folds: its table, its results, and its folder."""
    table, folder = make_table(X, Y, "made"), tmp_path_factory.mktemp("folds") / "s"
    return table, run(table, folder, SMALL), folder


def test_a_score_is_the_mean_of_the_folds_everywhere(searched):
    _, result, folder = searched
    reported = json.loads((folder / "results.json").read_text())
    for record, trial in zip(result.results, reported["trials"], strict=True):
        assert len(record.executions) == 3 or record.is_pruned
        assert record.score == pytest.approx(np.mean(record.executions), abs=1e-6)
        assert trial["executions"] == list(record.executions)
        # Shares of forty samples each.
        np.testing.assert_allclose(np.array(record.executions) * 40 % 1 % 0.999, 0, atol=1e-3)
    assert result.results.folds == 3
    console = Console(width=120)
    with console.capture() as capture:
        console.print(result.results.table())
    assert "each score is the mean of 3 folds" in " ".join(capture.get().split())
    page = (folder / "report.html").read_text()
    assert f"of trial {result.results[0].number}, the mean of 3 folds" in page
    assert "0.2 of the samples for the test, the others in 3 folds for the scores" in page
    assert "trained again on the 120 samples of all folds" in page
    assert json.loads((folder / "search.json").read_text())["folds"] == 3


def test_the_best_network_is_trained_again_on_all_samples_but_the_test_s(searched):
    table, result, folder = searched
    split = table.split(test=0.2, folds=3)
    assert result.trained_again == len(split.y) == 120
    model = keras.models.load_model(result.model_path)
    trial = json.loads((folder / f"trials/trial_{result.results[0].trial}/trial.json").read_text())
    assert int(model.optimizer.iterations) == (trial["best_step"] + 1) * -(-120 // 16)
    decided = model.predict(split.x_test, verbose=0).argmax(axis=1)
    assert result.test_score == pytest.approx(np.mean(decided == split.y_test), abs=1e-6)
    layer = next(each for each in model.layers if isinstance(each, keras.layers.Normalization))
    np.testing.assert_allclose(np.ravel(keras.ops.convert_to_numpy(layer.mean)), split.x.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_the_baselines_are_scored_on_the_same_folds(searched):
    table, result, _ = searched
    split = table.split(test=0.2, folds=3)
    models = {
        "HistGradientBoostingClassifier": HistGradientBoostingClassifier(random_state=0),
        "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    }
    assert {each.name for each in result.baselines} == set(models)
    for each in result.baselines:
        scores = cross_val_score(models[each.name], split.x, split.y, cv=PredefinedSplit(split.folds))
        assert each.score == pytest.approx(scores.mean(), abs=1e-6)
        assert each.test_score == pytest.approx(models[each.name].fit(split.x, split.y).score(split.x_test, split.y_test), abs=1e-6)
    assert result.verdict.endswith("on the 30 samples of the test")


def test_without_a_test_the_verdict_compares_the_means_of_the_folds():
    said = verdict([Baseline("Ridge", 0.9, None, 0.1)], (0.95, None), Goal("r2_score"), 0, 5)
    assert said == "the best network is better than scikit-learn's Ridge: r2_score 0.9500 against 0.9000 in the mean of 5 folds"


def test_a_search_by_folds_goes_on_as_it_began_and_keeps_a_fold_s_network_if_asked(searched):
    table, result, folder = searched
    known = [(record.trial, record.executions) for record in result.results]
    for settings, message in (
        (Settings(trials=3, epochs=3, folds=4, batch_sizes=(16,), network="mlp", max_layers=1), "holds a search with folds 3, got 4."),
        (Settings(trials=3, epochs=3, batch_sizes=(16,), network="mlp", max_layers=1), "holds a search with folds 3, got None."),
    ):
        with pytest.raises(BadInput) as raised:
            run(table, folder, settings, resume=True)
        assert message in str(raised.value)
    groups = make_table(X, Y, "made", groups=np.arange(150) % 30)
    with pytest.raises(BadInput, match="with another target or group"):
        run(groups, folder, SMALL, resume=True)
    kept = run(table, folder, Settings(**{**vars(SMALL), "refit": False}), resume=True)
    assert [(record.trial, record.executions) for record in kept.results] == known
    assert kept.trained_again == 0
    page = (folder / "report.html").read_text()
    assert "not trained again, of the folds&#x27; networks the one of the best epoch" in page
    model = keras.models.load_model(kept.model_path)
    split = table.split(test=0.2, folds=3)
    right = model.predict(split.x, verbose=0).argmax(axis=1) == split.y
    found = [right[split.folds == fold].mean() for fold in range(3)]
    assert any(abs(a - b) < 1e-6 for a, b in zip(found, kept.results[0].executions, strict=True))


def test_repeats_train_each_fold_again(tmp_path):
    settings = Settings(**{**vars(SMALL), "trials": 1, "repeats": 2, "baseline": False, "epochs": 1})
    (record,) = run(make_table(X, Y, "made"), tmp_path / "s", settings).results
    assert len(record.executions) == 6


def test_groups_of_a_data_frame_stay_together(tmp_path):
    frame = patients()
    settings = Settings(**{**vars(SMALL), "trials": 1, "pruner": "none"})
    result = run(frame, tmp_path / "s", settings, group="patient", target="y")
    assert json.loads((tmp_path / "s/search.json").read_text())["group"] == "patient"
    # Trees know the answer of a patient whom they have seen: by groups they cannot.
    trees = next(each for each in result.baselines if each.name == "HistGradientBoostingRegressor")
    split = load_frame(frame, "y", group="patient").split(test=0.2, folds=3)
    assert trees.score < 0.5
    loose = run(frame.drop(columns="patient"), tmp_path / "loose", settings, target="y")
    assert next(each for each in loose.baselines if each.name == "HistGradientBoostingRegressor").score > trees.score + 0.2
    assert {len(split.y), result.trained_again} == {150 - result.test_samples}
    with pytest.raises(BadInput, match=r"^`group` goes with a data frame, got patient beside a Table, which has its group\."):
        run(make_table(X, Y, "made"), tmp_path / "t", settings, group="patient")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 1}, "`folds` must be a whole number of at least 2, got 1."),
        ({"folds": 2.5}, "`folds` must be a whole number of at least 2, got 2.5."),
        ({"folds": True}, "`folds` must be a whole number of at least 2, got True."),
        ({"folds": 5, "validation": 0.3}, "`validation` must be left out with `folds`, which take its place, got 0.3."),
        (
            {"folds": 5, "tuner": "hyperband"},
            "`folds` must be left out with hyperband, got 5. It goes on with the weights of one fold, which have seen the others. Take "
            "another tuner.",
        ),
        (
            {"pruner": "wilcoxon"},
            "`pruner` must be another one for trials of one training, got 'wilcoxon'. It compares the trainings of a trial: give `folds`, "
            "such as 5, or `repeats`.",
        ),
    ],
)
def test_settings_that_do_not_go_with_folds_are_reported(given, message):
    with pytest.raises(ValueError) as raised:
        Settings(**given)
    assert str(raised.value) == message


def test_wilcoxon_prunes_with_folds_or_repeats():
    assert Settings(pruner="wilcoxon", folds=2).pruner == Settings(pruner="wilcoxon", repeats=2).pruner == "wilcoxon"


MISTAKES = {
    "--folds 1": "--folds must be a whole number of at least 2, got 1.",
    "--folds many": "Invalid value for '--folds': 'many' is not a valid integer. See keras-ext search --help.",
    "--pruner wilcoxon": (
        "--pruner must be another one for trials of one training, got 'wilcoxon'. It compares the trainings of a trial: give --folds, such "
        "as 5, or --repeats."
    ),
    "--folds 3 --tuner hyperband": (
        "--folds must be left out with hyperband, got 3. It goes on with the weights of one fold, which have seen the others. Take another "
        "tuner."
    ),
    "--data rows.csv --folds 17": (
        "rows.csv: class u has 16 samples outside the test, fewer than the 17 --folds. Take at most 16, or add samples."
    ),
    "--data rows.csv --group ward": 'rows.csv: no column "ward". Name one of "patient", "age", "y" with --group.',
    "--data rows.csv --group y": 'rows.csv: column "y" is the target, not a group. Name another --group or --target.',
    "--data rows.csv --group patient --folds 8": (
        "rows.csv: has 8 groups of samples, and 9 parts need one each. Take fewer parts, or groups of another column."
    ),
    "--group patient": "--group goes with a CSV file. Leave it out.",
}


def test_mistakes_about_folds_and_groups_are_a_line_each(tmp_path):
    rows = pd.DataFrame({"patient": np.arange(40) % 8, "age": RNG.normal(size=40), "y": ["u", "v"] * 20})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for words, message in MISTAKES.items():
        done = processes.run("-m", "keras_ext", "search", *words.split(), cwd=tmp_path)
        assert done.returncode == 2, words
        assert processes.own_lines(done.stderr).strip() == f"keras-ext: {message}"
    assert not (tmp_path / "results").exists()


def outcome(folder):
    reported = json.loads((folder / "results.json").read_text())
    trials = sorted(reported["trials"], key=lambda trial: trial["number"])
    return [(t["hyperparameters"], t["ended"], np.round(t["executions"], 4).tolist()) for t in trials], reported["test"]["samples"]


def test_a_search_by_folds_that_is_killed_goes_on_as_if_it_were_not(tmp_path):
    patients().to_csv(tmp_path / "rows.csv", index=False)
    words = ["search", "--data", "rows.csv", "--group", "patient", "--folds", "3", "--trials", "3", "--epochs", "4", "--pruner", "wilcoxon"]
    words += ["--network", "mlp", "--max-layers", "1", "--no-baseline", "--together", "1"]
    command = [sys.executable, "-m", "keras_ext", *words, "--output", "parts"]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": paths}
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 240
    while not (tmp_path / "parts/trials/trial_1/checkpoint.weights.h5").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "parts/results.json").exists()
    for more in (["--output", "whole"], ["--output", "parts", "--resume"]):
        done = processes.run("-m", "keras_ext", *(words if "--resume" not in more else words[:1]), *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    assert ", the mean of 3 folds), trained again on the " in done.stdout
    assert json.loads((tmp_path / "parts/search.json").read_text())["group"] == "patient"
