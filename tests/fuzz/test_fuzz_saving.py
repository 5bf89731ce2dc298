"""A model with a layer, an initializer or an optimizer of any right arguments: its file brings it back."""

import dataclasses
import json

import fuzzing
import keras
import numpy as np
import pytest
import test_fuzz_initializers
import test_fuzz_layers
import test_fuzz_optimizers

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
# What a model of flat inputs cannot have; the tests of the layers try these.
WITHOUT = ("axis", "noise_shape", "names", "columns")
SHAPES = {"SpatialDropout1D": (3, 2), "SpatialDropout2D": (3, 2, 1), "SpatialDropout3D": (3, 2, 1, 1)}


def trained_with(thing):
    """Return a model that has taken a step, with `thing` in it."""
    initializer, between, optimizer = "ones", [], "sgd"
    if isinstance(thing, keras.layers.Layer):
        shape = SHAPES.get(type(thing).__name__)
        between = [thing] if shape is None else [keras.layers.Reshape(shape), thing, keras.layers.Flatten()]
    elif isinstance(thing, keras.initializers.Initializer):
        initializer = thing
    else:
        optimizer = thing
    model = keras.Sequential([keras.Input((6,)), *between, keras.layers.Dense(2, kernel_initializer=initializer)])
    model.compile(optimizer, "mse", run_eagerly=keras.backend.backend() == "tensorflow")
    model.train_on_batch(X, X[:, :2])
    return model


def comes_back_from_its_file(thing, arguments):
    model = fuzzing.refused(lambda: trained_with(thing))
    if model is None:
        return
    model.save(comes_back_from_its_file.path)
    again = keras.saving.load_model(comes_back_from_its_file.path)
    for mine, theirs in zip(model.layers, again.layers, strict=True):
        assert json.dumps(mine.get_config()) == json.dumps(theirs.get_config())
    state, others = [*model.weights, *model.optimizer.variables], [*again.weights, *again.optimizer.variables]
    assert [(v.shape, v.dtype) for v in state] == [(v.shape, v.dtype) for v in others]
    for mine, theirs in zip(state, others, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


SAVED = {
    name: dataclasses.replace(
        fuzzed,
        right={argument: values for argument, values in fuzzed.right.items() if argument not in WITHOUT},
        owes=comes_back_from_its_file,
    )
    for room in (test_fuzz_layers.FUZZED, test_fuzz_initializers.FUZZED, test_fuzz_optimizers.FUZZED)
    for name, fuzzed in room.items()
    if name not in ("BalancedAccuracy", "ClassNames", "PredictionInterval", "TableFeatures", "TargetMetric")
}


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    comes_back_from_its_file.path = tmp_path / "model.keras"


@pytest.mark.skipif(fuzzing.BACKEND == "jax", reason="the deep snapshot does it")
def test_a_saved_model_comes_back_from_its_file():
    # Of the initializers that are settings of one class, one.
    settings = [name for name in test_fuzz_initializers.FUZZED if name not in ("HeNormal", "Orthogonal", "VarianceScaling")]
    fuzzing.quick({name: SAVED[name] for name in SAVED if name not in settings}, 2, odd=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_any_saved_model_comes_back_from_its_file(name):
    fuzzing.deep(name, SAVED[name], 100, odd=False)
