"""How a test steps: as the backend can be asked to run an optimizer."""

import keras
import pytest
from keras import ops

_MODES = {"tensorflow": ["eager", "graph", "XLA"], "jax": ["eager", "jit"], "torch": ["eager"]}


@pytest.fixture(params=_MODES[keras.backend.backend()])
def stepper(request):
    """A function of optimizer and variables, which returns one that takes a step along a list of NumPy gradients."""

    def make(optimizer, variables):
        optimizer.build(variables)
        if request.param == "eager":
            return lambda gradients: optimizer.apply([ops.convert_to_tensor(g) for g in gradients], variables)
        if request.param == "jit":
            return _jitted(optimizer, variables)
        import tensorflow as tf

        compiled = tf.function(lambda gradients: optimizer.apply(gradients, variables), jit_compile=request.param == "XLA")
        return lambda gradients: compiled([tf.constant(g) for g in gradients])

    return make


def _jitted(optimizer, variables):
    import jax

    compiled = jax.jit(optimizer.stateless_apply)

    def step(gradients):
        new = compiled([v.value for v in optimizer.variables], gradients, [v.value for v in variables])
        for v, value in zip([*variables, *optimizer.variables], [*new[0], *new[1]], strict=True):
            v.assign(value)

    return step
