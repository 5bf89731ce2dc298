"""MirroredStrategy on two logical CPUs: the same weights as one replica on the whole batch."""

import json

import pytest

pytestmark = pytest.mark.needs_tensorflow

SETUP = """
import json, sys
import keras
import numpy as np
import tensorflow as tf
from keras_ext import optimizers
from keras_ext.optimizers import GradientClipping

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x = rng.normal(size=(64, 6)).astype("float32")
y = x[:, :1] * 2 + 1

def fitted(replicas, make, bad_rows=(), compute=None):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"][:replicas])
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh", dtype=compute),
            keras.layers.Dense(1, dtype="float32"),
        ])
        model.compile(make(), "mse")
    data = x.copy()
    data[list(bad_rows)] = np.nan
    batches = tf.data.Dataset.from_tensor_slices((data, y)).batch(8)
    model.fit(batches, epochs=2, verbose=0)
    return model

def difference(make, **more):
    one, two = (fitted(n, make, **more).get_weights() for n in (1, 2))
    return float(max(np.abs(a - b).max() for a, b in zip(one, two)))
"""

CONFIGURATIONS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "average": {"use_ema": True, "ema_momentum": 0.9},
    "overwritten by the average": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
    "clipnorm": {"clipnorm": 0.2},
    "global_clipnorm": {"global_clipnorm": 0.3},
    "clipvalue": {"clipvalue": 0.05},
    "all": {
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 2,
        "gradient_accumulation_steps": 2,
        "weight_decay": 0.01,
        "clipnorm": 0.3,
    },
}
# Accumulation, averages and clipping are the same code for all four.
QUICK = [("Adam", "plain"), ("RMSprop", "all")]
REST = [
    *(("Adam", case) for case in CONFIGURATIONS if case != "plain"),
    *((name, case) for name in ("SGD", "Adagrad", "RMSprop") for case in ("plain", "all") if (name, case) not in QUICK),
]
MATCHES = """
report = {}
for name, case in json.loads(PAIRS):
    report[f"{name}, {case}"] = difference(lambda: getattr(optimizers, name)(0.01, **json.loads(CASES)[case]))
print(json.dumps(report))
"""


@pytest.mark.parametrize("pairs", [QUICK, pytest.param(REST, marks=pytest.mark.slow)], ids=["quick", "rest"])
def test_two_replicas_match_one_on_the_whole_batch(pairs, in_new_process):
    given = f"CASES, PAIRS = {json.dumps(json.dumps(CONFIGURATIONS))}, {json.dumps(json.dumps(pairs))}\n"
    report = json.loads(in_new_process(SETUP + given + MATCHES).splitlines()[-1])
    assert len(report) == len(pairs)
    assert {case: off for case, off in report.items() if off > 1e-6} == {}


KERAS = """
report = {}
for case, arguments in json.loads(CASES).items():
    try:
        report[case] = difference(lambda: keras.optimizers.Adam(0.01, **arguments))
    except RuntimeError as error:
        report[case] = "merge_call" in str(error)
print(json.dumps(report))
"""


@pytest.mark.slow
def test_keras_raises_or_clips_the_parts(in_new_process):
    cases = {name: CONFIGURATIONS[name] for name in ("accumulation", "overwritten by the average", "global_clipnorm", "clipvalue")}
    report = json.loads(in_new_process(SETUP + f"CASES = {json.dumps(json.dumps(cases))}\n" + KERAS).splitlines()[-1])
    assert report["accumulation"] is True
    assert report["overwritten by the average"] is True
    assert min(report["global_clipnorm"], report["clipvalue"]) > 1e-3


WRAPPED = """
report = {}
for rule in ("global_norm", "zscore"):
    report[rule] = difference(lambda: GradientClipping(optimizers.Adam(0.01), rule))
print(json.dumps(report))
"""
MORE_WRAPPED = """
report = {}
for rule in ("norm", "value", "adaptive", "percentile"):
    report[rule] = difference(lambda: GradientClipping(optimizers.Adam(0.01), rule))
for module in (keras.optimizers, optimizers):
    report[f"around {module.__name__}"] = difference(lambda: GradientClipping(module.SGD(0.1, momentum=0.9), threshold=0.3))
arguments = dict(gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2)
report["accumulation and average"] = difference(lambda: GradientClipping(optimizers.Adam(0.01, **arguments), threshold=0.3))
# Numbers that half precision holds: with them, both ways round alike.
x = rng.integers(-2, 3, (64, 6)).astype("float32") / 4
y = np.zeros((64, 1), "float32")
report["mixed"] = difference(
    lambda: keras.optimizers.LossScaleOptimizer(GradientClipping(optimizers.SGD(2.0**-6), threshold=100.0), initial_scale=64.0)
)
print(json.dumps(report))
"""


@pytest.mark.slow
@pytest.mark.parametrize("code", [WRAPPED, MORE_WRAPPED], ids=["two rules", "rest"])
def test_clipping_over_two_replicas_matches_one(code, in_new_process):
    report = json.loads(in_new_process(SETUP + code).splitlines()[-1])
    assert report
    assert {case: off for case, off in report.items() if off > 1e-6} == {}


SKIPPED = """
report = {}
# The second half of each batch goes to the second replica.
bad = [14]
for name, make in {
    "ours": lambda: GradientClipping(keras.optimizers.Adam(0.01)),
    "accumulating": lambda: GradientClipping(optimizers.Adam(0.01, gradient_accumulation_steps=2)),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(GradientClipping(optimizers.Adam(0.01)), initial_scale=64.0),
    "scaled by keras": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), initial_scale=64.0),
}.items():
    model = fitted(2, make, bad)
    optimizer = model.optimizer
    while hasattr(optimizer, "inner_optimizer") and not isinstance(optimizer, GradientClipping):
        optimizer = optimizer.inner_optimizer
    report[name] = {
        "finite": bool(all(np.isfinite(w).all() for w in model.get_weights())),
        "skipped": getattr(optimizer, "skipped_steps", None),
        "copies": float(max(
            np.abs(copies[0].numpy() - copies[1].numpy()).max()
            for copies in (v.value.values for v in [*model.trainable_variables, *optimizer.variables])
        )),
    }
try:
    fitted(2, lambda: GradientClipping("sgd", nonfinite="raise"), bad)
except Exception as error:
    report["raised"] = "NaN or infinity in the gradients of" in str(error)
print(json.dumps(report))
"""


def test_nan_on_one_replica_is_skipped_on_every_one(in_new_process):
    report = json.loads(in_new_process(SETUP + SKIPPED).splitlines()[-1])
    # One batch of eight, in each of two epochs.
    assert report["ours"] == {"finite": True, "skipped": 2, "copies": 0.0}
    assert report["accumulating"] == {"finite": True, "skipped": 2, "copies": 0.0}
    assert report["scaled"]["finite"] is True
    assert report["scaled by keras"]["finite"] is False
    assert report["raised"] is True
