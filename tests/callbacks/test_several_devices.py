"""On several devices and in half precision the monitor sees what it sees on one in full."""

import json

import keras
import numpy as np
import pytest

from keras_ext.callbacks import SaturationMonitor
from keras_ext.optimizers import GradientClipping

CODE = """
import json, os, warnings
warnings.filterwarnings("error", message=".*SaturationMonitor")
BEFORE
import keras
import numpy as np
from keras_ext import optimizers
from keras_ext.callbacks import SaturationMonitor

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6)).astype("float32")
y = x[:, :1] * 2 + 1

def fitted(scope):
    keras.utils.set_random_seed(0)
    with scope():
        model = keras.Sequential([
            keras.Input((6,)),
            keras.layers.Dense(8, "sigmoid", kernel_initializer=keras.initializers.RandomNormal(stddev=40.0, seed=1), name="unhealthy"),
            # Frozen: in training each replica normalizes its own part of the batch, so that two learn something else than one.
            keras.layers.BatchNormalization(trainable=False),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(1),
        ])
        model.compile(optimizers.GradientClipping(optimizers.Adam(0.01), threshold=0.5), "mse")
    # 63 samples cannot be shared out evenly.
    monitor = SaturationMonitor(x[:63], y[:63], every=3, on_critical=None)
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, callbacks=[monitor]).history
    return {
        "findings": [(f.symptom, f.severity, f.layer, f.step, f.epoch) for f in monitor.findings],
        "snapshots": [(k.step, k.epoch, k.clipped, k.skipped) for k in monitor.snapshots],
        "losses": [k.loss for k in monitor.snapshots],
        "gradients": [w.gradient_norm for k in monitor.snapshots for w in k.weights],
        "keys": sorted(history),
        "saturation": history["saturation"],
    }

SCOPES
print(json.dumps([fitted(contextlib.nullcontext), fitted(several)]))
"""
TENSORFLOW = (
    "import tensorflow as tf",
    """
import contextlib
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
several = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope
""",
)
JAX = (
    'os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"',
    """
import contextlib
@contextlib.contextmanager
def several():
    assert len(keras.distribution.list_devices()) == 2
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    yield
""",
)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras trains on one device on PyTorch")
def test_two_devices_are_seen_as_one(in_new_process):
    before, scopes = TENSORFLOW if keras.backend.backend() == "tensorflow" else JAX
    one, two = json.loads(in_new_process(CODE.replace("BEFORE", before).replace("SCOPES", scopes)).splitlines()[-1])
    assert [step for step, *_ in one["snapshots"]] == [0, 3, 6]
    assert ["saturated", "warning", "unhealthy", 0, 0] in one["findings"]
    assert [clipped for _, _, clipped, _ in one["snapshots"][1:]] == pytest.approx([1.0] * 2, abs=0.7)
    np.testing.assert_allclose(two.pop("losses"), one.pop("losses"), rtol=1e-4)
    np.testing.assert_allclose(two.pop("gradients"), one.pop("gradients"), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(two.pop("saturation"), one.pop("saturation"), atol=1e-6)
    # NaN, as before the first step, is not equal to itself.
    assert json.dumps(two) == json.dumps(one)


def test_in_half_precision_the_findings_are_those_of_full():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6)).astype("float32")
    y = x[:, :1] * 2 + 1
    reported = []
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(0)
        unhealthy = keras.layers.Dense(
            8, "sigmoid", kernel_initializer=keras.initializers.RandomNormal(stddev=40.0, seed=1), name="unhealthy"
        )
        model = keras.Sequential([keras.Input((6,)), unhealthy, keras.layers.Dense(1, dtype="float32", name="out")])
        # Keras puts it into a LossScaleOptimizer in half precision.
        model.compile(GradientClipping(keras.optimizers.SGD(1e-3)), "mse")
        monitor = SaturationMonitor(x, y, on_critical=None)
        history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[monitor]).history
        reported.append([(f.symptom, f.severity, f.layer, f.step, f.epoch) for f in monitor.findings])
        last = monitor.snapshots[-1]
        assert last.finite
        assert (last.clipped, last.skipped) == (1.0, 0.0)
        assert history["saturation"][-1] == pytest.approx(last.hidden[0].saturated)
    assert reported[0] == reported[1]
    assert ("saturated", "warning", "unhealthy", 0, 0) in reported[0]
