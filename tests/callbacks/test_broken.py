"""Where the data are not finite."""

import keras
import numpy as np
import pandas as pd
import pytest

from keras_ext.callbacks import SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.probe import broken as module
from keras_ext.callbacks.monitor.probe.broken import broken


def data(**places):
    x = np.ones((50, 4), "float32")
    for row, column in places.values():
        x[row, column] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "places"),
    [
        (data(), ()),
        (data(a=(3, 1)), ("`x` has NaN or infinity in 1 of 50 samples, in column 1",)),
        (data(a=(3, 1), b=(3, 2), c=(7, 2)), ("`x` has NaN or infinity in 2 of 50 samples, in columns 1, 2",)),
        (data(a=(0, 0), b=(0, 1), c=(0, 2), d=(0, 3)), ("`x` has NaN or infinity in 1 of 50 samples",)),
        (pd.DataFrame(data(a=(3, 1)), columns=list("abcd")), ("`x` has NaN or infinity in 1 of 50 samples, in column 'b'",)),
        ({"a": data(), "b": data(a=(1, 3))}, ("`x['b']` has NaN or infinity in 1 of 50 samples, in column 3",)),
        (np.full(50, np.inf), ("`x` has NaN or infinity in 50 of 50 samples",)),
        (np.full((50, 2), 3e38, "float32"), ()),  # whose sum overflows
        (np.arange(50), ()),
    ],
)  # fmt: skip
def test_places_are_named(x, places):
    assert broken((x, None, None), (x, None, None)) == places


def test_many_columns_are_counted_and_large_arrays_are_not_read(monkeypatch):
    x = np.ones((10, 8))
    x[0, :7] = np.nan
    (seen,) = broken((x, None, None), (x, None, None))
    assert seen.endswith("in columns 0, 1, 2 and 4 more")
    monkeypatch.setattr(module, "_MOST_BYTES", x.nbytes - 1)
    assert broken((x, None, None), (None, None, None)) == ()


def test_of_a_dataset_the_samples_that_were_taken_count():
    assert broken((iter([]), None, None), (data(a=(3, 1)), None, None)) == ("`x` has NaN or infinity in 1 of 50 samples, in column 1",)


def test_nan_that_the_probe_did_not_draw_is_named_once_it_has_reached_the_weights():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 4)).astype("float32")
    x[17, 2] = np.nan
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    monitor = SaturationMonitor(x, x[:, :1], on_critical=None, probe_size=16)
    assert np.isfinite(monitor._data[0]).all()
    model.fit(x, x[:, :1], verbose=0, callbacks=[monitor])
    advice = next(f.advice for f in monitor.findings if f.symptom == "non_finite")
    assert advice == "A value is NaN or infinite. `x` has NaN or infinity in 1 of 2000 samples, in column 2. Drop or fill these samples."
    assert "in column 2" in next(f.advice for f in diagnose(model, x, x[:, :1], probe_size=16).findings if f.symptom == "non_finite")
