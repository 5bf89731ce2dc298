"""Warnings of the package show the user's own line."""

import warnings

import keras
import numpy as np

from keras_ext._warnings import warn
from keras_ext.callbacks import SaturationMonitor


def test_a_warning_shows_the_line_that_called_keras():
    x = np.ones((32, 4), "float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, x[:, :1] * np.nan, verbose=0, callbacks=[SaturationMonitor(x, x[:, :1] * np.nan)])
    (seen,) = (each for each in caught if "critical" in str(each.message))
    assert seen.filename == __file__


def test_where_no_line_is_the_users_the_outermost_one_is_shown():
    source = "warn('text')"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(source, "inner.py", "exec"), {"warn": warn, "__name__": "keras.inner"})
    assert [each.filename for each in caught] == [__file__]
