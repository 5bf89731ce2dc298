"""An upgraded network on two logical devices: what one device learns of the same batches."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.needs_tensorflow

SCRIPT = """
import json, sys
import keras
import keras_ext
import numpy as np
import tensorflow as tf
from keras_ext.callbacks import ClippingLog, SaturationMonitor
from keras_ext.optimizers import GradientClipping
from sklearn.datasets import load_digits

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images, labels = load_digits(return_X_y=True)
x, y, x_test, y_test = images[:1200] / 16, labels[:1200], images[1200:] / 16, labels[1200:]


# Two strategies on the same devices use one another's channels: TensorFlow ends with a shape mismatch.
strategies = {n: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"][:n]) for n in (1, 2)}


def fitted(replicas, synchronized):
    keras.utils.set_random_seed(1)
    strategy = strategies[replicas]
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((64,)),
            keras.layers.Dense(32, use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9, synchronized=synchronized),
            keras.layers.Activation("tanh"),
            keras.layers.Dropout(0.0),
            keras.layers.Dense(10, "softmax"),
        ])
        model = keras_ext.upgrade(model)
        optimizer = GradientClipping(keras_ext.optimizers.SGD(0.2, momentum=0.9), threshold=0.3)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    monitor = SaturationMonitor(x, y)
    callbacks = [monitor, ClippingLog(), keras.callbacks.BackupAndRestore(f"backup_{replicas}_{synchronized}")]
    history = model.fit(x, y, batch_size=100, epochs=3, shuffle=False, verbose=0, callbacks=callbacks).history
    return model, {
        "replicas": strategy.num_replicas_in_sync,
        "layers": [type(layer).__module__.split(".")[0] for layer in model.layers],
        "history": history,
        "weights": [w.tolist() for w in model.get_weights()],
        "counts": [optimizer.steps, optimizer.clipped_steps, int(keras.ops.convert_to_numpy(optimizer.iterations))],
    }


reported = {}
for name in sys.argv[1:]:
    model, reported[name] = fitted(1 if name == "one" else 2, name != "apart")
    here = model.predict(x_test, verbose=0)
    reported[name]["accuracy"] = float((here.argmax(axis=1) == y_test).mean())
    if name == "two":
        model.save("two.keras")
        # Whoever serves it has one device.
        reported[name]["off"] = float(np.abs(keras.models.load_model("two.keras")(x_test) - here).max())
print(json.dumps(reported))
"""


@pytest.fixture
def reported(run_alone, tmp_path):
    """A function that trains as its arguments say and returns what was reported of each."""

    def report(*names):
        process = run_alone(SCRIPT, tmp_path, *names)
        assert process.returncode == 0, process.stderr[-4000:]
        found = json.loads(process.stdout.splitlines()[-1])
        for run in found.values():
            assert [i for i, package in enumerate(run["layers"]) if package == "keras_ext"] == [1, 3]
            assert run["counts"][0] == run["counts"][2] == 3 * 12
            assert run["accuracy"] > 0.85  # chance is .1
            losses = run["history"]["loss"]
            assert losses[2] < losses[1] < losses[0]
        return found

    return report


def test_two_devices_with_the_statistics_of_the_whole_batch_learn_what_one_learns(reported):
    found = reported("one", "two")
    one, two = found["one"], found["two"]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert two["counts"] == one["counts"]
    assert 0 < one["counts"][1] < 36
    assert set(one["history"]) == set(two["history"]) >= {"saturation", "gradient_norm", "clipped_share"}
    for key, values in one["history"].items():
        assert two["history"][key] == pytest.approx(values, rel=1e-4, abs=1e-6), key
    # The moving statistics too.
    for mine, other in zip(two["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)
    assert two["off"] < 1e-6


@pytest.mark.slow
def test_two_devices_with_statistics_of_their_own_learn_too(reported):
    found = reported("one", "apart")
    assert found["apart"]["history"]["loss"] != pytest.approx(found["one"]["history"]["loss"], rel=1e-4)
