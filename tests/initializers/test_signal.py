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


# The activation and the square of its slope, for the mean-field law of a wide layer (Poole et al. 2016): sums of variance q give sums of
# variance gain^2 E[f(z)^2] in the next layer, z being normal of variance q, and the gradient's variance changes by gain^2 E[f'(z)^2].
SELU = 1.6732632423543772, 1.0507009873554805
FUNCTIONS = {
    "linear": (lambda z: z, lambda z: np.ones_like(z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
    "selu": (
        lambda z: SELU[1] * np.where(z > 0, z, SELU[0] * np.expm1(np.minimum(z, 0))),
        lambda z: SELU[1] ** 2 * np.where(z > 0, 1, (SELU[0] * np.exp(np.minimum(z, 0))) ** 2),
    ),
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -4.0),
}


def mean_field(activation, gain, variance):
    """What `scales` gives for layers without end of width: both ratios, from sums of this variance in the first layer."""
    z = np.linspace(-12, 12, 24001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    f, squared_slope = FUNCTIONS[activation]
    q, backward = variance, 1.0
    for _ in range(DEPTH - 1):
        backward *= gain**2 * np.sum(weights * squared_slope(q**0.5 * z))
        q = gain**2 * np.sum(weights * f(q**0.5 * z) ** 2)
    return q / variance, backward


# Activation, initializer, its gain, the input's standard deviation, networks to average over.
# One network scatters: a layer of n = 256 units multiplies the signal by a factor of variance (E[f^4] / E[f^2]^2 - 1) / n, and the
# logarithms of 49 of them add up. For relu that is 5 / n a layer, a deviation of .98 in all and of .2 in the mean of 24 networks: the
# factor of 2 is 3.5 of them. The other activations scatter less and come back to their scale, an orthogonal matrix does not scatter.
KEEPS = {
    "relu with He": ("relu", HeNormal(), 2**0.5, 1.0, 24),
    "selu with LeCun": ("selu", LecunNormal(), 1.0, 1.0, 6),
    "linear with orthogonal": ("linear", Orthogonal(), 1.0, 1.0, 1),
    # tanh keeps the signal where it is a line.
    "tanh with Xavier": ("tanh", XavierNormal(), 1.0, 0.03, 6),
    # Its own gain keeps it at unit scale too.
    "tanh with its gain": ("tanh", XavierNormal(gain="tanh"), calculate_gain("tanh"), 1 / calculate_gain("tanh"), 6),
}


@pytest.mark.parametrize("name", KEEPS)
def test_the_signal_and_the_gradient_go_through_fifty_layers(name, differentiate):
    activation, initializer, gain, scale, seeds = KEEPS[name]
    ratios = scales(activation, initializer, differentiate, scale, seeds)
    if activation == "relu":
        # The logarithm's mean is minus half its variance.
        ratios = ratios * np.exp(0.5 * 49 * 5 / WIDTH)
    forward, backward = ratios
    assert 0.5 < forward < 2
    # The gradient keeps its variance where the squared slopes make up for the gain. selu's have a mean of 1.07 at unit scale, 30 in 49
    # layers, those of tanh with its gain 1.18: 2900.
    _, wanted = mean_field(activation, gain, (scale * gain) ** 2)
    assert 0.5 * wanted < backward < 2 * wanted
    assert 0.8 < wanted < 1.25 or name in ("selu with LeCun", "tanh with its gain")


def test_xavier_on_tanh_at_unit_scale_fades_with_the_depth(differentiate):
    forward, _ = scales("tanh", XavierNormal(), differentiate)
    # q - 2 q^2 a layer: 1 / (2 * 49).
    wanted, _ = mean_field("tanh", 1.0, 1.0)
    assert 0.005 < wanted < 0.02
    assert 0.5 * wanted < forward < 2 * wanted


# Weights of a wrong scale: the bounds on both ratios.
FAILURES = {
    # (256 * .01^2 / 2)^49 = 2e-93 of the variance: nothing that float32 could tell from zero.
    "too small": (kerass.RandomNormal(stddev=0.01), 0, 1e-60),
    # A layer doubles the deviation: 4^49 = 3e29, with the scatter of two networks.
    "too large": (HeNormal(gain=2 * 2**0.5), 1e28, 3e30),
}


@pytest.mark.parametrize("name", FAILURES)
def test_weights_of_a_wrong_scale_show(name, differentiate):
    initializer, least, most = FAILURES[name]
    for ratio in scales("relu", initializer, differentiate):
        assert least <= ratio <= most


def test_zeros_let_nothing_through(differentiate):
    model = keras.Sequential([keras.Input((WIDTH,)), *(layers.Dense(WIDTH, "relu") for _ in range(3)), layers.Dense(WIDTH)])
    initialize(model, "zeros")
    x = np.random.default_rng(0).normal(size=(SAMPLES, WIDTH)).astype("float32")
    y, gradients = differentiate(model, x, np.ones((SAMPLES, WIDTH), "float32"))
    assert not y.any()
    # The last bias alone would learn.
    assert [g.any() for g in gradients] == [False] * 8 + [True]


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
