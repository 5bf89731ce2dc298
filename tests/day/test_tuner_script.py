"""A KerasTuner script that adds the monitor: as one callback more, then by `watch`."""

import csv

import pytest

SCRIPT = """
import keras
import keras_tuner
from sklearn.datasets import load_digits

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
x, y, x_test, y_test = images[297:] / 16, labels[297:], images[:297] / 16, labels[:297]


def build(hp):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.Adam(hp.Choice("rate", [0.01, 10.0])), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


tuner = keras_tuner.RandomSearch(build, "val_accuracy", max_trials=2, seed=1, directory="search", project_name="digits")
tuner.search(x, y, epochs=6, batch_size=50, validation_split=0.2, verbose=0, callbacks=[keras.callbacks.EarlyStopping(patience=6)])
score = tuner.oracle.get_best_trials()[0].score
"""
HEARD = """heard = []
monitor = SaturationMonitor(x, y, on_critical=ON_CRITICAL, on_finding=heard.append)
"""
AS_A_CALLBACK = (
    SCRIPT.replace("import keras_tuner\n", "import keras_tuner\nfrom keras_ext.callbacks import SaturationMonitor\n")
    .replace("tuner = ", HEARD.replace("ON_CRITICAL", "None") + "tuner = ")
    .replace("callbacks=[", "callbacks=[monitor, ")
)
WATCHED = (
    SCRIPT.replace(
        "import keras_tuner\n",
        "import keras_tuner\nfrom keras_ext.callbacks import SaturationMonitor\nfrom keras_ext.search import results, watch\n",
    )
    .replace("tuner = ", HEARD.replace("ON_CRITICAL", '"stop"') + "tuner = ")
    .replace("tuner.search(", "watch(tuner, monitor)\ntuner.search(")
) + 'found = results(tuner)\nfound.to_csv("trials.csv")\naccuracy = tuner.get_best_models()[0].evaluate(x_test, y_test, verbose=0)[1]\n'


def trials(names):
    return {t.hyperparameters.get("rate"): t for t in names["tuner"].oracle.trials.values()}


def test_the_search_is_the_one_it_was_and_reports_which_trial_is_unhealthy(run_here, tmp_path):
    before = run_here(SCRIPT, tmp_path / "before")
    after = run_here(AS_A_CALLBACK, tmp_path / "after")
    assert set(trials(before)) == set(trials(after)) == {0.01, 10.0}
    for rate, trial in trials(before).items():
        for metric in ("val_accuracy", "val_loss"):
            mine, theirs = (t.metrics.get_history(metric)[0].value for t in (trials(after)[rate], trial))
            assert mine == theirs
    # Chance is .1.
    assert after["score"] == before["score"] > 0.8
    # KerasTuner copies callbacks for each trial: the script's own instance saw none of them.
    assert after["monitor"].snapshots == []
    assert "dead_relu" in {finding.symptom for finding in after["heard"]}


@pytest.mark.slow
def test_a_watched_search_ends_the_unhealthy_trial_and_says_why(run_here, tmp_path):
    names = run_here(WATCHED, tmp_path)
    found = {record.hyperparameters["rate"]: record for record in names["found"]}
    well, unhealthy = found[0.01], found[10.0]
    assert (well.status, well.ended, well.epochs) == ("COMPLETED", "", 6)
    assert unhealthy.epochs < 6
    assert unhealthy.ended.startswith("critical: dead relu")
    # Chance is .1.
    assert names["accuracy"] > 0.8
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rate"]) for row in rows] == [0.01, 10.0]
