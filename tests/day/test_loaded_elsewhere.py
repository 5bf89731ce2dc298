"""A model of every layer, saved here, in a process that knows of keras_ext alone: it predicts, names its classes and trains on."""

import json

import numpy as np
import pytest

DATA = """
import keras
import numpy as np
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
pictures = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
dark = images.mean(axis=1)
table = {"left": images[:, :32].mean(axis=1), "light": np.where(dark < 5, "dark", "bright"), "noise": np.arange(len(dark)) % 7}
"""
HERE = """
import keras_ext
from keras_ext import initializers, layers, optimizers, schedules, tables

keras.utils.set_random_seed(1)
features = tables.TableFeatures()
features.adapt(table)
picture, row = keras.Input((8, 8, 1), name="picture"), keras.Input((3,), name="row")
x = keras.layers.Conv2D(8, 3, kernel_initializer=initializers.Orthogonal(seed=1), use_bias=False, name="conv")(picture)
x = layers.BatchNormalization(virtual_batch_size=25, momentum=0.9)(x)
x = keras.layers.Activation("relu")(x)
x = layers.SpatialDropout2D(0.1, seed=1)(x)
x = keras.layers.Concatenate()([keras.layers.Flatten()(x), features(row)])
x = keras.layers.Dense(32, kernel_initializer=initializers.HeNormal(), use_bias=False)(x)
x = layers.BatchNormalization(momentum=0.9, debias=True)(x)
x = layers.Dropout(0.2, seed=1)(keras.layers.Activation("relu")(x))
x = keras.layers.Dense(10, "softmax", kernel_initializer=initializers.GlorotUniform(gain="sigmoid"))(x)
names = [f"digit {i}" for i in range(10)]
model = keras.Model({"picture": picture, "row": row}, tables.ClassNames(names)(x))
adam = optimizers.Adam(schedules.OneCycle(0.02, 200), learning_rate_multipliers={"conv": 0.5}, exclude_norms_and_biases=True)
model.compile(optimizers.GradientClipping(adam, "percentile"), "sparse_categorical_crossentropy", metrics=["accuracy"])
inputs = {"picture": pictures, "row": features.encode(table)}
model.fit(inputs, labels, batch_size=100, epochs=3, verbose=0)
model.save("model.keras")
"""
THERE = """
import keras_ext

model = keras.models.load_model("model.keras")
features = next(layer for layer in model.layers if type(layer).__name__ == "TableFeatures")
inputs = {"picture": pictures, "row": features.encode(table)}
"""
# Keras keeps no seed's state in a file: the masks would begin again.
BOTH = """
import json

predictions = model.predict(inputs, batch_size=len(labels), verbose=0)
clipping = model.optimizer
reported = {
    "classes": sorted({type(layer).__module__.split(".")[0] + "." + type(layer).__name__ for layer in model.layers}),
    "names": model.layers[-1].decode(predictions[:50]).tolist(),
    "steps": [clipping.steps, clipping.clipped_steps, int(keras.ops.convert_to_numpy(clipping.iterations))],
    "rate": float(keras.ops.convert_to_numpy(clipping.inner_optimizer.learning_rate)),
    "optimizer": clipping.get_config(),
}
for layer in model.layers:
    if isinstance(layer, keras_ext.layers.Dropout):
        layer.rate = 0.0
more = model.fit(inputs, labels, batch_size=100, epochs=1, shuffle=False, verbose=0).history
reported["more"] = {key: values[0] for key, values in more.items()}
np.savez(NAME, *[keras.ops.convert_to_numpy(v) for v in model.weights], predictions=predictions)
print(json.dumps(reported))
"""


def test_a_process_with_keras_ext_alone_loads_all_and_trains_on(run_alone, run_here, tmp_path, capsys):
    here = run_here(DATA + HERE + BOTH.replace("NAME", '"here.npz"'), tmp_path)
    wanted = json.loads(capsys.readouterr().out.splitlines()[-1])
    process = run_alone(DATA + THERE + BOTH.replace("NAME", '"there.npz"'), tmp_path)
    assert process.returncode == 0, process.stderr[-4000:]
    reported = json.loads(process.stdout.splitlines()[-1])

    ours = ("BatchNormalization", "ClassNames", "Dropout", "SpatialDropout2D", "TableFeatures")
    assert [name for name in reported["classes"] if name.startswith("keras_ext.")] == [f"keras_ext.{name}" for name in ours]
    assert reported["names"] == wanted["names"]
    assert reported["steps"] == wanted["steps"]
    steps, clipped, iterations = reported["steps"]
    assert steps == iterations == 3 * 18
    assert 0 < clipped < steps
    assert reported["optimizer"] == wanted["optimizer"]
    assert reported["rate"] == pytest.approx(wanted["rate"], rel=1e-6)
    assert reported["more"] == pytest.approx(wanted["more"], rel=1e-5)
    assert reported["more"]["accuracy"] > 0.9  # chance is .1
    with np.load(tmp_path / "here.npz") as mine, np.load(tmp_path / "there.npz") as other:
        assert set(mine.files) == set(other.files)
        for key in mine.files:
            # The weights are those after 18 further steps.
            np.testing.assert_allclose(other[key], mine[key], rtol=1e-5, atol=1e-5, err_msg=key)
    assert (np.array(reported["names"]) == np.array(here["names"])[here["labels"][:50]]).mean() > 0.9
