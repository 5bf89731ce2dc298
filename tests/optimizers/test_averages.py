"""Moving averages of the weights, from fit to fit."""

import keras
import numpy as np
import pytest

from keras_ext import optimizers

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X @ np.array([[1.0], [-2.0], [0.5]], "float32")


@pytest.mark.parametrize("clipped", [False, True])
def test_a_second_fit_goes_on_from_the_averages(clipped):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    optimizer = optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8)
    model.compile(optimizers.GradientClipping(optimizer, threshold=1e6) if clipped else optimizer, "mse")
    weight = np.zeros((3, 1))
    average = None
    for _ in range(3):
        model.fit(X, Y, epochs=4, batch_size=8, verbose=0)
        for _ in range(4):
            weight = weight - 0.1 * 2 * X.T @ (X @ weight - Y) / len(X)
            average = weight if average is None else 0.8 * average + 0.2 * weight  # Keras begins so
        weight = average
        np.testing.assert_allclose(keras.ops.convert_to_numpy(model.weights[0]), weight, rtol=1e-5)
