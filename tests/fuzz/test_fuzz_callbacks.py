"""Every callback, whatever it is given: a fit that it watches, or an error in words."""

import copy
import dataclasses
import json

import fuzzing
import keras
import numpy as np
import pytest
from fuzzing import FLAG, WHOLE, Fuzzed, refused
from hypothesis import strategies as st

from keras_ext import callbacks
from keras_ext.optimizers import SGD, GradientClipping
from keras_ext.schedules import OneCycle

# Results, which the package makes.
MADE_BY_US = ("Diagnosis", "Finding", "RateCurve")
X = np.random.default_rng(0).normal(size=(12, 3)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")
DATA = {"x": st.just(X) | st.just([(X[:6], Y[:6]), (X[6:], Y[6:])]), "y": st.just(Y), "sample_weight": st.sampled_from([None, Y[:, 0]])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def owes_copies(callback, arguments):
    again = copy.deepcopy(callback)
    assert type(again) is type(callback)
    assert sorted(vars(again)) == sorted(vars(callback))


def owes_an_equal_one(limits, arguments):
    assert callbacks.Limits(**json.loads(json.dumps(dataclasses.asdict(limits), allow_nan=False))) == limits


def watched_fit(callback, arguments):
    """Check that a fit ends with the callback in it, or is refused in words."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "relu", name="h"), keras.layers.Dense(1, "sigmoid")])
    model.compile(
        GradientClipping(SGD(OneCycle(0.1, total_steps=9), momentum=0.5)),
        "binary_crossentropy",
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    if isinstance(callback, callbacks.LearningRateFinder):
        curve = refused(lambda: callback.find(model))
        assert curve is None or len(curve.rates) == len(curve.losses)
        return
    history = refused(lambda: model.fit(X, Y, batch_size=6, epochs=2, verbose=0, callbacks=[callback]).history)
    assert history is None or np.isfinite(history["loss"]).all()


MOMENTUM = st.sampled_from([0, 0.5, 0.95, np.float32(0.85)])
TARGET = st.sampled_from([None, 0, 0.5, np.float32(0.1), 1e9])
FUZZED = {
    "ClippingLog": Fuzzed(callbacks.ClippingLog, {}, owes_copies),
    "LearningRateFinder": Fuzzed(
        callbacks.LearningRateFinder,
        {
            **DATA,
            "batch_size": WHOLE,
            "steps": st.sampled_from([10, np.int64(12)]),
            "min_learning_rate": st.sampled_from([1e-7, 0.01]),
            "max_learning_rate": st.sampled_from([10.0, 1, np.float32(2)]),
            "stop_factor": st.sampled_from([4, 1.5]),
            "seed": st.integers(0, 9),
        },
        owes_copies,
        ("x",),
    ),
    "Limits": Fuzzed(
        callbacks.Limits,
        {
            f.name: WHOLE if f.name in ("window", "slow") else st.sampled_from([f.default, 0.5, 2, np.float32(0.25)])
            for f in dataclasses.fields(callbacks.Limits)
        },
        owes_an_equal_one,
        found=({"saturated": np.float32(0.25), "window": np.int64(5)},),
    ),
    "OneCycleMomentum": Fuzzed(
        callbacks.OneCycleMomentum,
        {
            "max_momentum": MOMENTUM,
            "min_momentum": MOMENTUM,
            "schedule": st.none() | st.builds(OneCycle, st.just(0.1), st.integers(3, 9)),
        },
        owes_copies,
    ),
    "SaturationMonitor": Fuzzed(
        callbacks.SaturationMonitor,
        {
            **DATA,
            "every": st.just("epoch") | WHOLE,
            "layers": st.sampled_from([None, ["h"], ("h",), ["nothing"]]),
            "limits": st.none() | st.builds(callbacks.Limits),
            "on_critical": st.sampled_from([None, "warn", "stop", "raise"]),
            "patience": WHOLE,
            "probe_size": WHOLE,
            "seed": st.integers(0, 9),
            "rank": FLAG,
            "per_layer": FLAG,
            "report": st.none(),
            "log_dir": st.none(),
            "on_finding": st.sampled_from([None, print]),
        },
        owes_copies,
        ("x",),
        found=tuple(
            {"x": X, **more} for more in ({"every": np.array([])}, {"report": 3}, {"log_dir": b"x"}, {"report": "a\0b"}, {"log_dir": ""})
        ),
    ),
    "StopAt": Fuzzed(
        callbacks.StopAt,
        {
            "monitor": st.sampled_from(["loss", "val_loss", "nothing"]),
            "below": TARGET,
            "above": TARGET,
            "every": st.sampled_from(["epoch", "batch"]),
            "missing": st.sampled_from(["error", "wait"]),
        },
        owes_copies,
        ("monitor",),
    ),
}
IN_TRAINING = {name: dataclasses.replace(fuzzed, owes=watched_fit) for name, fuzzed in FUZZED.items() if name != "Limits"}


def test_every_callback_has_a_strategy():
    assert sorted(FUZZED) == fuzzing.public(callbacks, MADE_BY_US)


def test_a_callback_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED)


@pytest.mark.skipif(fuzzing.BACKEND == "jax", reason="the deep snapshot does it")
def test_a_callback_that_can_be_made_watches_a_fit(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fuzzing.quick(IN_TRAINING, 2, odd=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_a_callback_works_or_is_refused_in_words_whatever_it_is_given(name):
    fuzzing.deep(name, FUZZED[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_TRAINING)
def test_a_callback_that_can_be_made_watches_any_fit(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fuzzing.deep(name, IN_TRAINING[name], 100)
