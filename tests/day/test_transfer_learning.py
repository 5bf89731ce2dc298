"""Transfer learning on a network of keras.applications, upgraded: what is frozen stays as it is, bit for bit."""

import numpy as np
import pytest

import keras_ext

SOURCE = """
import keras
import keras_ext
import numpy as np

def features_of(weights):
    whole = keras.applications.MobileNet(weights=weights, include_top=False, input_shape=(32, 32, 3), alpha=0.25)
    return whole, keras.Model(whole.input, whole.get_layer("conv_pw_5_relu").output, name="base")
"""
# In place of a download: random features of the right scale, and moving statistics as a training leaves them.
PRETRAINED = (
    SOURCE
    + """
source, _ = features_of(None)
rng = np.random.default_rng(0)
for w in source.weights:
    name, shape = w.path.split("/")[-1], tuple(w.shape)
    if name == "kernel":
        inputs = 9 if "conv_dw" in w.path else np.prod(shape[:-1])
        w.assign(rng.normal(0, np.sqrt(2 / inputs), shape))
    elif name == "moving_mean":
        w.assign(rng.normal(0, 0.05, shape))
    elif name == "moving_variance":
        w.assign(rng.uniform(0.8, 1.2, shape))
source.save_weights("pretrained.weights.h5")
"""
)
SCRIPT = (
    SOURCE
    + """
from sklearn.datasets import load_digits

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
pictures = np.repeat((images / 8 - 1).reshape(-1, 8, 8).repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=-1).astype("float32")
x, y, x_test, y_test = pictures[:300], labels[:300], pictures[300:500], labels[300:500]

_, base = features_of("pretrained.weights.h5")
inputs = keras.Input((32, 32, 3))
features = keras.layers.Flatten()(base(inputs))
features = keras.layers.BatchNormalization(momentum=0.9, name="own")(features)
outputs = keras.layers.Dense(10, "softmax", name="head")(keras.layers.Dropout(0.1)(features))
model = keras.Model(inputs, outputs)
base.trainable = False
model = keras_ext.upgrade(model)
base = model.get_layer("base")

def weights(layer):
    return [keras.ops.convert_to_numpy(w).copy() for w in layer.weights]

def train(rate, epochs):
    model.compile(keras_ext.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(x, y, batch_size=50, epochs=epochs, verbose=0).history

before = weights(base), weights(model.get_layer("own"))
first = train(0.01, 4)
after = weights(base), weights(model.get_layer("own"))
accuracy = model.evaluate(x_test, y_test, batch_size=200, verbose=0)[1]
"""
)
LAST_BLOCK = """
for layer in base.layers:
    layer.trainable = layer.name.startswith("conv_pw_5") and not isinstance(layer, keras_ext.layers.BatchNormalization)
second = train(0.001, 2)
tuned = weights(base)
"""
WHOLE = """
base.trainable = True
for layer in base.layers:
    if isinstance(layer, keras_ext.layers.BatchNormalization):
        layer.trainable = False
second = train(0.001, 2)
tuned = weights(base)
"""


def moved(before, after):
    """The places of the weights that are no longer the same."""
    return [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not np.array_equal(a, b)]


def check_the_head(names):
    normalizations = [layer for layer in names["base"].layers if "BatchNormalization" in type(layer).__name__]
    assert len(normalizations) == 11
    assert all(type(layer) is keras_ext.layers.BatchNormalization for layer in normalizations)
    base, own = names["before"]
    # The moving statistics too: a frozen layer normalizes as at inference.
    assert moved(base, names["after"][0]) == []
    assert moved(own, names["after"][1]) == [0, 1, 2, 3]
    # Chance is .1.
    assert names["accuracy"] > 0.6
    assert names["first"]["loss"][-1] < names["first"]["loss"][0]


def test_a_frozen_base_stays_as_it_is_and_then_its_last_block_alone_learns(run_here, tmp_path):
    run_here(PRETRAINED, tmp_path)
    names = run_here(SCRIPT + LAST_BLOCK, tmp_path)
    check_the_head(names)
    paths = [w.path for w in names["base"].weights]
    learned = [paths[i] for i in moved(names["after"][0], names["tuned"])]
    assert learned == [path for path in paths if path.endswith("conv_pw_5/kernel")] != []
    assert names["second"]["loss"][-1] < names["first"]["loss"][-1]


@pytest.mark.slow
def test_a_whole_base_learns_but_for_its_normalization(run_here, tmp_path):
    run_here(PRETRAINED, tmp_path)
    names = run_here(SCRIPT + WHOLE, tmp_path)
    learns = [i for i, w in enumerate(names["base"].weights) if w.path.split("/")[-1] == "kernel"]
    assert len(learns) == 11
    assert moved(names["after"][0], names["tuned"]) == learns
    assert names["second"]["loss"][-1] < names["first"]["loss"][-1]
    check_the_head(names)
