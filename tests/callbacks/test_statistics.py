"""The monitor's numbers against float64 NumPy and the activations' own slopes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks import statistics


@pytest.mark.parametrize("kind", statistics.SATURATING)
def test_slope_share_is_the_slope_over_the_steepest(kind):
    activation = getattr(keras.activations, kind)
    x = np.linspace(-6, 6, 241)
    x = x[np.abs(np.abs(x) - 3) > 1e-6] if kind == "hard_sigmoid" else x[np.abs(np.abs(x) - 1) > 1e-6]  # off the corners
    forward = {
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "tanh": np.tanh,
        "softsign": lambda v: v / (1 + np.abs(v)),
        "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
        "hard_tanh": lambda v: np.clip(v, -1, 1),
    }[kind]
    np.testing.assert_allclose(ops.convert_to_numpy(activation(ops.convert_to_tensor(x, "float32"))), forward(x), atol=1e-6)
    h = 1e-6
    slope = (forward(x + h) - forward(x - h)) / (2 * h)
    got = ops.convert_to_numpy(statistics.slope_share(ops.convert_to_tensor(forward(x), "float32"), kind))
    # float32 outputs near 1 are 6e-8 apart, and the slope there is of the size of that distance.
    np.testing.assert_allclose(got, slope / slope.max(), atol=1e-5)


def test_activation_statistics_count_pairs_units_and_zeros():
    y = np.array([[0.999, 0.5, 0.999], [0.999, 0.5, 0.5], [0.001, 0.5, 0.5], [0.999, 0.5, 0.5]])
    saturated, units, dead, zeros, rms, finite = ops.convert_to_numpy(statistics.activation_statistics(y, "sigmoid"))
    assert (saturated, units, dead, zeros, finite) == pytest.approx((5 / 12, 1 / 3, 0.0, 0.0, 1.0))
    assert rms == pytest.approx(np.sqrt(np.mean(y**2)))
    y = np.array([[0.0, 1.0], [0.0, 0.0]])
    saturated, _, dead, zeros, _, _ = ops.convert_to_numpy(statistics.activation_statistics(y, "relu"))
    assert (saturated, dead, zeros) == (0.0, 0.5, 0.75)


def test_a_channel_is_dead_only_if_it_is_zero_everywhere():
    y = np.zeros((2, 3, 4, 4))
    y[1, 2, 3, 3] = 1.0  # channel 2 of three, on axis 1
    assert ops.convert_to_numpy(statistics.activation_statistics(y, "relu", channel_axis=1))[2] == pytest.approx(2 / 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_told(bad):
    assert ops.convert_to_numpy(statistics.activation_statistics(np.array([[1.0, bad]]), "relu"))[5] == 0.0
    assert ops.convert_to_numpy(statistics.weight_statistics(np.array([1.0, 2.0]), np.array([bad, 1.0])))[4] == 0.0
    assert ops.convert_to_numpy(statistics.weight_statistics(np.array([bad, 2.0]), np.array([0.0, 1.0])))[4] == 0.0


def test_weight_statistics_are_norms_and_shares():
    w, g = np.array([[3.0, -4.0]]), np.array([[0.0, 5.0]])
    np.testing.assert_allclose(ops.convert_to_numpy(statistics.weight_statistics(w, g)), [5.0, 5.0, 4.0, 0.5, 1.0], rtol=1e-6)


def test_norms_survive_numbers_whose_squares_overflow_and_underflow():
    big, small = np.full(4, 1e30), np.full(4, 1e-30)
    assert ops.convert_to_numpy(statistics.weight_statistics(big, small))[1] == pytest.approx(2e30, rel=1e-6)
    assert ops.convert_to_numpy(statistics.weight_statistics(big, small))[0] == pytest.approx(2e-30, rel=1e-6)


def test_spread_is_zero_for_a_constant_prediction_only():
    assert float(statistics.spread(np.full((10, 3), 0.3))) < 1e-6
    p = np.random.default_rng(0).normal(2.0, 0.5, (1000, 1))
    assert float(statistics.spread(p)) == pytest.approx(p.std() / np.sqrt(np.mean(p**2)), rel=1e-5)
