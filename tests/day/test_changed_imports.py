"""A Keras script whose imports change: the same network, whose weights and state go both ways."""

import keras
import numpy as np
import pytest

import keras_ext

SCRIPT = """
import keras
from keras.initializers import HeNormal
from keras.layers import *
from keras.optimizers import Adam
from sklearn.datasets import load_digits

keras.utils.set_random_seed(1)
images, labels = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
x, y, x_test, y_test = images[297:], labels[297:], images[:297], labels[:297]

model = keras.Sequential([
    Input((8, 8, 1)),
    Conv2D(16, 3, padding="same", kernel_initializer=HeNormal()),
    BatchNormalization(momentum=0.9),
    Activation("relu"),
    SpatialDropout2D(0.1),
    MaxPooling2D(),
    Flatten(),
    Dense(32, kernel_initializer=HeNormal(), use_bias=False),
    BatchNormalization(momentum=0.9),
    Activation("relu"),
    Dropout(0.2),
    Dense(10, "softmax"),
])
model.compile(Adam(0.003, clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, batch_size=50, epochs=4, verbose=0).history
loss, accuracy = model.evaluate(x_test, y_test, batch_size=297, verbose=0)
model.save("digits.keras")
model.save_weights("digits.weights.h5")
"""
# As the README says it: ours after Keras's, and the names mean ours.
CHANGED = SCRIPT.replace(
    "from sklearn",
    """from keras_ext.initializers import HeNormal
from keras_ext.layers import BatchNormalization, Dropout, SpatialDropout2D
from keras_ext.optimizers import Adam
from sklearn""",
)
EXCHANGED = ("BatchNormalization", "SpatialDropout2D", "Dropout")


@pytest.fixture
def runs(run_here, tmp_path):
    """The names of Keras's script and of the changed one, with the folder of each."""
    assert CHANGED.count("keras_ext") == 3
    folders = tmp_path / "keras", tmp_path / "ours"
    return [(run_here(script, folder), folder) for script, folder in zip((SCRIPT, CHANGED), folders, strict=True)]


def shapes(variables):
    return [(tuple(v.shape), keras.backend.standardize_dtype(v.dtype), v.trainable) for v in variables]


def test_the_changed_script_makes_the_same_network_and_reads_the_others_files(runs):
    (theirs, their_folder), (ours, our_folder) = runs
    for names, package in ((theirs, keras), (ours, keras_ext)):
        exchanged = [layer for layer in names["model"].layers if type(layer).__name__ in EXCHANGED]
        assert len(exchanged) == 4
        assert all(type(layer) is getattr(package.layers, type(layer).__name__) for layer in exchanged)
        assert isinstance(names["model"].optimizer, keras_ext.optimizers.Adam) is (package is keras_ext)
        # Chance is .1.
        assert names["accuracy"] > 0.9
        assert list(names["history"]) == ["accuracy", "loss"]

    assert ours["model"].count_params() == theirs["model"].count_params()
    assert shapes(ours["model"].weights) == shapes(theirs["model"].weights)
    assert shapes(ours["model"].optimizer.variables) == shapes(theirs["model"].optimizer.variables)

    scores = {}
    for names, folder in runs:
        scores[folder] = names["loss"], names["accuracy"]
    assert scores[our_folder] != scores[their_folder]
    for file in ("digits.weights.h5", "digits.keras"):
        for names, other in ((ours, their_folder), (theirs, our_folder)):
            names["model"].optimizer.iterations.assign(0)
            names["model"].load_weights(other / file)
            # Of 297 samples each counts for .003: none may change sides.
            assert names["model"].evaluate(names["x_test"], names["y_test"], batch_size=297, verbose=0) == pytest.approx(
                scores[other], rel=1e-5
            )
            assert int(names["model"].optimizer.iterations) == 4 * 30

    for folder, package in ((their_folder, keras), (our_folder, keras_ext)):
        loaded = keras.models.load_model(folder / "digits.keras")
        assert type(loaded.layers[1]) is package.layers.BatchNormalization
        np.testing.assert_allclose(loaded.evaluate(ours["x_test"], ours["y_test"], batch_size=297, verbose=0), scores[folder], rtol=1e-5)
