"""What every test starts from: a fixed seed, the float32 policy, and the backend that KERAS_BACKEND names."""

import os
import subprocess
import sys
from pathlib import Path

# What JAX compiles is compiled once: for all files, workers, processes that tests start, and runs. Read when JAX is imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).resolve().parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Several workers with PyTorch threads for every core each wait for one another most of the time. Read when PyTorch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import processes
import pytest
from keras import ops

pytest_plugins = ["selection"]


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
def differentiate_twice():
    """A function that returns the gradient of `value(x)`, and how it changes along `direction`, as the backend differentiates twice."""
    return {"tensorflow": _twice_by_tensorflow, "jax": _twice_by_jax, "torch": _twice_by_torch}[keras.backend.backend()]


def _twice_by_tensorflow(value, x, direction):
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = value(x)
        first = inner.gradient(y, x)
        along = tf.reduce_sum(first * direction)
    return first.numpy(), outer.gradient(along, x).numpy()


def _twice_by_jax(value, x, direction):
    import jax

    def along(x):
        first = jax.grad(value)(x)
        return (first * direction).sum(), first

    second, first = jax.grad(along, has_aux=True)(x)
    return np.array(first), np.array(second)


def _twice_by_torch(value, x, direction):
    import torch

    x = torch.tensor(x, requires_grad=True)
    (first,) = torch.autograd.grad(value(x), x, create_graph=True)
    (second,) = torch.autograd.grad((first * torch.tensor(direction)).sum(), x)
    return first.detach().numpy(), second.numpy()


@pytest.fixture
def in_new_process():
    """A function that runs Python code in a process of its own and returns what it printed.

    `imports=True` gives it one that has imported nothing yet.
    """

    def run(code, *arguments, imports=False):
        words = ["-c", code, *map(str, arguments)]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True) if imports else processes.run(*words)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run
