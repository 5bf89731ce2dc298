"""Numbers in a table that stand for what is not known."""

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.probe.placeholders import placeholders


def table(columns=3, samples=60, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, columns)).astype("float32")


def with_number(number, rows, columns=(1,)):
    x = table()
    for column in columns:
        x[:rows, column] = number
    return x


@pytest.mark.parametrize(
    ("x", "seen"),
    [
        (table(), ""),
        (with_number(-99999, 5), "The inputs have -99999 in 5 of 60 samples of column 1, far from its other numbers"),
        (with_number(-99999, 5, (0, 2)), "The inputs have -99999 in 5 of 60 samples of column 0, and in 2 of 3 columns"),
        (with_number(999, 29)[:, 1], "The inputs have 999 in 29 of 60 samples of column 0, far from its other numbers"),
        (with_number(999, 31), ""),  # the others are fewer
        (with_number(999, 1), ""),  # one number may be an error of measurement, or true
        (with_number(12, 5), ""),  # not far
        (with_number(np.nan, 5), ""),
        (with_number(-99999, 5)[:19], ""),  # few samples
        ((table(1, 60) > 1).astype("int64") * 1000, ""),  # two numbers, of which none is out of place
        (np.zeros((60, 2)), ""),
        (np.where(np.arange(60) < 3, -1, np.arange(60) % 7)[:, None], ""),  # a code among others
        (with_number(-99999, 5)[:, :, None], ""),  # no table
        ({"a": table(), "b": with_number(-7777, 4)}, "The inputs have -7777 in 4 of 60 samples of column 1, far from its other numbers"),
        (np.array(["a", "b"] * 30), ""),
        (np.tile(with_number(-99999, 5), 700), ""),  # more columns than are looked through
    ],
)
def test_a_number_far_from_all_others_is_found(x, seen):
    assert placeholders(x) == seen


def network(x, *first):
    model = keras.Sequential([keras.Input((3,)), *first, keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    return model


@pytest.mark.parametrize("number", [-99999.0, -40.0])
def test_the_monitor_names_the_number_whatever_the_scale(number):
    x = with_number(number, 4)
    y = table(1, seed=1)
    monitor = SaturationMonitor(x, y)
    network(x).fit(x, y, epochs=1, verbose=0, callbacks=[monitor])
    (found,) = [f for f in monitor.findings if f.symptom == "unscaled_input"]
    assert found.severity == "warning"
    assert found.advice == (
        f"The inputs have {number:.6g} in 4 of 60 samples of column 1, far from its other numbers. If it means that a value is missing, "
        "write the column's median instead, and add a column that says so."
    )
    (found,) = [f for f in diagnose(network(x), x, y).findings if f.symptom == "unscaled_input"]
    assert found.advice.startswith(f"The inputs have {number:.6g} in 4 of 60 samples")


def test_a_number_that_only_looks_out_of_place_stops_no_training():
    x, y = with_number(-40.0, 4), table(1, seed=1)
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    monitor = SaturationMonitor(x, y, on_critical="stop")
    network(x, normalization).fit(x, y, epochs=12, verbose=0, callbacks=[monitor])
    assert [f.severity for f in monitor.findings if f.symptom == "unscaled_input"] == ["warning"]
