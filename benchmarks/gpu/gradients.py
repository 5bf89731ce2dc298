"""A layer's training step alone, compiled as Keras would: forward, and forward and backward, on arrays that lie on the device."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from keras_ext._backend import wait

# Returns what is to be waited for.
Step = Callable[[], Any]


def passes(layer: Any, x: Any, dy: Any, jit: bool) -> tuple[Step, Step]:
    """Return a function that puts `x` through `layer`, and one that also takes `dy` back through it.

    Args:
        layer: built.
        x: a tensor.
        dy: the gradient of the layer's output.
        jit: whether XLA compiles it on TensorFlow; JAX always does, PyTorch never.
    """
    return {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}[keras.backend.backend()](layer, x, dy, jit)


def settled(result: Any) -> None:
    """Return once `result` has been computed; of large tensors nothing but a number comes to the host."""
    if keras.backend.backend() == "tensorflow":
        result = [ops.reshape(leaf, (-1,))[:1] for leaf in tree.flatten(result) if leaf is not None]
    wait(result)


def _on_tensorflow(layer: Any, x: Any, dy: Any, jit: bool) -> tuple[Step, Step]:
    import tensorflow as tf

    @tf.function(jit_compile=jit)
    def forward(x: Any) -> Any:
        return layer(x, training=True)

    @tf.function(jit_compile=jit)
    def both(x: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return y, tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)], output_gradients=dy)

    return lambda: forward(x), lambda: both(x, dy)


def _on_jax(layer: Any, x: Any, dy: Any, jit: bool) -> tuple[Step, Step]:
    import jax

    weights, state = ([v.value for v in variables] for variables in (layer.trainable_variables, layer.non_trainable_variables))

    @jax.jit
    def forward(weights: Any, state: Any, x: Any) -> Any:
        return layer.stateless_call(weights, state, x, training=True)

    @jax.jit
    def both(weights: Any, state: Any, x: Any, dy: Any) -> Any:
        y, back, after = jax.vjp(lambda w, x: layer.stateless_call(w, state, x, training=True), weights, x, has_aux=True)
        return y, after, back(dy)

    return lambda: forward(weights, state, x), lambda: both(weights, state, x, dy)


def _on_torch(layer: Any, x: Any, dy: Any, jit: bool) -> tuple[Step, Step]:
    import torch

    x = x.detach().requires_grad_()
    wanted = [x, *(v.value for v in layer.trainable_variables)]

    def both() -> Any:
        y = layer(x, training=True)
        return y, torch.autograd.grad(y, wanted, dy)

    return lambda: layer(x, training=True), both
