"""Second derivatives through the layers, which gradient penalties take (Gulrajani et al. 2017), against differences of first ones."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import layers

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
SHAPES = {"dense": (6, 5), "convolutional": (4, 3, 3, 2), "sequence": (4, 5, 3)}
LAYERS = {
    "normalization": lambda: layers.BatchNormalization(dtype="float64"),
    "ghosts": lambda: layers.BatchNormalization(virtual_batch_size=2, dtype="float64"),
    "masked": lambda: Masked(dtype="float64"),
    "dropout": lambda: layers.Dropout(0.4, seed=3, dtype="float64"),
}


class Masked(layers.BatchNormalization):
    """Normalization that leaves some samples out."""

    def call(self, inputs, training=None):
        mask = np.ones(inputs.shape[:-1], bool)
        mask[1] = False
        return super().call(inputs, training=training, mask=ops.convert_to_tensor(mask))


def total(y):
    """Return the sum: that of Keras is float32 on JAX."""
    if BACKEND != "tensorflow":
        return y.sum()
    import tensorflow as tf

    return tf.reduce_sum(y)


@pytest.fixture(autouse=True)
def doubles():
    if BACKEND != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives_are_those_of_differences(name, shape, differentiate_twice):
    x, direction, weights = RNG.normal(size=(3, *SHAPES[shape]))
    layer = LAYERS[name]()
    layer.build(x.shape)
    for gamma in layer.trainable_variables[:1]:
        gamma.assign(RNG.normal(size=gamma.shape))
    start = [ops.convert_to_numpy(v) for v in layer.variables]

    def value(x):
        with keras.StatelessScope(state_mapping=[(v, ops.convert_to_tensor(s)) for v, s in zip(layer.variables, start, strict=True)]):
            y = layer(x, training=True)
        return total(ops.convert_to_tensor(weights) * y * y * y)

    _, second = differentiate_twice(value, x, direction)
    # Keras's mean on JAX is float32, whatever it is given.
    step, error = (3e-3, 1e-4) if BACKEND == "jax" else (3e-4, 1e-9)
    first = {i: differentiate_twice(value, x + i * step * direction, direction)[0] for i in (-2, -1, 1, 2)}
    differences = (8 * (first[1] - first[-1]) - (first[2] - first[-2])) / (12 * step)
    scale = np.abs(differences).max()
    assert scale > 0.1
    # Differences of the fourth order, and rounding over the step.
    np.testing.assert_allclose(second, differences, rtol=0, atol=error * scale)
