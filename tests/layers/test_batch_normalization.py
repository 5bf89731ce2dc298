import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.layers import BatchNormalization

BACKEND = keras.backend.backend()
MODES = {"tensorflow": ["eager", "graph", "xla"], "jax": ["eager", "jit"], "torch": ["eager"]}[BACKEND]
HALF_UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8}


def batch_statistics(x, axis=-1, keep=None):
    """Mean and biased variance of each channel in float64."""
    rows = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    rows = rows.reshape(-1, rows.shape[-1]) if keep is None else rows[np.asarray(keep)]
    return rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)


def normalised(x, mean, variance, gamma=1.0, beta=0.0, axis=-1, epsilon=1e-3):
    rows = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    return np.moveaxis(gamma * (rows - mean) / np.sqrt(np.add(variance, epsilon)) + beta, -1, axis)


def by_central_differences(function, values, step=1e-5):
    """Gradient of the scalar `function` at `values`; the error is of order step^2 and 1e-16 / step."""
    gradient = np.zeros(values.shape)
    for i in np.ndindex(values.shape):
        moved = values.copy()
        moved[i] += step
        above = function(moved)
        moved[i] -= 2 * step
        gradient[i] = (above - function(moved)) / (2 * step)
    return gradient


def data(shape, seed=0, mean=2.0, stddev=3.0):
    return np.random.default_rng(seed).normal(mean, stddev, shape).astype("float32")


def statistics(layer):
    return ops.convert_to_numpy(layer.moving_mean), ops.convert_to_numpy(layer.moving_variance)


def out(layer, x, **arguments):
    return ops.convert_to_numpy(ops.cast(layer(x, **arguments), "float32"))


def compiled(function, mode):
    if mode in ("graph", "xla"):
        import tensorflow as tf

        return tf.function(function, jit_compile=mode == "xla")
    if mode == "jit":
        import jax

        return jax.jit(function)
    return function


def trained_on(layer, x, mode, **arguments):
    """Output of one training step in `mode`, which moves the layer's statistics."""
    x = ops.convert_to_tensor(x)
    if mode != "jit":
        return ops.convert_to_numpy(compiled(lambda v: layer(v, training=True, **arguments), mode)(x))
    if not layer.built:
        layer.build(x.shape)
    step = compiled(lambda *v: layer.stateless_call(*v, training=True, **arguments), mode)
    y, state = step([v.value for v in layer.trainable_variables], [v.value for v in layer.non_trainable_variables], x)
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        variable.assign(value)
    return ops.convert_to_numpy(y)


def gradients_in(mode, layer, x, weight, twice=False, **arguments):
    """Gradients of `sum(weight * output)` by input, gamma and beta; or `twice`, of the sum of the first one's squares by the input."""
    x, weight = ops.convert_to_tensor(x), ops.convert_to_tensor(weight)
    if not layer.built:
        layer.build(x.shape)

    def scalar(y):
        return ops.sum(ops.cast(y, weight.dtype) * weight)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        def first(x, variables):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = scalar(layer(x, training=True, **arguments))
            return tape.gradient(loss, [x, *variables])

        def second(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                squares = tf.reduce_sum(tf.square(first(x, [])[0]))
            return [tape.gradient(squares, x)]

        got = compiled(second if twice else lambda x: first(x, [v.value for v in layer.trainable_variables]), mode)(x)
    elif BACKEND == "jax":
        import jax

        state = [v.value for v in layer.non_trainable_variables]

        def loss(x, variables):
            return scalar(layer.stateless_call(variables, state, x, training=True, **arguments)[0])

        def squares(x, variables):
            return ops.sum(ops.square(jax.grad(loss)(x, variables)))

        by_x, by_weights = compiled(jax.grad(squares if twice else loss, argnums=(0, 1)), mode)(
            x, [v.value for v in layer.trainable_variables]
        )
        got = [by_x] if twice else [by_x, *by_weights]
    else:
        import torch

        x = x.clone().requires_grad_()
        wanted = [x] if twice else [x, *(v.value for v in layer.trainable_variables)]
        got = torch.autograd.grad(scalar(layer(x, training=True, **arguments)), wanted, create_graph=twice)
        if twice:
            got = torch.autograd.grad(got[0].square().sum(), [x])
    return [ops.convert_to_numpy(ops.cast(g, "float32")) if str(g.dtype).endswith("bfloat16") else ops.convert_to_numpy(g) for g in got]


def channels_last(x, axis=-1):
    """`x` in float64 as (batch, positions, channels), the channels of several axes in one; and the way back."""
    own = sorted(a % x.ndim for a in np.atleast_1d(axis))
    last = range(-len(own), 0)
    moved = np.moveaxis(np.asarray(x, "float64"), own, last)
    rows = moved.reshape(x.shape[0], -1, np.prod(moved.shape[moved.ndim - len(own) :], dtype=int))
    return rows, lambda y: np.moveaxis(y.reshape(moved.shape), last, own)


def by_parts(x, sizes=None, axis=-1, keep=None, epsilon=1e-3):
    """Each of the parts of `sizes` samples normalised by itself in float64; and each one's mean and variance."""
    rows, back = channels_last(x, axis)
    kept = np.ones(x.shape) if keep is None else np.broadcast_to(np.expand_dims(keep, -1), x.shape)
    ends = np.cumsum(sizes or [len(x)])[:-1]
    parts, moments = [], []
    for part, counts in zip(np.split(rows, ends), np.split(channels_last(kept, axis)[0], ends), strict=True):
        number = np.maximum(counts.sum((0, 1)), 1)
        mean = np.where(counts, part, 0).sum((0, 1)) / number
        variance = np.where(counts, (part - mean) ** 2, 0).sum((0, 1)) / number
        parts.append((part - mean) / np.sqrt(variance + epsilon))
        moments.append((mean, variance))
    return np.concatenate(parts), back, moments


def recursion(moments, momentum, mean=0.0, variance=1.0):
    """The moving statistics after one step for each of `moments`."""
    for of_batch in moments:
        mean, variance = (old * momentum + new * (1 - momentum) for old, new in zip((mean, variance), of_batch, strict=True))
    return mean, variance


@pytest.mark.parametrize(("shape", "axis"), [((64, 5), -1), ((8, 6, 4), 1), ((4, 5, 6, 3), -1), ((4, 3, 5, 6), 1), ((3, 4, 5), 0)])
def test_training_output_is_the_equation(shape, axis):
    x = data(shape)
    channels = shape[axis]
    gamma, beta = np.linspace(0.5, 2, channels), np.linspace(-1, 1, channels)
    layer = BatchNormalization(
        axis, gamma_initializer=keras.initializers.Constant(gamma), beta_initializer=keras.initializers.Constant(beta), epsilon=1e-2
    )
    wanted = normalised(x, *batch_statistics(x, axis), gamma, beta, axis, 1e-2)
    np.testing.assert_allclose(out(layer, x, training=True), wanted, atol=2e-5)


@pytest.mark.parametrize(("scale", "center"), [(True, True), (False, True), (True, False), (False, False)])
def test_inference_output_uses_the_moving_statistics(scale, center):
    x = data((16, 3))
    layer = BatchNormalization(scale=scale, center=center)
    layer.build(x.shape)
    values = {"gamma": [2.0, 1.0, 0.5], "beta": [1.0, 0.0, -1.0], "moving_mean": [1.0, 2.0, 3.0], "moving_variance": [4.0, 9.0, 1.0]}
    for weight in layer.weights:
        weight.assign(values[weight.name])
    before = [ops.convert_to_numpy(w) for w in layer.weights]
    wanted = normalised(
        x,
        values["moving_mean"],
        values["moving_variance"],
        values["gamma"] if scale else 1.0,
        values["beta"] if center else 0.0,
    )
    np.testing.assert_allclose(out(layer, x), wanted, atol=1e-5)
    np.testing.assert_array_equal([ops.convert_to_numpy(w) for w in layer.weights], before)


GRADIENTS = {
    "rank 2": ((6, 3), -1, {}),
    "rank 3": ((3, 4, 3), -1, {}),
    "rank 4": ((2, 3, 2, 3), -1, {}),
    "channels first": ((3, 3, 2, 2), 1, {}),
    "channels first, rank 3": ((3, 2, 4), 1, {}),
    "20 channels": ((3, 2, 20), -1, {}),
    "20 channels first": ((3, 20, 2), 1, {}),
    "two axes": ((4, 2, 3, 2), (1, 3), {}),
    "far": ((6, 3), -1, {}),
    "far, rank 4": ((2, 3, 2, 3), -1, {}),
    "far, channels first": ((3, 3, 2, 2), 1, {}),
    "renorm": ((6, 3), -1, {"renorm": True}),
    "renorm, channels first": ((4, 3, 2), 1, {"renorm": True}),
    "masked": ((3, 4, 2), -1, {}),
    "masked, channels first": ((3, 2, 4), 1, {}),
    "masked renorm": ((3, 4, 2), -1, {"renorm": True}),
    "ghosts": ((7, 3), -1, {"virtual_batch_size": 3}),
    "ghosts, channels first": ((5, 2, 3), 1, {"virtual_batch_size": 2}),
    "masked ghosts": ((7, 3, 2), -1, {"virtual_batch_size": 3}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients_equal_central_differences(case, mode):
    shape, axis, arguments = GRADIENTS[case]
    far = case.startswith("far")
    rng = np.random.default_rng(1)
    x, weight = data(shape, mean=1000.0, stddev=1.0) if far else data(shape), rng.normal(size=shape).astype("float32")
    keep = rng.random(shape[:-1]) < 0.6 if "masked" in case else None
    own = tuple(np.atleast_1d(axis))
    gamma, beta = (np.linspace(*ends, np.prod([shape[a] for a in own])) for ends in ((0.5, 2), (-1, 1)))
    layer = BatchNormalization(axis, **arguments)
    layer.build(shape)
    layer.gamma.assign(gamma.reshape(layer.gamma.shape))
    layer.beta.assign(beta.reshape(layer.beta.shape))
    got = gradients_in(mode, layer, x, weight, **({} if keep is None else {"mask": ops.convert_to_tensor(keep)}))

    # torch.chunk(7 samples, 7 // 3 parts) makes 4 and 3, and of 5 samples, 5 // 2 parts, 3 and 2.
    sizes = {7: [4, 3], 5: [3, 2]}[len(x)] if "virtual_batch_size" in arguments else None
    r, d = 1.0, 0.0
    if "renorm" in arguments:
        # The first step corrects towards mean 0 and stddev 1.
        ((mean, variance),) = by_parts(x, axis=axis, keep=keep)[2]
        r, d = np.sqrt(variance + 1e-3), mean

    def loss(x, gamma, beta):
        y, back, _ = by_parts(x, sizes, axis, keep)
        return (weight * back((y * r + d) * gamma + beta)).sum()

    x = x.astype("float64")
    wanted = [
        by_central_differences(lambda v: loss(v, gamma, beta), x),
        by_central_differences(lambda v: loss(x, v, beta), gamma),
        by_central_differences(lambda v: loss(x, gamma, v), beta),
    ]
    # float32 sums of at most 24 terms of size 1; at 1000 a mean is off by half a unit, 3e-5, in each of them.
    tolerance = 1e-3 if far else 2e-5
    for mine, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(mine, want.reshape(mine.shape), atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["rank 2", "rank 4", "channels first", "two axes", "far", "masked", "ghosts"])
def test_gradients_of_gradients_equal_central_differences(case, mode):
    shape, axis, arguments = GRADIENTS[case]
    far = case == "far"
    rng = np.random.default_rng(1)
    x, weight = data(shape, mean=100.0 if far else 1.0, stddev=1.0), rng.normal(size=shape).astype("float32")
    keep = rng.random(shape[:-1]) < 0.6 if case == "masked" else None
    sizes = [4, 3] if case == "ghosts" else None
    layer = BatchNormalization(axis, epsilon=0.1, **arguments)
    mask = {} if keep is None else {"mask": ops.convert_to_tensor(keep)}
    (got,) = gradients_in(mode, layer, x, weight, twice=True, **mask)

    def squares(v):
        """Of the first gradient, by the formula that the test above has shown to be right for these shapes."""
        rows, _, moments = by_parts(v, sizes, axis, keep, 0.1)
        g = channels_last(weight, axis)[0]
        counts = channels_last(np.ones(shape) if keep is None else np.broadcast_to(keep[..., None], shape), axis)[0]
        total, start = 0.0, 0
        for (_, variance), size in zip(moments, sizes or [len(v)], strict=True):
            part = slice(start, start + size)
            y, up, kept = rows[part], g[part], counts[part]
            number = kept.sum((0, 1))
            by_y = up - kept * (up.sum((0, 1)) + y * (up * y).sum((0, 1))) / number
            total, start = total + (by_y**2 / (variance + 0.1)).sum(), start + size
        return total

    wanted = by_central_differences(squares, x.astype("float64"))
    # Terms of size 10 in float32; at 100 a mean is off by 4e-6 in each of some ten.
    np.testing.assert_allclose(got, wanted, atol=2e-3 if far else 1e-4, rtol=1e-3 if far else 1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_UNIT)
@pytest.mark.parametrize(("shape", "axis"), [((16, 3), -1), ((4, 3, 3, 20), -1), ((4, 3, 3, 3), 1)])
def test_gradients_of_half_precision_are_those_of_float32(shape, axis, dtype, mode):
    x = ops.cast(data(shape, mean=0.5, stddev=1.0), dtype)
    # 0.5, 1 and -1 are themselves in every dtype.
    weight = np.random.default_rng(1).choice([0.5, 1.0, -1.0], shape).astype("float32")
    half, single = BatchNormalization(axis, dtype=f"mixed_{dtype}"), BatchNormalization(axis)
    if BACKEND == "torch":
        assert str(half(x, training=True).dtype) == f"torch.{dtype}"
    got = gradients_in(mode, half, x, weight)
    wanted = gradients_in(mode, single, ops.cast(x, "float32"), weight)
    unit = HALF_UNIT[dtype]
    # The input's is rounded once; where a kernel rounds inside, twice.
    np.testing.assert_allclose(got[0].astype("float32"), wanted[0], atol=3 * unit * abs(wanted[0]).max())
    for mine, want in zip(got[1:], wanted[1:], strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, want, atol=3 * unit * abs(want).max())


def far_data(shape, seed=0):
    return (1e5 + np.random.default_rng(seed).normal(size=shape)).astype("float32")


FAR = [((50000, 2), -1), ((16, 56, 56, 8), -1), ((8, 3, 50, 50), 1)]


def misses(layer, x, axis, mode):
    """How far output, moving mean and moving variance are from float64."""
    y = trained_on(layer, x, mode)
    mean, variance = batch_statistics(x, axis)
    mine = statistics(layer)
    return abs(y - normalised(x, mean, variance, axis=axis)).max(), abs(mine[0] - mean).max(), abs(mine[1] - variance).max()


# float32 at 1e5 goes in steps of 1 / 128: a rounded mean is off by half of it, and with it the output, whose stddev is 1.
HALF_STEP = 1 / 256


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "axis"), FAR)
def test_an_offset_of_100000_with_unit_spread_is_normalised(shape, axis, mode):
    y, mean, variance = misses(BatchNormalization(axis, momentum=0.0), far_data(shape), axis, mode)
    assert mean <= HALF_STEP
    # Half the variance's miss, times values up to 5.
    assert y <= HALF_STEP + 2.5e-4
    # The square of the mean's miss, and rounding.
    assert variance <= 1e-4


def test_keras_loses_unit_spread_at_an_offset_of_100000():
    missed = np.array([misses(keras.layers.BatchNormalization(axis, momentum=0.0), far_data(shape), axis, "eager") for shape, axis in FAR])
    # TensorFlow's kernel misses by whole units, PyTorch's variance by a thousand, JAX's mean by a step.
    assert missed[:, 1].max() > HALF_STEP
    if BACKEND == "jax":
        assert missed[:, 0].max() > HALF_STEP + 2.5e-4
    else:
        assert missed[:, 2].max() > 10


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offsets", [[1e5, 1e5, 1e5], [0, 1e5, 0]])
@pytest.mark.parametrize(("shape", "axis"), [((512, 3), -1), ((8, 8, 8, 3), -1), ((8, 3, 8, 8), 1)])
def test_an_offset_that_float32_holds_changes_nothing_but_the_mean(shape, axis, offsets, mode):
    """Multiples of 1 / 128 and their negatives: beside 1e5 they are exact, as are their sums, and so is the mean."""
    rng = np.random.default_rng(0)
    half = rng.integers(-300, 301, (256, 3)) / 128
    rows = rng.permutation(np.concatenate([half, -half]))
    weight = rng.uniform(1, 2, rows.shape).astype("float32")
    gamma = np.array([0.5, 1.0, 2.0])

    def shaped(values):
        others = [size for i, size in enumerate(shape) if i != axis % len(shape)]
        return np.moveaxis(values.reshape(*others, 3), -1, axis).astype("float32")

    layer = BatchNormalization(axis, momentum=0.0, gamma_initializer=keras.initializers.Constant(gamma))
    x = shaped(rows + offsets)
    y = trained_on(layer, x, mode)
    variance = (rows**2).mean(0)
    wanted = rows / np.sqrt(variance + 1e-3)
    # Float32 rounds each of a sum's 512 terms, of size 2, and the sum.
    np.testing.assert_allclose(y, shaped(wanted * gamma), atol=1e-5)
    np.testing.assert_allclose(statistics(layer), [offsets, variance], rtol=1e-6, atol=1e-6)
    by_beta, by_gamma = weight.astype("float64").sum(0), (weight * wanted).sum(0)
    by_x = gamma / np.sqrt(variance + 1e-3) * (weight - (by_beta + wanted * by_gamma) / len(rows))
    got = gradients_in(mode, layer, x, shaped(weight))
    np.testing.assert_allclose(got[0], shaped(by_x), atol=1e-5)
    np.testing.assert_allclose(got[1], by_gamma, atol=1e-3)
    np.testing.assert_allclose(got[2], by_beta, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_UNIT)
@pytest.mark.parametrize(("shape", "axis"), [((4096, 2), -1), ((4, 2, 32, 32), 1), ((4, 32, 32, 20), -1)])
def test_the_statistics_of_half_precision_far_from_0_are_those_of_float32(shape, axis, dtype, mode):
    x = ops.cast(data(shape, mean=300.7, stddev=3.0), dtype)
    exact = ops.convert_to_numpy(ops.cast(x, "float32"))
    layer = BatchNormalization(axis, momentum=0.0, dtype=f"mixed_{dtype}")
    trained_on(layer, x, mode)
    mean, variance = batch_statistics(exact, axis)
    # At 300 a float32 mean is off by 1.5e-5, and by some more of them where the values themselves are summed.
    np.testing.assert_allclose(statistics(layer)[0], mean, rtol=0, atol=2e-4)
    # A float32 sum one by one of 4096 values, of which bfloat16 has few different ones here: all may be rounded the same way.
    np.testing.assert_allclose(statistics(layer)[1], variance, rtol=4096 * 2.0**-24)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zeros", ["first half of the batch", "frame"])
@pytest.mark.parametrize(("shape", "axis"), FAR[1:])
def test_images_that_are_0_in_part_and_100000_elsewhere_are_normalised(shape, axis, zeros, mode):
    x = far_data(shape)
    if zeros == "frame":
        inner = np.zeros(shape, bool)
        np.moveaxis(inner, axis, -1)[:, 4:-4, 4:-4] = True
        x[~inner] = 0
    else:
        x[: len(x) // 2] = 0
    layer = BatchNormalization(axis, momentum=0.0)
    y = trained_on(layer, x, mode)
    mean, variance = batch_statistics(x, axis)
    # A float32 sum of 5e4 values one by one is off by 5e4 half units, 3e-3 of it, at the very worst; a third of that.
    np.testing.assert_allclose(statistics(layer)[0], mean, rtol=1e-3)
    np.testing.assert_allclose(statistics(layer)[1], variance, rtol=1e-3)
    np.testing.assert_allclose(y, normalised(x, mean, variance, axis=axis), atol=1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [1e5 + 0.3, 12345.678])
@pytest.mark.parametrize(("shape", "axis"), FAR)
def test_the_variance_of_a_constant_is_0_and_never_negative(shape, axis, value, mode):
    layer = BatchNormalization(axis, momentum=0.0)
    y = trained_on(layer, np.full(shape, value, "float32"), mode)
    mean, variance = statistics(layer)
    assert (variance >= 0).all()
    # The square of a mean's miss, of a step, 1 / 128, or less.
    assert (variance <= 2.0**-14).all()
    assert np.isfinite(y).all()
    # A float32 mean of what a first mean has left: two steps.
    np.testing.assert_allclose(mean, np.float32(value), rtol=2.0**-22)


@pytest.mark.skipif(BACKEND != "torch", reason="Keras's E[x^2] - E[x]^2 is PyTorch's only")
def test_kerass_variance_of_a_constant_is_negative():
    layer = keras.layers.BatchNormalization(1, momentum=0.0)
    y = trained_on(layer, np.full((8, 3, 50, 50), 12345.678, "float32"), "eager")
    assert (statistics(layer)[1] < 0).all()
    assert np.isnan(y).all()


def test_moving_statistics_follow_the_recursion():
    layer = BatchNormalization(momentum=0.8)
    mean, variance = np.zeros(4), np.ones(4)
    for step in range(5):
        x = data((32, 4), seed=step, mean=step)
        layer(x, training=True)
        of_batch = batch_statistics(x)
        mean, variance = 0.8 * mean + 0.2 * of_batch[0], 0.8 * variance + 0.2 * of_batch[1]
    np.testing.assert_allclose(statistics(layer), [mean, variance], rtol=1e-5)


@pytest.mark.parametrize("renorm", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_channel_that_is_not_finite_keeps_its_moving_statistics(bad, renorm):
    ours, theirs = BatchNormalization(renorm=renorm), keras.layers.BatchNormalization(renorm=renorm)
    good = data((16, 3))
    for layer in (ours, theirs):
        layer(good, training=True)
    before = [ops.convert_to_numpy(w) for w in ours.non_trainable_weights]
    x = data((16, 3), seed=1)
    x[5, 1] = bad
    for layer in (ours, theirs):
        layer(x, training=True)
    after = [ops.convert_to_numpy(w) for w in ours.non_trainable_weights]
    for old, new in zip(before, after, strict=True):
        assert new[1] == old[1]
        assert (new[[0, 2]] != old[[0, 2]]).all()
        assert np.isfinite(new).all()
    assert not np.isfinite(statistics(theirs)[0][1])
    assert not np.isfinite(statistics(theirs)[1][1])
    assert np.isfinite(out(ours, good)).all()


def test_a_fully_masked_batch_keeps_the_moving_statistics():
    ours, theirs = BatchNormalization(momentum=0.5), keras.layers.BatchNormalization(momentum=0.5)
    x = data((8, 4, 3), mean=5.0)
    for layer in (ours, theirs):
        layer(x, training=True)
    before, dragged = statistics(ours), statistics(theirs)
    nothing = ops.convert_to_tensor(np.zeros((8, 4), bool))
    assert np.isfinite(out(ours, x, training=True, mask=nothing)).all()
    theirs(x, training=True, mask=nothing)
    np.testing.assert_array_equal(statistics(ours), before)
    np.testing.assert_allclose(statistics(theirs), np.multiply(dragged, 0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "mask_shape"), [((8, 5, 1), (8, 5)), ((8, 5, 3), (8, 5)), ((8, 5, 3), (8, 1)), ((4, 5, 6, 2), (4, 5, 6))]
)
def test_masked_positions_do_not_count(shape, mask_shape):
    x = data(shape)
    mask = np.random.default_rng(1).random(mask_shape) < 0.5
    keep = np.broadcast_to(mask, shape[:-1])
    x[~keep] = 1e6
    layer = BatchNormalization(momentum=0.0)
    y = out(layer, x, training=True, mask=ops.convert_to_tensor(mask))
    mean, variance = batch_statistics(x, keep=keep)
    np.testing.assert_allclose(statistics(layer), [mean, variance], rtol=1e-5)
    np.testing.assert_allclose(y[keep], normalised(x, mean, variance)[keep], atol=2e-5)


def test_a_mask_comes_with_the_input_and_goes_on():
    x = data((4, 6, 3))
    x[:, 4:] = 0
    layer = BatchNormalization(momentum=0.0)
    model = keras.Sequential([keras.Input((6, 3)), keras.layers.Masking(), layer])
    model(x, training=True)
    np.testing.assert_allclose(statistics(layer), batch_statistics(x[:, :4]), rtol=1e-5)
    assert layer.supports_masking


def test_an_offset_of_1000_with_unit_spread_is_normalised():
    x = data((512, 4), mean=1000.0, stddev=1.0)
    layer = BatchNormalization(momentum=0.0)
    wanted = normalised(x, *batch_statistics(x))
    # The float32 mean of numbers near 1000 is off by some 6e-5.
    np.testing.assert_allclose(out(layer, x, training=True), wanted, atol=5e-4)
    np.testing.assert_allclose(out(layer, x), wanted, atol=5e-4)


def test_statistics_of_half_precision_inputs_are_float32():
    x = (data((256, 2), mean=0.0, stddev=1.0) * 300).astype("float16")
    layer = BatchNormalization(momentum=0.0, dtype="mixed_float16")
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert [keras.backend.standardize_dtype(w.dtype) for w in layer.weights] == ["float32"] * 4
    np.testing.assert_allclose(statistics(layer), batch_statistics(x), rtol=1e-5, atol=1e-2)
    # Half a unit in the last place of float16 at 4.
    np.testing.assert_allclose(ops.convert_to_numpy(y), normalised(x, *batch_statistics(x)), atol=2.1e-3)


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3)])
def test_a_batch_of_one_value_gives_beta(shape):
    layer = BatchNormalization(momentum=0.5, beta_initializer=keras.initializers.Constant(0.25))
    np.testing.assert_array_equal(out(layer, data(shape), training=True), np.full(shape, 0.25))
    np.testing.assert_allclose(statistics(layer)[1], 0.5)


def test_a_frozen_layer_works_as_at_inference():
    layer = BatchNormalization()
    x = data((32, 3))
    layer(x, training=True)
    before = statistics(layer)
    layer.trainable = False
    np.testing.assert_array_equal(out(layer, x, training=True), out(layer, x, training=False))
    np.testing.assert_array_equal(statistics(layer), before)


def renormalised(x, mean, stddev, rmin, rmax, dmax, epsilon):
    """Ioffe (2017), algorithm 1: output, r, d and the batch's statistics."""
    of_batch = x.mean(0), np.sqrt(x.var(0) + epsilon)
    r = np.clip(of_batch[1] / stddev, rmin, rmax)
    d = np.clip((of_batch[0] - mean) / stddev, -dmax, dmax)
    return (x - of_batch[0]) / of_batch[1] * r + d, r, d, of_batch


@pytest.mark.parametrize("limits", [{"rmin": 1 / 3, "rmax": 3.0, "dmax": 5.0}, {"rmin": 0.9, "rmax": 1.1, "dmax": 0.2}, None])
def test_renorm_is_the_papers_algorithm(limits):
    epsilon, alpha = 1e-3, 0.1
    layer = BatchNormalization(renorm=True, renorm_clipping=limits, renorm_momentum=1 - alpha, momentum=0.8, epsilon=epsilon)
    # Without limits the correction is not cut off.
    bounds = [(limits or {}).get(name, default) for name, default in (("rmin", 0.0), ("rmax", np.inf), ("dmax", np.inf))]
    mean, stddev = np.zeros(4), np.ones(4)
    moving_mean, moving_stddev = np.zeros(4), np.ones(4)
    for step in range(6):
        x = data((32, 4), seed=step, mean=0.3 * step, stddev=0.5 + step)
        wanted, _, _, of_batch = renormalised(x.astype("float64"), mean, stddev, *bounds, epsilon)
        np.testing.assert_allclose(out(layer, x, training=True), wanted, rtol=1e-4, atol=1e-4)
        mean, stddev = mean + alpha * (of_batch[0] - mean), stddev + alpha * (of_batch[1] - stddev)
        moving_mean, moving_stddev = moving_mean + 0.2 * (of_batch[0] - moving_mean), moving_stddev + 0.2 * (of_batch[1] - moving_stddev)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.renorm_mean), mean, rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.renorm_stddev), stddev, rtol=1e-5)
    np.testing.assert_allclose(out(layer, x), (x - moving_mean) / moving_stddev, rtol=1e-4, atol=1e-4)


def test_renorm_takes_its_correction_for_constants(differentiate):
    x, weight = data((6, 3)), data((6, 3), seed=1, mean=0.0)
    layer = BatchNormalization(renorm=True, renorm_clipping={"rmin": 0.2, "rmax": 5.0, "dmax": 5.0})
    _, (got, *_) = differentiate(layer, x, weight)
    x = x.astype("float64")
    _, r, d, _ = renormalised(x, np.zeros(3), np.ones(3), 0.2, 5.0, 5.0, 1e-3)
    wanted = by_central_differences(lambda v: (weight * (normalised(v, *batch_statistics(v)) * r + d)).sum(), x)
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}, {"renorm": True}, {"axis": 1}])
def test_weights_and_results_are_those_of_keras(arguments):
    ours, theirs = BatchNormalization(name="bn", **arguments), keras.layers.BatchNormalization(name="bn", **arguments)
    for step in range(3):
        x = data((16, 5, 3), seed=step)
        np.testing.assert_allclose(out(ours, x, training=True), out(theirs, x, training=True), atol=5e-5)
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert [w.path for w in ours.trainable_weights] == [w.path for w in theirs.trainable_weights]
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


def test_regularizers_and_constraints_reach_their_weights():
    layer = BatchNormalization(
        gamma_regularizer=keras.regularizers.L1(0.5),
        beta_regularizer=keras.regularizers.L2(0.25),
        gamma_constraint="non_neg",
        beta_constraint="unit_norm",
        beta_initializer=keras.initializers.Constant(2.0),
    )
    layer.build((None, 3))
    np.testing.assert_allclose(sorted(float(v) for v in layer.losses), [0.5 * 3, 0.25 * 3 * 4])
    assert isinstance(layer.gamma.constraint, keras.constraints.NonNeg)
    assert isinstance(layer.beta.constraint, keras.constraints.UnitNorm)


REPLICAS = """
import json
import keras
import numpy as np
import tensorflow as tf
from keras_ext.layers import BatchNormalization

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
x = rng.normal(2, 3, (8, 5, 2)).astype("float32")
x[4:] += 10
mask = rng.random((8, 5)) < 0.5
mask[4:, 1:] = False
with strategy.scope():
    layers = {"plain": BatchNormalization(momentum=0.0, synchronized=True), "masked": BatchNormalization(momentum=0.0, synchronized=True)}
    for layer in layers.values():
        layer.build(x.shape)

def part(array):
    pick = lambda context: tf.constant(array[4 * context.replica_id_in_sync_group :][:4])
    return strategy.experimental_distribute_values_from_function(pick)

@tf.function
def step(x, mask):
    return layers["plain"](x, training=True), layers["masked"](x, training=True, mask=mask)

results = strategy.run(step, args=(part(x), part(mask)))
report = {"x": x.tolist(), "mask": mask.tolist()}
for (name, layer), result in zip(layers.items(), results):
    report[name] = {
        "y": np.concatenate([np.array(v) for v in strategy.experimental_local_results(result)]).tolist(),
        "mean": np.array(layer.moving_mean).tolist(),
        "variance": np.array(layer.moving_variance).tolist(),
    }
print(json.dumps(report))
"""


@pytest.mark.needs_tensorflow
def test_synchronized_statistics_are_those_of_all_replicas(in_new_process):
    report = json.loads(in_new_process(REPLICAS).splitlines()[-1])
    x, mask = np.array(report["x"]), np.array(report["mask"])
    for name, keep in (("plain", np.ones_like(mask)), ("masked", mask)):
        mean, variance = batch_statistics(x, keep=keep)
        np.testing.assert_allclose(report[name]["mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(report[name]["variance"], variance, rtol=1e-5)
        np.testing.assert_allclose(np.array(report[name]["y"])[keep], normalised(x, mean, variance)[keep], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"axis": 1.5},
            "`axis` must be a whole number, or a tuple of some, got 1.5. Keras's channels are on -1, or on 1 with channels_first.",
        ),
        (
            {"axis": ()},
            "`axis` must be a whole number, or a tuple of some, got (). Keras's channels are on -1, or on 1 with channels_first.",
        ),
        ({"virtual_batch_size": 0}, "`virtual_batch_size` must be a whole number of at least 1, got 0."),
        ({"virtual_batch_size": 4, "renorm": True}, "`virtual_batch_size` must be None with `renorm` or `synchronized`, got 4."),
        ({"debias": 1}, "`debias` must be True or False, got 1."),
        (
            {"debias": True, "momentum": 1.0},
            "`momentum` must be below 1 with `debias`, got 1.0. At 1 the moving statistics never change.",
        ),
        ({"momentum": 1.5}, "`momentum` must be a number in [0, 1], got 1.5."),
        ({"momentum": float("nan")}, "`momentum` must be a number in [0, 1], got nan."),
        ({"epsilon": -1e-3}, "`epsilon` must be a finite number of at least 0, got -0.001."),
        ({"center": 1}, "`center` must be True or False, got 1."),
        ({"beta_initializer": 3}, "`beta_initializer` must be an initializer, its name, or a function of shape and dtype, got 3."),
        ({"gamma_regularizer": 3}, "`gamma_regularizer` must be a regularizer, its name, or None, got 3."),
        ({"scale": "yes"}, "`scale` must be True or False, got 'yes'."),
        ({"renorm": None}, "`renorm` must be True or False, got None."),
        ({"renorm_momentum": -0.1}, "`renorm_momentum` must be a number in [0, 1], got -0.1."),
        (
            {"renorm": True, "renorm_clipping": {"max": 3.0}},
            "Received invalid keys for `renorm_clipping` argument: {'max': 3.0}. Supported values: ['rmax', 'rmin', 'dmax'].",
        ),
        (
            {"renorm": True, "renorm_clipping": {"rmax": 0.5, "rmin": 1.0}},
            "rmax should be greater than rmin in the `renorm_clipping` argument. Received: rmax=0.5, rmin=1.0.",
        ),
        (
            {"renorm": True, "renorm_clipping": {"dmax": -1.0}},
            "dmax should be non-negative in the `renorm_clipping` argument. Received: dmax=-1.0.",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError) as caught:
        BatchNormalization(**arguments)
    assert str(caught.value) == message


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow synchronizes")
def test_synchronized_is_refused_where_no_backend_does_it():
    with pytest.raises(ValueError) as caught:
        BatchNormalization(synchronized=True)
    assert str(caught.value) == "`synchronized` must be False on backends other than TensorFlow, got True."


@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (3, (None, 4), "`axis` must be an axis of the input, which has 2, got 3."),
        (-3, (None, 4), "`axis` must be an axis of the input, which has 2, got -3."),
        (
            -1,
            (None, None),
            "The size of axis -1 must be known, got an input of shape (None, None). Give keras.Input a shape with the number of channels.",
        ),
    ],
)
def test_an_input_that_does_not_fit_is_refused(axis, shape, message):
    with pytest.raises(ValueError) as caught:
        BatchNormalization(axis).build(shape)
    assert str(caught.value) == message


def test_a_mask_of_another_rank_is_refused():
    layer = BatchNormalization()
    x = ops.convert_to_tensor(data((4, 5, 3)))
    mask = ops.convert_to_tensor(np.ones((4, 5, 3), bool))
    with pytest.raises(ValueError, match="The mask provided should be one dimension less than the inputs\\. Received: mask\\.shape="):
        layer(x, training=True, mask=mask)


def on_one_axis(x, axis):
    """`x` with the axes of `axis` in one, which is last."""
    own = sorted(a % x.ndim for a in axis)
    others = [i for i in range(x.ndim) if i not in own]
    moved = x.transpose(others + own)
    return moved.reshape(*moved.shape[: len(others)], -1)


@pytest.mark.parametrize(
    ("axis", "arguments", "mode"),
    [
        *[((1, 3), {}, mode) for mode in MODES],
        *[(axis, {}, MODES[-1]) for axis in ((-1, 1), [3, -3], (2, 3), (1, 2, 3), (0, 2))],
        *[((3, 1), arguments, MODES[-1]) for arguments in ({"renorm": True}, {"virtual_batch_size": 2}, {"debias": True})],
    ],
)
def test_several_axes_are_one_axis_of_a_reshaped_input(axis, arguments, mode):
    x = data((4, 2, 3, 5))
    several, one = BatchNormalization(axis, momentum=0.7, **arguments), BatchNormalization(momentum=0.7, **arguments)
    flat = on_one_axis(x, axis)
    several.build(x.shape)
    one.build(flat.shape)
    assert {w.shape for w in several.weights} == {tuple(x.shape[a] for a in sorted(a % 4 for a in axis))}
    values = np.random.default_rng(1).uniform(0.5, 2, (len(one.weights), flat.shape[-1])).astype("float32")
    one.set_weights(values)
    several.set_weights([v.reshape(several.gamma.shape) for v in values])
    for _ in range(2):
        got, wanted = (trained_on(layer, v, mode) for layer, v in ((several, x), (one, flat)))
        np.testing.assert_allclose(on_one_axis(got, axis), wanted, atol=1e-6)
    for mine, other in zip(several.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(mine.ravel(), other, rtol=1e-6)
    np.testing.assert_allclose(on_one_axis(out(several, x), axis), out(one, flat), atol=1e-6)


def test_several_axes_survive_the_config_and_a_file(tmp_path):
    layer = BatchNormalization((3, 1), name="bn")
    config = json.loads(json.dumps(layer.get_config()))
    assert BatchNormalization.from_config(config).axis == layer.axis == (3, 1)
    model = keras.Sequential([keras.Input((2, 3, 5)), layer])
    x = data((4, 2, 3, 5))
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].axis == (3, 1)
    np.testing.assert_array_equal(out(loaded, x), out(model, x))


def test_a_tuple_of_one_axis_is_that_axis():
    assert BatchNormalization((-1,)).axis == -1
    assert BatchNormalization([1]).axis == 1


@pytest.mark.parametrize(("axis", "rank"), [((1, 1), 4), ((-1, 3), 4), ((1, 2, -2), 3)])
def test_the_same_axis_twice_is_refused(axis, rank):
    with pytest.raises(ValueError) as caught:
        BatchNormalization(axis).build((None, *[3] * (rank - 1)))
    assert str(caught.value) == f"`axis` must be different axes of the input, which has {rank}, got {axis}."


def test_ghosts_are_refused_where_the_channels_are_on_axis_0():
    for axis in (0, -2, (0, 1)):
        with pytest.raises(ValueError) as caught:
            BatchNormalization(axis, virtual_batch_size=2).build((4, 3))
        wanted = f"`axis` must be other than 0 with `virtual_batch_size`, got {axis}. Ghost batches are cut from axis 0."
        assert str(caught.value) == wanted


# As torch.chunk cuts a batch into batch // virtual_batch_size chunks.
GHOSTS = {
    (64, 32): [32, 32],
    (33, 32): [33],
    (95, 32): [48, 47],
    (5, 2): [3, 2],
    (3, 8): [3],
    (7, 1): [1] * 7,
    (9, 2): [3, 3, 3],
    (10, 3): [4, 4, 2],
}


@pytest.mark.parametrize(
    ("batch", "size", "rest", "axis", "mode"),
    [
        *[(*key, (3,), -1, MODES[-1]) for key in GHOSTS],
        *[(5, 2, *rest, mode) for rest in (((3, 4), 1), ((2, 2, 3), -1)) for mode in MODES],
    ],
)
def test_ghosts_are_normalised_alone_and_recorded_in_order(batch, size, rest, axis, mode):
    sizes = GHOSTS[batch, size]
    x = data((batch, *rest)) + np.linspace(0, 9, batch, dtype="float32").reshape(-1, *[1] * len(rest))
    gamma = keras.initializers.Constant([0.5, 1.0, 2.0])
    layer = BatchNormalization(axis, momentum=0.8, virtual_batch_size=size, gamma_initializer=gamma)
    y = trained_on(layer, x, mode)
    alone = [out(BatchNormalization(axis, gamma_initializer=gamma), part, training=True) for part in np.split(x, np.cumsum(sizes)[:-1])]
    np.testing.assert_allclose(y, np.concatenate(alone), atol=2e-5)
    np.testing.assert_allclose(statistics(layer), recursion(by_parts(x, sizes, axis)[2], 0.8), rtol=1e-5)


@pytest.mark.skipif(BACKEND != "torch", reason="asks PyTorch")
def test_ghosts_are_torchs_chunks():
    import torch

    for (batch, size), sizes in GHOSTS.items():
        assert [len(c) for c in torch.chunk(torch.zeros(batch), max(1, batch // size))] == sizes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_ghost_that_is_not_finite_does_not_count(bad, mode):
    x = data((12, 2))
    x[5, 1] = bad
    layer = BatchNormalization(momentum=0.8, virtual_batch_size=4)
    y = trained_on(layer, x, mode)
    moments = by_parts(np.where(np.isfinite(x), x, 0), [4, 4, 4])[2]
    wanted = recursion(moments, 0.8)
    wanted_without = recursion([moments[0], moments[2]], 0.8)
    np.testing.assert_allclose(np.array(statistics(layer))[:, 0], np.array(wanted)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.array(statistics(layer))[:, 1], np.array(wanted_without)[:, 1], rtol=1e-5)
    assert np.isfinite(y[[*range(4), *range(8, 12)]]).all()
    assert np.isfinite(y[:, 0]).all()


def test_ghosts_and_a_mask():
    x, mask = data((10, 5, 3)), np.random.default_rng(1).random((10, 5)) < 0.5
    mask[4:8] = False
    x[~mask] = 1e6
    layer = BatchNormalization(momentum=0.8, virtual_batch_size=3)
    y = out(layer, x, training=True, mask=ops.convert_to_tensor(mask))
    wanted, back, moments = by_parts(x, [4, 4, 2], keep=mask)
    np.testing.assert_allclose(y[mask], back(wanted)[mask], atol=2e-5)
    # The second ghost is masked as a whole.
    np.testing.assert_allclose(statistics(layer), recursion([moments[0], moments[2]], 0.8), rtol=1e-5)


def test_ghosts_leave_inference_as_it_is():
    ghosts, plain = BatchNormalization(virtual_batch_size=2), BatchNormalization()
    x = data((7, 3))
    for layer in (ghosts, plain):
        layer.build(x.shape)
        layer.set_weights(np.array([[0.5, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 1.0, 0.0], [4.0, 1.0, 9.0]]))
    np.testing.assert_array_equal(out(ghosts, x), out(plain, x))
    ghosts.trainable = False
    np.testing.assert_array_equal(out(ghosts, x, training=True), out(plain, x))


@pytest.mark.parametrize("mode", MODES[-1:])
@pytest.mark.parametrize(
    ("shape", "mask_shape", "axis"),
    [((6, 3, 5), (6, 3), 1), ((6, 3, 5), (1, 3), 1), ((6, 5, 3), (1, 5), -1), ((4, 3, 2, 5), (4, 3, 2), 1), ((4, 3, 2, 5), (4, 1, 2), 3)],
)
def test_a_mask_covers_the_last_axis_wherever_the_channels_are(shape, mask_shape, axis, mode):
    x = data(shape)
    mask = np.random.default_rng(3).random(mask_shape) < 0.6
    keep = np.broadcast_to(mask, shape[:-1])
    x[~keep] = 1e6
    layer = BatchNormalization(axis, momentum=0.0)
    y = trained_on(layer, x, mode, mask=ops.convert_to_tensor(mask))
    wanted, back, (moments,) = by_parts(x, axis=axis, keep=keep)
    seen = np.broadcast_to(keep[..., None], shape).any(tuple(i for i in range(len(shape)) if i != axis % len(shape)))
    # A channel that the mask covers keeps its first values.
    np.testing.assert_allclose(statistics(layer)[0], np.where(seen, moments[0], 0), rtol=1e-5)
    np.testing.assert_allclose(statistics(layer)[1], np.where(seen, moments[1], 1), rtol=1e-5)
    np.testing.assert_allclose(y[keep], back(wanted)[keep], atol=2e-5)


@pytest.mark.parametrize("dtype", HALF_UNIT)
def test_a_mask_with_half_precision_inputs(dtype):
    x, mask = ops.cast(data((8, 5, 2), mean=300.0), dtype), np.random.default_rng(1).random((8, 5)) < 0.5
    exact = ops.convert_to_numpy(ops.cast(x, "float32"))
    layer = BatchNormalization(momentum=0.0, dtype=f"mixed_{dtype}")
    y = layer(x, training=True, mask=ops.convert_to_tensor(mask))
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    mean, variance = batch_statistics(exact, keep=mask)
    np.testing.assert_allclose(statistics(layer), [mean, variance], rtol=1e-5)
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    # Rounded to the dtype once; at 300 a float32 mean is off by 1.5e-5.
    np.testing.assert_allclose(y[mask], normalised(exact, mean, variance)[mask], rtol=HALF_UNIT[dtype], atol=5e-5)


def test_a_batch_of_one_sample_has_the_statistics_of_its_positions():
    x = data((1, 6, 5, 3))
    layer = BatchNormalization(momentum=0.0)
    mean, variance = batch_statistics(x)
    np.testing.assert_allclose(out(layer, x, training=True), normalised(x, mean, variance), atol=2e-5)
    np.testing.assert_allclose(statistics(layer), [mean, variance], rtol=1e-5)


@pytest.mark.parametrize(
    ("symbolic", "shape", "arguments"),
    [
        ((None, None, 3), (4, 5, 3), {}),
        ((3, None, None), (3, 4, 5), {"axis": 1}),
        ((2, None, 3), (2, 4, 3), {"axis": (1, 3)}),
        ((None, 3), (4, 3), {"virtual_batch_size": 2}),
        ((None, None, 3), (4, 5, 3), {"debias": True}),
        ((3, None), (3, 7), {"axis": 1, "renorm": True}),
    ],
)
def test_sizes_may_be_unknown(symbolic, shape, arguments):
    inputs = keras.Input(symbolic)
    layer = BatchNormalization(**arguments)
    outputs = layer(inputs, training=True)
    assert outputs.shape == (None, *symbolic)
    model = keras.Model(inputs, outputs)
    for batch in (5, 2):
        x = data((batch, *shape), seed=batch)
        direct = BatchNormalization(**arguments)
        direct.build(x.shape)
        direct.set_weights(layer.get_weights())
        np.testing.assert_allclose(out(model, x), out(direct, x, training=True), atol=1e-6)
    assert layer.compute_output_shape((None, *symbolic)) == (None, *symbolic)


def test_a_variance_beyond_float32_keeps_the_moving_statistics():
    layer = BatchNormalization()
    # The mean of the first channel is 0, its variance 1e60.
    x = np.array([[1e30, 1.0], [-1e30, 3.0]], "float32")
    layer(x, training=True)
    mean, variance = (ops.convert_to_numpy(w) for w in (layer.moving_mean, layer.moving_variance))
    assert (mean[0], variance[0]) == (0, 1)
    np.testing.assert_allclose(mean[1], 0.02, rtol=1e-5)
    np.testing.assert_allclose(variance[1], 0.99 + 0.01, rtol=1e-5)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless asked before it starts")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shape", "axis"), [((64, 3), -1), ((4, 5, 6, 3), -1), ((4, 3, 5, 6), 1)])
def test_float64_is_not_rounded_to_float32(shape, axis, mode):
    x = np.random.default_rng(0).normal(1e5, 1, shape)
    layer = BatchNormalization(axis, momentum=0.0, dtype="float64")
    y = trained_on(layer, x, mode)
    assert y.dtype == statistics(layer)[0].dtype == np.float64
    mean, variance = batch_statistics(x, axis)
    # At 1e5 a float64 goes in steps of 1.5e-11.
    np.testing.assert_allclose(statistics(layer), [mean, variance], rtol=1e-9)
    np.testing.assert_allclose(y, normalised(x, mean, variance, axis=axis), atol=1e-9)
