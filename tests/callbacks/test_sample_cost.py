"""How many samples a snapshot takes: all of a small model, fewer of one with large feature maps."""

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.probe.probe import affordable

L = keras.layers


def convolutional(size, filters=4):
    return keras.Sequential(
        [keras.Input((size, size, 1)), L.Conv2D(filters, 3, padding="same", activation="relu"), L.Flatten(), L.Dense(1)]
    )


def taken(model, samples):
    x, y, weight = affordable(model, ({"a": np.zeros((samples, 2)), "b": np.zeros(samples)}, np.arange(samples), None))
    assert len(x["a"]) == len(x["b"]) == len(y)
    assert weight is None
    assert y.tolist() == list(range(len(y)))
    return len(y)


# A sample has 4 numbers a pixel.
@pytest.mark.parametrize(("size", "of_256"), [(32, 256), (90, 256), (128, 128), (170, 72), (256, 32)])
def test_large_feature_maps_leave_fewer_samples(size, of_256):
    assert taken(convolutional(size), 256) == of_256


def test_the_number_asked_for_still_counts():
    assert taken(convolutional(128), 1024) == 512
    assert taken(convolutional(256), 20) == 20


def test_what_is_not_known_leaves_all():
    assert taken(keras.Sequential([keras.Input((None, None, 1)), L.Conv2D(8, 3, activation="relu")]), 256) == 256


def test_the_monitor_snapshots_at_no_more(monkeypatch):
    seen = []
    layer = L.Lambda(lambda x: seen.append(x.shape[0]) or x)
    model = keras.Sequential([keras.Input((256, 256, 1)), layer, L.Conv2D(8, 3, activation="relu"), L.GlobalMaxPooling2D(), L.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    x, y = np.zeros((40, 256, 256, 1), "float32"), np.zeros((40, 1), "float32")
    seen.clear()
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[SaturationMonitor(x, y, on_critical=None)])
    assert {size for size in seen if size} == {4, 32}
