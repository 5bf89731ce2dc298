"""A disk that is full in the midst of a search: the trial fails, what is written stays readable, and the search goes on."""

import errno
import json
import os

import keras
import keras_tuner
import numpy as np
import pytest

from keras_ext import _atomic
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def tuner(folder):
    def build(hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 2, 5)), keras.layers.Dense(2, "softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    return keras_tuner.RandomSearch(build, "val_loss", max_trials=3, seed=1, directory=folder, project_name="p", overwrite=False)


def search(watched):
    watched.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)


@pytest.fixture
def disk(monkeypatch):
    """A function that makes the disk full from the write with one number on, up to that with another."""
    count, bounds, sync = [0], [10**9, 10**9], os.fsync

    def full_or_not(file):
        count[0] += 1
        if bounds[0] <= count[0] < bounds[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(_atomic.os, "fsync", full_or_not)

    def fill(first, last=10**9):
        bounds[:] = first, last
        return count

    return fill


# A trial writes itself, the oracle, itself with its metrics, its diagnosis, itself, the oracle, and so does the tuner.
@pytest.mark.parametrize("first", [1, 7, 11])
@pytest.mark.filterwarnings("ignore:.*cannot be written.*The search goes on")
def test_a_disk_that_is_full_for_a_while_costs_a_trial_at_most(tmp_path, disk, first):
    disk(first, first + 4)
    search(watch(tuner(tmp_path), SaturationMonitor(X, Y)))
    disk(10**9)
    found = results(tuner(tmp_path))
    assert len(found) == 3
    assert sum(r.status == "COMPLETED" for r in found) >= 2
    assert {r.ended for r in found} <= {"", "failed: OSError: [Errno 28] No space left on device"}
    assert not list(tmp_path.rglob(".*"))


def test_a_disk_that_stays_full_is_reported_and_keeps_what_was_written(tmp_path, disk):
    count = disk(10**9)
    search(watch(tuner(tmp_path / "whole"), SaturationMonitor(X, Y)))
    disk(count[0] + 8)
    with (
        pytest.warns(
            UserWarning, match=r"cannot be written \(No space left on device\)\. The search goes on, and tries again\. Make room\."
        ),
        pytest.raises(OSError, match=r"files of the search could not be written: No space left on device"),
    ):
        search(watch(tuner(tmp_path / "half"), SaturationMonitor(X, Y)))
    for path in (tmp_path / "half").rglob("*.json"):
        json.loads(path.read_text())
    disk(10**9)
    again = watch(tuner(tmp_path / "half"), SaturationMonitor(X, Y))
    search(again)
    assert [r.status for r in results(again)] == ["COMPLETED"] * 3
