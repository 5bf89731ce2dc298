"""No step waits for the device: nothing in it becomes a number of Python, in whatever part it happens."""

import keras
import numpy as np
import pytest
from keras import ops
from test_every_class import ARGUMENTS, make, model_with

from keras_ext import layers, optimizers
from keras_ext.optimizers.clipping_rules import RULES

BACKEND = keras.backend.backend()
X, Y = np.random.default_rng(0).normal(size=(8, 6)).astype("float32"), np.ones((8, 1), "float32")
PARTS = {name: lambda module=module, name=name: make(module, name) for module in (layers, optimizers) for name in ARGUMENTS[module]}
PARTS |= {f"plain {name}": lambda name=name: getattr(optimizers, name)(0.1) for name in ("SGD", "Adagrad", "RMSprop", "Adam")}
PARTS |= {f"clipped by {rule}": lambda rule=rule: optimizers.GradientClipping(optimizers.Adam(0.1), rule=rule) for rule in RULES}
PARTS |= {
    "half": lambda: optimizers.Adam(0.1, master_weights=True),
    "accumulating": lambda: optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
    "renorm": lambda: layers.BatchNormalization(renorm=True),
    "ghosts": lambda: layers.BatchNormalization(virtual_batch_size=4),
    "clipped under a scaled loss": lambda: keras.optimizers.LossScaleOptimizer(optimizers.GradientClipping(optimizers.Adam(0.1))),
}


def model_of(part):
    model, optimizer = model_with(part)
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=8, verbose=0)  # builds all
    return model


def waits_of_torch(model):
    """Return the operations of a step for which PyTorch waits until the device has computed."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    waits = []
    # `item`, `bool`, `int` and `float` of a tensor are the first.
    names = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "equal.default")
    leaving = {"cpu", "numpy", "tolist", "__array__"}

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(name in str(func) for name in names):
                waits.append(str(func))
            return func(*args, **(kwargs or {}))

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if getattr(func, "__name__", "") in leaving:
                waits.append(func.__name__)
            return func(*args, **(kwargs or {}))

    batch = [torch.as_tensor(each) for each in (X, Y)]
    with Functions(), Operations():
        model.train_step(tuple(batch))
    return waits


def waits_of_jax(model):
    """Return the callbacks to Python in the compiled step; a number that it needed while it is traced is an error."""
    import jax

    state = [[v.value for v in each] for each in (model.trainable_variables, model.non_trainable_variables)]
    state += [[v.value for v in model.optimizer.variables], [v.value for v in model.metrics_variables]]
    program = jax.make_jaxpr(model.train_step)(tuple(state), (X, Y))
    return [word for word in str(program).replace("[", " ").split() if "callback" in word or word in ("infeed", "outfeed")]


def waits_of_tensorflow(model):
    """Return the calls of Python in the step's graph; a number that it needed while it is traced is an error."""
    import tensorflow as tf

    graph = tf.function(model.train_step).get_concrete_function((tf.constant(X), tf.constant(Y))).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert len(nodes) > 50
    return [node.op for node in nodes if "PyFunc" in node.op or node.op in ("Print", "PrintV2", "CheckNumerics")]


WAITS = {"torch": waits_of_torch, "jax": waits_of_jax, "tensorflow": waits_of_tensorflow}[BACKEND]


def of_keras(name):
    """Return how often a step of Keras alone waits on PyTorch around this part: for its conditions, and for the rate of its SGD."""
    conditions = {"accumulating": 1, "clipped under a scaled loss": 2}
    return (
        conditions[name]
        if name in conditions
        else int(name not in optimizers.__all__ and not name.startswith(("plain", "clipped", "half")))
    )


@pytest.mark.parametrize("name", PARTS)
def test_no_step_waits(name, monkeypatch):
    allowed = 0
    if BACKEND == "torch":
        # As on another device than the CPU.
        monkeypatch.setattr("keras_ext._backend.torch_waiting.is_at_hand", lambda tensor: False)
        # Whether a clipped step is skipped decides Python.
        allowed = of_keras(name) + ("clipped" in name or name == "GradientClipping")
    assert len(WAITS(model_of(PARTS[name]()))) <= allowed


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's bytes")
def test_bytes_that_wait_for_nothing_are_those_of_splitmix():
    import torch

    from keras_ext._backend import torch_random

    def mixed(z):
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    for seed in ([0, 0], [3, 17], [2**31 - 1, 2**31 - 1]):
        start = mixed((seed[0] * 0x9E3779B97F4A7C15 + seed[1] * 0xD1B54A32D192ED03) % 2**64)
        words = [mixed((start + i * 0x9E3779B97F4A7C15) % 2**64) for i in range(1, 4)]
        expected = b"".join(word.to_bytes(8, "little") for word in words)[:21]
        assert bytes(torch_random._hashed(21, torch.tensor(seed)).tolist()) == expected


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's updates")
@pytest.mark.parametrize("kind", ["SGD", "Adagrad", "RMSprop", "Adam"])
def test_updates_that_wait_for_nothing_are_the_same(kind, monkeypatch):
    found = []
    for at_hand in (True, False):
        monkeypatch.setattr("keras_ext._backend.torch_waiting.is_at_hand", lambda tensor, at_hand=at_hand: at_hand)
        optimizer = getattr(optimizers, kind)(0.1, **({"momentum": 0.9, "dampening": 0.2} if kind == "SGD" else {}))
        weight = keras.Variable(np.ones((3, 2)))
        optimizer.build([weight])
        for step in (1.0, -0.5, 2.0):
            optimizer.apply([ops.full((3, 2), step)], [weight])
        found.append(ops.convert_to_numpy(weight))
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_a_step_that_waits_is_found():
    class Waiting(keras.layers.Layer):
        def call(self, inputs):
            if BACKEND == "torch":
                return inputs * float(ops.sum(inputs)) + inputs.detach().cpu().numpy().sum()
            if BACKEND == "tensorflow":
                import tensorflow as tf

                return inputs * tf.ensure_shape(tf.numpy_function(lambda x: x.sum(), [inputs], "float32"), ())
            import jax

            jax.debug.callback(lambda x: None, inputs)
            return inputs

    found = WAITS(model_of(Waiting()))
    assert found
    assert BACKEND != "torch" or any("_local_scalar_dense" in each for each in found)
