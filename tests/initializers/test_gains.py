import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.initializers import HeNormal, LecunNormal, Orthogonal, calculate_gain

SAMPLES = 400_000


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu", "tanh", "sigmoid", "selu", "gelu", "silu"])
def test_a_gain_makes_up_for_what_kerass_activation_takes(name):
    z = np.random.default_rng(0).normal(size=SAMPLES).astype("float32")
    f = {"gelu": lambda z: keras.activations.gelu(z, approximate=False)}.get(name, keras.activations.get(name))
    squares = ops.convert_to_numpy(f(ops.convert_to_tensor(z))).astype("float64") ** 2 * calculate_gain(name) ** 2
    assert abs(squares.mean() - 1) < 5 * squares.std() / np.sqrt(SAMPLES)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, 1.0, -0.5])
def test_leaky_relus_slope_counts(slope):
    z = np.random.default_rng(0).normal(size=SAMPLES)
    squares = np.where(z > 0, z, slope * z) ** 2 * calculate_gain("leaky_relu", slope) ** 2
    assert abs(squares.mean() - 1) < 5 * squares.std() / np.sqrt(SAMPLES)


def test_closed_forms():
    assert calculate_gain("relu") == pytest.approx(2**0.5, rel=1e-12)
    assert calculate_gain("leaky_relu") == pytest.approx(calculate_gain("leaky_relu", 0.2), rel=1e-12)
    # E[(z Phi(z))^2] = 1/3 + 1 / (2 pi sqrt(3))
    assert calculate_gain("gelu") == pytest.approx((1 / 3 + 1 / (2 * np.pi * 3**0.5)) ** -0.5, rel=1e-12)
    assert calculate_gain("selu") == pytest.approx(1, rel=1e-12)
    # The others by the trapezoid rule; the density is 1e-32 at the ends.
    z, step = np.linspace(-12.0, 12.0, 24001, retstep=True)
    sigmoid = 1 / (1 + np.exp(-z))
    for name, values in {"tanh": np.tanh(z), "sigmoid": sigmoid, "silu": z * sigmoid}.items():
        mean_square = step * np.sum(np.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5 * values**2)
        assert calculate_gain(name) == pytest.approx(mean_square**-0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("softmax",),
            "`activation` must be one of 'linear', 'relu', 'leaky_relu', 'tanh', 'sigmoid', 'selu', 'gelu', 'silu', got 'softmax'.",
        ),
        (("relu", 0.1), "`negative_slope` must be a finite number for leaky_relu, None for others, got 0.1."),
        (("leaky_relu", float("inf")), "`negative_slope` must be a finite number for leaky_relu, None for others, got inf."),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as caught:
        calculate_gain(*arguments)
    assert str(caught.value) == message


def values(initializer):
    return ops.convert_to_numpy(initializer((200, 300)))


@pytest.mark.parametrize("make", [LecunNormal, Orthogonal])
def test_a_gain_is_a_factor_by_number_or_name(make):
    plain = values(make(seed=1))
    np.testing.assert_allclose(values(make(seed=1, gain=3.0)), 3.0 * plain, rtol=1e-6)
    np.testing.assert_allclose(values(make(seed=1, gain="tanh")), calculate_gain("tanh") * plain, rtol=1e-6)


def test_hes_gain_is_relus_until_another_is_given():
    np.testing.assert_allclose(values(HeNormal(seed=1)), values(LecunNormal(seed=1, gain="relu")), rtol=1e-6)
    np.testing.assert_allclose(values(HeNormal(seed=1, gain="selu")), values(LecunNormal(seed=1)), rtol=1e-6)
    again = HeNormal.from_config(HeNormal(seed=1, gain="gelu").get_config())
    np.testing.assert_allclose(values(again), values(LecunNormal(seed=1, gain="gelu")), rtol=1e-6)


@pytest.mark.parametrize("gain", [0, -1.0, float("nan"), "softmax", None, True])
def test_wrong_gains_are_refused(gain):
    with pytest.raises(ValueError, match="`gain` must be a finite number above 0, or one of 'linear', 'relu'"):
        LecunNormal(gain=gain) if gain is not None else LecunNormal(gain=[])  # type: ignore[arg-type]
