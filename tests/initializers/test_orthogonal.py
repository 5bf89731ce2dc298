import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_ext.initializers import Orthogonal

pytestmark = pytest.mark.filterwarnings("ignore:.*was called again")


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
        *(
            (
                {"gain": gain},
                "`gain` must be a finite number, or one of 'linear', 'relu', 'leaky_relu', 'tanh', 'sigmoid', 'selu', 'gelu', 'silu', "
                f"got {gain!r}.",
            )
            for gain in (float("nan"), float("inf"), "softmax", None)
        ),
        ({"blocks": 0}, "`blocks` must be a whole number of at least 1, got 0."),
        ({"delta": 1}, "`delta` must be True or False, got 1."),
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
        pytest.skip("JAX computes in float32 unless reported otherwise")
    q = keras.ops.convert_to_numpy(Orthogonal(seed=1)((6, 4), dtype="float64"))
    assert q.dtype == np.float64
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-14)


def assert_orthonormal(matrix, scale=1.0):
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    # As in the first test of this file.
    np.testing.assert_allclose(gram, scale**2 * np.eye(len(gram)), atol=3e-6 * scale**2)


def drawn(shape, **arguments):
    return ops.convert_to_numpy(Orthogonal(seed=1, **arguments)(shape)).astype("float64")


@pytest.mark.parametrize("shape", [(12, 48), (60, 48), (6, 48), (3, 3, 4, 48)])
def test_each_block_is_orthonormal_by_itself(shape):
    blocks = np.split(drawn(shape, blocks=4, gain=2.0).reshape(-1, 48), 4, axis=1)
    for block in blocks:
        assert_orthonormal(block, 2.0)
    assert np.abs(blocks[0] - blocks[1]).max() > 0.1


def test_axes_that_are_neither_count_matrices():
    # Fewer than 24: a matrix that is orthogonal as a whole would not do.
    into = drawn((10, 4, 6), input_axes=[0], output_axes=[2])
    out_of = drawn((4, 6, 10), input_axes=[1], output_axes=[2])
    mixed = drawn((3, 4, 5, 2), input_axes=[3, 1], output_axes=[0])
    for head in range(4):
        assert_orthonormal(into[:, head])
        assert_orthonormal(out_of[head])
    for i in range(5):
        # Rows in the order in which the axes are named.
        assert_orthonormal(mixed[:, :, i, :].transpose(2, 1, 0).reshape(8, 3))


@pytest.mark.parametrize(("multiplier", "window"), [(1, (3, 3)), (4, (3, 3)), (12, (3, 3)), (2, (5,))])
def test_each_channel_of_a_depthwise_kernel_is_a_matrix(multiplier, window):
    kernel = drawn((*window, 7, multiplier), kind="depthwise")
    for channel in range(7):
        assert_orthonormal(kernel[..., channel, :].reshape(-1, multiplier))


def test_a_transposed_convolution_is_scaled_by_its_strides():
    kernel = drawn((4, 4, 8, 32), kind="conv_transpose", strides=2)
    # Rows are positions of the window and inputs, columns outputs; two strides of 2 spread the window over 4 outputs.
    assert_orthonormal(kernel.transpose(0, 1, 3, 2).reshape(-1, 8), 2.0)


@pytest.mark.parametrize("shape", [(200, 16), (16, 200)])
def test_an_embedding_has_rows_of_mean_square_one(shape):
    table = drawn(shape, kind="embedding")
    assert_orthonormal(table / np.sqrt(200))
    assert np.mean(table**2) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda k: keras.layers.Conv1D(12, 5, kernel_initializer=k), (11, 8)),
        (lambda k: keras.layers.Conv1D(8, 4, kernel_initializer=k), (11, 8)),
        (lambda k: keras.layers.Conv2D(12, 3, kernel_initializer=k), (7, 6, 8)),
        (lambda k: keras.layers.Conv2D(12, (3, 2), groups=4, kernel_initializer=Orthogonal(seed=1, delta=True, blocks=4)), (7, 6, 8)),
        (lambda k: keras.layers.Conv3D(8, 3, kernel_initializer=k), (5, 4, 6, 8)),
        (
            lambda k: keras.layers.DepthwiseConv2D(
                3, depth_multiplier=2, depthwise_initializer=Orthogonal(seed=1, delta=True, kind="depthwise")
            ),
            (7, 6, 8),
        ),
    ],
)
def test_a_delta_orthogonal_convolution_keeps_the_norm(layer, shape):
    layer = layer(Orthogonal(seed=1, delta=True))
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    window = layer.kernel_size
    padding = [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in window]
    y = ops.convert_to_numpy(layer(np.pad(x, [(0, 0), *padding, (0, 0)], mode="wrap")))
    assert y.shape[:-1] == x.shape[:-1]
    # Each number is a sum of a few dozen products in float32.
    np.testing.assert_allclose((y.astype("float64") ** 2).sum() ** 0.5, (x.astype("float64") ** 2).sum() ** 0.5, rtol=2e-6)
    same = type(layer).from_config({**layer.get_config(), "padding": "same"})
    same.build(x.shape)
    same.set_weights(layer.get_weights())
    # Nothing but the middle of the window counts, so the padding does not.
    np.testing.assert_allclose(ops.convert_to_numpy(same(x)), y, atol=1e-5)


def test_with_fewer_outputs_delta_projects():
    kernel = drawn((3, 3, 8, 5), delta=True)
    assert_orthonormal(kernel[1, 1])
    kernel[1, 1] = 0
    assert not kernel.any()


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_trace_is_that_of_haar_measure(blocks):
    traces = np.array(
        [[np.trace(b) for b in np.split(matrix((3, 3 * blocks), blocks=blocks, seed=seed), blocks, 1)] for seed in range(400)]
    )
    traces = traces.ravel()
    # Diaconis and Shahshahani (1994): mean 0, variance 1. R with a positive diagonal is not what Householder's QR gives.
    assert abs(traces.mean()) < 5 / np.sqrt(traces.size)
    assert abs(traces.var() - 1) < 5 * np.sqrt(2 / traces.size)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_blocks_in_every_dtype(dtype):
    wide = ops.convert_to_numpy(Orthogonal(seed=1, blocks=2)((8, 16)))
    cast = ops.convert_to_numpy(ops.cast(Orthogonal(seed=1, blocks=2)((8, 16), dtype=dtype), "float32"))
    if dtype != "float64":
        np.testing.assert_allclose(cast, wide, rtol=2.0**-8, atol=1e-7)
    for block in np.split(cast.astype("float64"), 2, axis=1):
        # Each number is rounded once, by u = 2^-8 or 2^-11 of itself at most, and the absolute products of two unit columns sum up to 1 at
        # most: 2 u. JAX's float64 is float32.
        np.testing.assert_allclose(block.T @ block, np.eye(8), atol={"bfloat16": 2.0**-7, "float16": 2.0**-10, "float64": 0}[dtype] + 3e-6)


def test_axes_may_not_be_input_and_output_at_once():
    with pytest.raises(ValueError) as caught:
        Orthogonal(input_axes=[0], output_axes=[0, 1])((3, 4))
    assert str(caught.value) == "No axis may be input and output at once, got [0] and [0, 1]."
