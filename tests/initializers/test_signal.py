"""How far the signal goes: 50 layers of 256 units, forward and backward, and the classical failures."""

import keras
import numpy as np
import pytest
from keras import initializers as kerass
from keras import layers, ops

from keras_ext.initializers import HeNormal, LecunNormal, Orthogonal, XavierNormal, calculate_gain, initialize

DEPTH, WIDTH, SAMPLES = 50, 256, 8


def scales(activation, initializer, differentiate, scale=1.0, seeds=2):
    """Variance of the last layer's sums over that of the first layer's, and of the gradient at the first layer's over that at the last's.

    Geometric means over the seeds.
    """
    model = keras.Sequential([keras.Input((WIDTH,)), *(layers.Dense(WIDTH, activation) for _ in range(DEPTH - 1)), layers.Dense(WIDTH)])
    logarithms = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        initialize(model, initializer, seed=seed)
        x = (scale * rng.normal(size=(SAMPLES, WIDTH))).astype("float32")
        kernel = ops.convert_to_numpy(model.layers[0].kernel).astype("float64")
        y, gradients = differentiate(model, x, rng.normal(size=(SAMPLES, WIDTH)).astype("float32"))
        # From the first layer's inputs to its sums the kernel takes part once more, in both directions.
        forward = np.mean(y.astype("float64") ** 2) / np.mean((x @ kernel) ** 2)
        backward = np.mean(gradients[0].astype("float64") ** 2) / np.mean(kernel**2) / WIDTH
        ratios = forward, backward
        logarithms.append(np.log(np.maximum(ratios, 1e-300)))
    return np.exp(np.mean(logarithms, axis=0))


KEEPS = {
    # What one layer does to the signal and, transposed, to the gradient, is 1 by each initializer's own argument.
    "relu with He": ("relu", HeNormal(), 1.0),
    "selu with LeCun": ("selu", LecunNormal(), 1.0),
    "linear with orthogonal": ("linear", Orthogonal(), 1.0),
    # tanh keeps the signal where it is a line; at unit scale its variance fades as 1 over the depth.
    "tanh with Xavier": ("tanh", XavierNormal(), 0.03),
}


@pytest.mark.parametrize("name", KEEPS)
def test_the_signal_and_the_gradient_keep_their_variance(name, differentiate):
    # One relu network scatters: a layer's ratio has variance 5 / 256 about its mean of 1, the logarithm of 49 of them one of .96 about
    # -.48. Sixty-four networks leave a deviation of .12.
    relu = name.startswith("relu")
    activation, initializer, scale = KEEPS[name]
    ratios = scales(activation, initializer, differentiate, scale, seeds=64 if relu else 2)
    forward, backward = ratios * np.exp(0.5 * 49 * 5 / WIDTH) if relu else ratios
    assert 0.5 < forward < 2
    # selu's slopes have mean square 1.07 at unit scale (Klambauer et al. 2017, appendix): 1.07^49 = 28.
    assert 0.5 < backward < (2 * 28 if name.startswith("selu") else 2)


def test_tanhs_own_gain_keeps_the_signal_at_unit_scale(differentiate):
    gain = calculate_gain("tanh")
    # The first layer's sums, too, have variance 1.
    forward, backward = scales("tanh", XavierNormal(gain="tanh"), differentiate, scale=1 / gain)
    assert 0.5 < forward < 2
    # The price: slopes of mean square .464 times gain^2 = 1.18 a layer.
    assert 1e2 < backward < 1e6
    forward, _ = scales("tanh", XavierNormal(), differentiate)
    assert forward < 0.1


# What the last layer's sums do where the first weights are wrong: bounds on both ratios, an order of magnitude inside what the arithmetic
# of one layer says to the power of the depth.
FAILURES = {
    # Nothing comes through.
    "zeros": ("relu", kerass.RandomNormal(stddev=1e-30), (0, 1e-290), (0, 1e-290)),
    # sqrt(256) * .01 = .16 a layer: (.16^2 / 2)^49 of the variance.
    "too small": ("relu", kerass.RandomNormal(stddev=0.01), (0, 1e-30), (0, 1e-30)),
    # A layer doubles the deviation: 4^49 = 3e29 of the variance.
    "too large": ("relu", HeNormal(gain=2 * 2**0.5), (1e25, np.inf), (1e25, np.inf)),
}


@pytest.mark.parametrize("name", FAILURES)
def test_classical_failures_show_as_what_they_are(name, differentiate):
    activation, initializer, forward_range, backward_range = FAILURES[name]
    forward, backward = scales(activation, initializer, differentiate)
    assert forward_range[0] <= forward <= forward_range[1]
    assert backward_range[0] <= backward <= backward_range[1]


def test_large_weights_saturate_tanh():
    model = keras.Sequential([keras.Input((WIDTH,)), *(layers.Dense(WIDTH, "tanh") for _ in range(3))])
    x = np.random.default_rng(0).normal(size=(SAMPLES, WIDTH)).astype("float32")

    def saturated(initializer):
        initialize(model, initializer, seed=1)
        # The slope is under 5 % of the steepest.
        return np.mean(np.abs(ops.convert_to_numpy(model(x))) > 0.95**0.5)

    assert saturated(XavierNormal()) < 0.01
    assert saturated(kerass.RandomNormal(stddev=10.0)) > 0.95


def test_constant_weights_make_all_units_alike(differentiate):
    model = keras.Sequential([keras.Input((WIDTH,)), layers.Dense(WIDTH, "tanh"), layers.Dense(WIDTH)])
    initialize(model, kerass.Constant(1 / WIDTH))
    x = np.random.default_rng(0).normal(size=(SAMPLES, WIDTH)).astype("float32")
    y, gradients = differentiate(model, x, np.ones((SAMPLES, WIDTH), "float32"))
    assert np.ptp(y, axis=1).max() < 1e-5 * np.abs(y).max()
    kernels = [g for g in gradients[1:] if g.ndim == 2]
    # Every unit would learn the same.
    np.testing.assert_allclose(kernels[0], kernels[0][:, :1] * np.ones((1, WIDTH)), rtol=1e-4)
