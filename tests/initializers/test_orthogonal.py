import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_ext.initializers import Orthogonal


def matrix(shape, dtype=None, **arguments):
    """The drawn weight as the matrix that it stands for, in float64."""
    drawn = Orthogonal(**arguments)(shape, dtype=dtype)
    assert tuple(drawn.shape) == tuple(shape)
    assert keras.backend.standardize_dtype(drawn.dtype) == (dtype or "float32")
    return ops.convert_to_numpy(ops.cast(drawn, "float32")).astype("float64").reshape(-1, shape[-1])


# Orthonormal up to rounding: each number of Q is rounded once, and the products add up over at most 300 terms of mean square 1 / 300.
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 3e-6), ("float32", 3e-6), ("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("gain", [1.0, 2.0, -0.5])
@pytest.mark.parametrize("shape", [(64, 64), (300, 40), (40, 300), (3, 3, 8, 16), (3, 3, 4, 60), (1, 5), (5, 1)])
def test_the_smaller_side_is_orthonormal_times_the_gain(shape, gain, dtype, tolerance):
    q = matrix(shape, dtype, gain=gain, seed=1)
    gram = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=tolerance * gain**2)


def test_a_negative_gain_turns_the_sign():
    np.testing.assert_array_equal(matrix((5, 4), gain=-2.0, seed=1), -2.0 * matrix((5, 4), seed=1))


def test_keras_has_no_orthogonal_in_bfloat16():
    with pytest.raises(Exception):  # noqa: B017 (each framework raises its own)
        np.array(keras.initializers.Orthogonal(seed=1)((8, 8), dtype="bfloat16"))
    assert np.isfinite(matrix((8, 8), "bfloat16", seed=1)).all()


def test_reflections_are_as_likely_as_rotations():
    determinants = np.array([np.linalg.det(matrix((3, 3), seed=seed)) for seed in range(400)])
    np.testing.assert_allclose(np.abs(determinants), 1, atol=1e-5)
    # 5 standard deviations of 400 fair coins.
    assert abs((determinants > 0).sum() - 200) <= 50


def test_the_first_column_points_everywhere_alike():
    q = np.array([matrix((2, 2), seed=seed) for seed in range(400)])
    angles = np.arctan2(q[:, 1, 0], q[:, 0, 0])
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (3, 3)])
def test_one_entry_has_the_law_of_a_random_direction(shape):
    entries = np.array([matrix(shape, seed=seed) for seed in range(200)])[:, -1, -1]
    # One coordinate of a point uniform on the sphere in n dimensions: (1 + x) / 2 is Beta((n - 1) / 2, (n - 1) / 2).
    half = (max(shape) - 1) / 2
    assert stats.kstest((1 + entries) / 2, stats.beta(half, half).cdf).pvalue > 1e-3


def test_an_int_seed_repeats_and_a_generator_goes_on():
    instance = Orthogonal(seed=4)
    first = ops.convert_to_numpy(instance((6, 6)))
    np.testing.assert_array_equal(ops.convert_to_numpy(instance((6, 6))), first)
    np.testing.assert_array_equal(matrix((6, 6), seed=4), first)
    assert np.abs(matrix((6, 6), seed=5) - first).max() > 0.1
    going_on = Orthogonal(seed=keras.random.SeedGenerator(4))
    assert np.abs(ops.convert_to_numpy(going_on((6, 6))) - ops.convert_to_numpy(going_on((6, 6)))).max() > 0.1


def test_unseeded_instances_differ_and_follow_set_random_seed():
    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        draws.append([matrix((6, 6)) for _ in range(2)])
    assert np.abs(draws[0][0] - draws[0][1]).max() > 0.1
    np.testing.assert_array_equal(draws[0], draws[1])


def test_a_generator_survives_the_config():
    instance = Orthogonal(seed=keras.random.SeedGenerator(4))
    again = Orthogonal.from_config(instance.get_config())
    np.testing.assert_array_equal(ops.convert_to_numpy(again((4, 4))), ops.convert_to_numpy(instance((4, 4))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gain": float("nan")}, "`gain` must be a finite number, got nan."),
        ({"gain": float("inf")}, "`gain` must be a finite number, got inf."),
        ({"gain": "relu"}, "`gain` must be a finite number, got 'relu'."),
        ({"seed": True}, "`seed` must be an int, a keras.random.SeedGenerator or None, got True."),
        ({"seed": 1.5}, "`seed` must be an int, a keras.random.SeedGenerator or None, got 1.5."),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError) as caught:
        Orthogonal(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_shape_without_two_axes_is_refused(shape):
    with pytest.raises(ValueError) as caught:
        Orthogonal()(shape)
    assert str(caught.value) == f"The tensor to initialize must be at least two-dimensional. Received: shape={shape} of rank {len(shape)}."


def test_float64_is_as_exact_as_it_can_be_here():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX computes in float32 unless told otherwise")
    q = keras.ops.convert_to_numpy(Orthogonal(seed=1)((6, 4), dtype="float64"))
    assert q.dtype == np.float64
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-14)
