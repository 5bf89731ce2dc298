"""Whole searches in this process: every tuner, resume, failures, and the saved model."""

import itertools
import json
import re
import warnings
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext._atomic import write_json
from keras_ext._checks import BadInput
from keras_ext.automl import run
from keras_ext.automl.settings import Settings
from keras_ext.automl.tuners import hyperband_trials, make_tuner
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search.records import Record, collect, diagnosis_of, in_words
from keras_ext.search.report.results import Results
from keras_ext.search.watch import watch
from keras_ext.tables import load_digits
from keras_ext.tables.data import make_table


def table(n=120, task="classification"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype("float32")
    y = x @ np.array([1.0, -2.0, 0.5, 0.0]) * 10 + 300
    return make_table(x, y if task == "regression" else np.where(y > 300, "above", "below"), "made")


@pytest.mark.parametrize(
    "tuner", ["random", pytest.param("tpe", marks=pytest.mark.slow), pytest.param("grid", marks=pytest.mark.slow), "hyperband"]
)
def test_every_tuner_ends_with_a_leaderboard_and_a_model(tmp_path, tuner):
    result = run(table(), tmp_path / "s", Settings(tuner=tuner, trials=3, epochs=3))
    assert len(result.results) == (hyperband_trials(3) if tuner == "hyperband" else 3)
    scores = [r.score for r in result.results]
    assert scores == sorted(scores, reverse=True)
    reported = json.loads((tmp_path / "s/results.json").read_text())
    assert [t["trial"] for t in reported["trials"]] == [r.trial for r in result.results]
    assert reported["classes"] == ["above", "below"]
    lines = (tmp_path / "s/leaderboard.csv").read_text().splitlines()
    assert len(lines) == 1 + len(result.results)


def test_the_saved_model_has_the_score_of_the_leaderboard(tmp_path):
    data, settings = table(), Settings(trials=3, epochs=4)
    result = run(data, tmp_path / "s", settings)
    split = data.split(settings.validation, settings.seed, settings.test)
    model = keras.models.load_model(result.model_path)
    predicted = model.predict(split.x_validation, verbose=0).argmax(axis=1)
    assert np.mean(predicted == split.y_validation) == pytest.approx(result.results[0].score, abs=1e-6)


def test_regression_predicts_in_the_target_s_own_unit(tmp_path):
    data, settings = table(400, "regression"), Settings(trials=3, epochs=10)
    result = run(data, tmp_path / "s", settings)
    split = data.split(settings.validation, settings.seed, settings.test)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = keras.models.load_model(result.model_path)
    assert type(model.optimizer).__module__.startswith("keras_ext.")
    assert int(model.optimizer.iterations) > 0
    predicted = model.predict(split.x_validation, verbose=0)[:, 0]
    r2 = 1 - np.sum((predicted - split.y_validation) ** 2) / np.sum((split.y_validation - split.y_validation.mean()) ** 2)
    # float32 around 300 with a spread of 20
    assert r2 == pytest.approx(result.results[0].score, abs=1e-4)
    assert r2 > 0.5


@pytest.mark.parametrize("tuner", ["random", pytest.param("grid", marks=pytest.mark.slow)])
def test_a_resumed_search_is_the_uninterrupted_one(tmp_path, tuner):
    whole = run(table(), tmp_path / "whole", Settings(tuner=tuner, trials=4, epochs=2))
    run(table(), tmp_path / "parts", Settings(tuner=tuner, trials=2, epochs=2))
    parts = run(table(), tmp_path / "parts", Settings(tuner=tuner, trials=4, epochs=2), resume=True)
    assert [(r.trial, r.score, r.hyperparameters) for r in parts.results] == [(r.trial, r.score, r.hyperparameters) for r in whole.results]
    # A search cannot become shorter than it is.
    files = {p: p.read_bytes() for p in (tmp_path / "parts").rglob("*") if p.is_file()}
    with pytest.raises(BadInput) as raised:
        run(table(), tmp_path / "parts", Settings(tuner=tuner, trials=3, epochs=2), resume=True)
    assert str(raised.value) == (
        f"{tmp_path / 'parts'}: holds 4 trials already, got `trials` 3. Give at least 4: with 4 no further one is trained."
    )
    assert files == {p: p.read_bytes() for p in (tmp_path / "parts").rglob("*") if p.is_file()}


@pytest.mark.slow
def test_the_seed_decides_the_search(tmp_path):
    zero, again, one = (run(table(), tmp_path / str(i), Settings(trials=2, epochs=1, seed=s)) for i, s in enumerate((0, 0, 1)))
    assert [(r.score, r.hyperparameters) for r in zero.results] == [(r.score, r.hyperparameters) for r in again.results]
    assert [r.hyperparameters for r in zero.results] != [r.hyperparameters for r in one.results]


def test_another_search_in_the_same_folder_is_refused_and_nothing_is_lost(tmp_path):
    run(table(), tmp_path / "s", Settings(trials=1, epochs=1))
    files = {p: p.read_bytes() for p in sorted((tmp_path / "s").rglob("*")) if p.is_file()}
    for settings, resume, data, message in (
        (
            Settings(trials=1, epochs=1),
            False,
            table(),
            "holds a search. Add `resume=True` to go on with it, or give another `output`.",
        ),
        (Settings(trials=2, epochs=2), True, table(), "holds a search with epochs 1, got 2. Give what it began with, or another `output`."),
        (Settings(trials=2, epochs=1), True, table(60), "holds a search on other data, or with another target or group."),
    ):
        with pytest.raises(BadInput) as raised:
            run(data, tmp_path / "s", settings, resume=resume)
        assert message in str(raised.value)
    assert files == {p: p.read_bytes() for p in sorted((tmp_path / "s").rglob("*")) if p.is_file()}
    with pytest.raises(BadInput, match=r"holds no search to resume\. Leave `resume` out to start one there\."):
        run(table(), tmp_path / "none", Settings(trials=1), resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"holds other files\. Give another `output`\."):
        run(table(), tmp_path / "full", Settings(trials=1))


class Unpromising(keras_tuner.HyperModel):
    """Trials of three kinds in turn: one that cannot be built, one whose loss is NaN, one whose units are all dead."""

    def build(self, hp):
        kind = hp.Choice("kind", ["dead", "error", "nan"])
        if kind == "error":
            raise ValueError("no such layer")
        bias = keras.initializers.Constant(-50.0 if kind == "dead" else 0.0)
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(4, "relu", bias_initializer=bias), keras.layers.Dense(2, "softmax")]
        )
        model.compile(keras.optimizers.SGD(float("nan") if kind == "nan" else 0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


def watched_grid(space, data, objective, trials, epochs, folder):
    monitor = SaturationMonitor(data.x, data.y, on_critical="stop")
    tuner = make_tuner(str(folder), kind="grid", space=space, objective=objective, trials=trials, epochs=epochs, seed=0)
    return watch(tuner, monitor, seed=0)


def test_trials_are_repeated_and_structures_have_several_trials(tmp_path):
    settings = Settings(trials=4, epochs=2, repeats=2, trials_per_structure=2)
    found = run(table(), tmp_path / "s", settings).results
    assert all(len(record.executions) == 2 for record in found)
    assert all(record.score == pytest.approx(sum(record.executions) / 2) for record in found)
    in_turn = sorted(found, key=lambda record: record.number)
    for first, second in (in_turn[:2], in_turn[2:]):
        assert [first.hyperparameters.get(n) for n in ("layers", "units", "optimizer")] == [
            second.hyperparameters.get(n) for n in ("layers", "units", "optimizer")
        ]
        assert first.hyperparameters != second.hyperparameters
    with pytest.raises(ValueError, match=r"^`trials_per_structure` must be 1 with the tuner grid, got 2\. Choose one of tpe, "):
        Settings(tuner="grid", trials_per_structure=2)


def test_unpromising_trials_are_recorded_with_their_reason_and_the_search_goes_on(tmp_path):
    data = table().split()
    objective = keras_tuner.Objective("val_loss", "min")
    tuner = watched_grid(Unpromising(), data, objective, 9, 9, tmp_path / "t")
    tuner.search(data.x, data.y, validation_data=(data.x_validation, data.y_validation), epochs=9, verbose=0)
    by_kind = {r.hyperparameters["kind"]: r for r in collect(tuner)}
    assert len(by_kind) == 3
    assert by_kind["error"].diagnosis == "failed: ValueError: no such layer"
    assert by_kind["error"].score is None
    assert by_kind["nan"].diagnosis.startswith("critical: non finite")
    assert by_kind["nan"].score is None
    assert re.match(r"critical: poor initialization \(dense\w*\), dead relu", by_kind["dead"].diagnosis)
    assert by_kind["dead"].score is not None
    assert by_kind["dead"].epochs == 5  # of nine: stopped after half of the planned steps, as these are fewer than a hundred


def test_the_monitors_numbers_are_an_objective(tmp_path):
    tuner = keras_tuner.RandomSearch(
        lambda hp: Unpromising().build(_fixed(hp)), objective=keras_tuner.Objective("dead", "min"), max_trials=1, directory=tmp_path
    )
    data = table().split()
    tuner.search(data.x, data.y, epochs=1, verbose=0, callbacks=[SaturationMonitor(data.x, data.y, on_critical=None)])
    assert tuner.oracle.get_best_trials()[0].score == 1.0


def _fixed(hp):
    hp.Fixed("kind", "dead")
    return hp


def test_diagnoses_and_hyperparameters_read_as_words():
    assert diagnosis_of([]) == "nothing found"
    found = [
        {"symptom": "saturated", "severity": "warning", "layer": "a"},
        {"symptom": "dead_relu", "severity": "critical", "layer": "b"},
        {"symptom": "dead_relu", "severity": "critical", "layer": "c"},
    ]
    assert diagnosis_of(found) == "critical: dead relu (b, ...)"
    assert diagnosis_of(found[:1]) == "warning: saturated (a)"
    assert in_words({"act": "relu", "init_relu": "he", "drop": 0.0, "n": 3, "rate": 0.0123456, "clip": "none"}) == (
        "act relu, init he, drop 0, n 3, rate 0.01235"
    )


def test_a_leaderboard_shows_what_text_it_is_given():
    record = Record(1, "0", "FAILED", None, 0, 1.0, "failed: [red]x[/nothing]", {})
    from rich.console import Console

    console = Console(width=80, record=True, quiet=True)
    console.print(Results((record,), "val_accuracy").table())
    assert Results((record,) * 30, "s").table().row_count == 10


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kept": 1})
    with pytest.raises(TypeError):
        write_json(path, {"half": object()})
    assert json.loads(path.read_text()) == {"kept": 1}


def test_digits_are_there():
    data = load_digits()
    assert (data.x.shape, len(data.classes), data.task) == ((1797, 64), 10, "classification")


@pytest.mark.slow
def test_a_grid_is_gone_through_without_gaps_or_repeats_across_restarts(tmp_path):
    def build(hp):
        hp.Choice("a", [1, 2, 3])
        if hp.Boolean("b"):
            with hp.conditional_scope("b", [True]):
                hp.Choice("c", [10, 20])
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    data = table().split()
    objective = keras_tuner.Objective("val_loss", "min")
    seen = []
    for trials in range(1, 12):  # a new tuner from the same folder each time
        tuner = watched_grid(build, data, objective, trials, 1, tmp_path / "t")
        tuner.search(data.x, data.y, validation_data=(data.x_validation, data.y_validation), epochs=1, verbose=0)
        seen = [tuple(sorted(t.hyperparameters.values.items())) for t in tuner.oracle.trials.values()]
    assert len(seen) == len(set(seen)) == 9


class Killed(BaseException):
    """The end of the process, as far as the files are concerned."""


def killed_at(monkeypatch, write, partial):
    """Let the search die at its `write`-th file, before or after the file is in its place."""
    count, replace = [0], Path.replace

    def dying(self, target):
        count[0] += 1
        if count[0] == write and partial:
            raise Killed
        replace(self, target)
        if count[0] == write:
            raise Killed

    monkeypatch.setattr(Path, "replace", dying)
    return count


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    result = run(table(), tmp_path_factory.mktemp("whole") / "s", Settings(trials=2, epochs=1))
    return [(r.trial, r.score, r.hyperparameters) for r in result.results]


# The 2nd to 4th writes begin the first trial; the 10th to 12th lie between two trials.
QUICK = [(2, True), (10, False)]


@pytest.mark.parametrize(
    ("write", "partial"),
    [pytest.param(*at, marks=[] if at in QUICK else pytest.mark.slow) for at in itertools.product(range(2, 22), (True, False))],
)
@pytest.mark.backend_free
def test_a_search_that_dies_at_any_write_goes_on_as_if_it_had_not(tmp_path, monkeypatch, uninterrupted, write, partial):
    with monkeypatch.context() as dying:
        count = killed_at(dying, write, partial)
        with pytest.raises(Killed):
            run(table(), tmp_path / "s", Settings(trials=2, epochs=1))
    assert count[0] >= write
    result = run(table(), tmp_path / "s", Settings(trials=2, epochs=1), resume=True)
    assert [(r.trial, r.score, r.hyperparameters) for r in result.results] == uninterrupted
