"""What every test starts from: a fixed seed, the float32 policy, and the backend that KERAS_BACKEND names."""

import os
import random
import subprocess
import sys

# Several workers with PyTorch threads for every core each wait for one another most of the time. Read when PyTorch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import pytest
from keras import ops

# Two workers that take a file each end together only if the long files do not come last.
LONG_FILES = (
    "test_run.py",
    "test_watch.py",
    "test_command.py",
    "test_readme.py",
    "test_failure_pages.py",
    "test_docs_pages.py",
    "test_benchmarks.py",
)


def pytest_addoption(parser):
    parser.addoption(
        "--cases", type=int, metavar="N", help="of each test, run at most N of its cases, drawn by the names of test and backend"
    )


# Five seconds a process go into starting TensorFlow: these tests, which are about searches and not about TensorFlow, take long there alone.
SLOW_ON_TENSORFLOW = (
    "runs_here",
    "fails_alone",
    "full_for_a_while",
    "stays_full",
    "is_the_uninterrupted_one",
    "csv_of_ones_own",
    "in_the_target_s_own_unit",
    "leaderboard_and_a_model[hyperband]",
    "tells_the_oracle_why",
    "a_trial_of_a_search_that_it_ends",
    "trials_of_a_search_begin_with_the_first_size",
)


@pytest.hookimpl(trylast=True)  # what -k leaves
def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONG_FILES.index(item.path.name) if item.path.name in LONG_FILES else len(LONG_FILES))
    if keras.backend.backend() != "tensorflow":
        skip = pytest.mark.skip(reason="uses TensorFlow itself")
        for item in items:
            if item.get_closest_marker("needs_tensorflow"):
                item.add_marker(skip)
    else:
        for item in items:
            if any(name in item.nodeid for name in SLOW_ON_TENSORFLOW):
                item.add_marker(pytest.mark.slow)
    if "slow" not in config.option.markexpr and os.environ.get("KERAS_EXT_SLOW") != "1":
        _deselect(config, items, {item for item in items if item.get_closest_marker("slow")})
    _deselect(config, items, _undrawn(items, config.option.cases))


def _deselect(config, items, unwanted):
    items[:] = [item for item in items if item not in unwanted]
    config.hook.pytest_deselected(items=list(unwanted))


def _undrawn(items, most):
    """Return what is over `most` cases of one test; which they are depends on the names of test and backend alone."""
    tests = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    drawn = [
        random.Random(name + keras.backend.backend()).sample(cases, min(len(cases), most or len(cases))) for name, cases in tests.items()
    ]
    return set(items) - {item for cases in drawn for item in cases}


@pytest.fixture(autouse=True)
def _same_start():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True, scope="module")
def _no_programs_of_other_files():
    """Let JAX forget what it compiled for a file of tests: two workers would grow to 4 GB each."""
    yield
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture
def differentiate():
    """A function that returns a layer's training output and the gradients of `sum(weight * output)`.

    The gradients are those of the input and of the trainable weights, by the backend's own automatic differentiation.
    """
    return {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}[keras.backend.backend()]


def _by_tensorflow(layer, x, weight, **arguments):
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, **arguments)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * weight)
    gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])
    return np.array(y), [np.array(g) for g in gradients]


def _by_jax(layer, x, weight, **arguments):
    import jax

    if not layer.built:
        layer.build(x.shape)

    def loss(x, trainable):
        y, _ = layer.stateless_call(trainable, [v.value for v in layer.non_trainable_variables], x, training=True, **arguments)
        return (y * weight).sum(), y

    (gx, gw), y = jax.grad(loss, argnums=(0, 1), has_aux=True)(ops.convert_to_tensor(x), [v.value for v in layer.trainable_variables])
    return np.array(y), [np.array(g) for g in (gx, *gw)]


def _by_torch(layer, x, weight, **arguments):
    x = ops.convert_to_tensor(x).requires_grad_()
    y = layer(x, training=True, **arguments)
    (y * ops.convert_to_tensor(weight)).sum().backward()
    gradients = [x.grad, *(v.value.grad for v in layer.trainable_variables)]
    return ops.convert_to_numpy(y), [ops.convert_to_numpy(g) for g in gradients]


@pytest.fixture
def in_new_process():
    """A function that runs Python code in a process of its own and returns what it printed."""

    def run(code, *arguments):
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run
