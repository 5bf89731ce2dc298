import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_ext import initializers

pytestmark = pytest.mark.filterwarnings("ignore:.*was called again")

# Class: scale, mode and law, from the papers.
NAMED = {
    "GlorotUniform": (1.0, "fan_avg", "uniform"),
    "GlorotNormal": (1.0, "fan_avg", "truncated_normal"),
    "HeUniform": (2.0, "fan_in", "uniform"),
    "HeNormal": (2.0, "fan_in", "truncated_normal"),
    "LecunUniform": (1.0, "fan_in", "uniform"),
    "LecunNormal": (1.0, "fan_in", "truncated_normal"),
}
# Shape: fan-in, fan-out.
FANS = {(200, 300): (200, 300), (3, 5, 16, 64): (240, 960), (5, 40, 200): (200, 1000), (60000,): (60000, 60000)}


def law(distribution, variance):
    """The exact distribution of one weight."""
    if distribution == "uniform":
        limit = np.sqrt(3 * variance)
        return stats.uniform(-limit, 2 * limit)
    if distribution == "untruncated_normal":
        return stats.norm(0, np.sqrt(variance))
    cut = stats.truncnorm(-2, 2)
    return stats.truncnorm(-2, 2, scale=np.sqrt(variance) / cut.std())


def variance_of(scale, mode, shape):
    fan_in, fan_out = FANS[shape]
    return scale / {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def numbers(drawn):
    return ops.convert_to_numpy(ops.cast(drawn, "float32")).ravel().astype("float64")


def assert_follows(drawn, wanted):
    values = numbers(drawn)
    # The seed is fixed: a right law fails this by chance once in 1000 seeds, and then always.
    assert stats.kstest(values, wanted.cdf).pvalue > 1e-3
    # The float32 limit may be rounded up.
    assert np.abs(values).max() <= wanted.support()[1] * (1 + 1e-6)
    # 5 standard deviations of a sample variance; its own is at most sqrt(2 / n) of it for these laws.
    assert abs(values.var() / wanted.var() - 1) < 5 * np.sqrt(2 / values.size)


@pytest.mark.parametrize("shape", FANS)
@pytest.mark.parametrize("name", NAMED)
def test_named_initializers_follow_their_law(name, shape):
    scale, mode, distribution = NAMED[name]
    drawn = getattr(initializers, name)(seed=3)(shape)
    assert tuple(drawn.shape) == shape
    assert keras.backend.standardize_dtype(drawn.dtype) == "float32"
    assert_follows(drawn, law(distribution, variance_of(scale, mode, shape)))


@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
def test_every_mode_and_distribution_follows_its_law(mode, distribution):
    drawn = initializers.VarianceScaling(0.7, mode, distribution, seed=5)((150, 400))
    fan = {"fan_in": 150, "fan_out": 400, "fan_avg": 275}[mode]
    assert_follows(drawn, law(distribution, 0.7 / fan))


@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_have_the_same_law(dtype, distribution):
    drawn = initializers.VarianceScaling(1.0, "fan_in", distribution, seed=2)((400, 300), dtype=dtype)
    assert keras.backend.standardize_dtype(drawn.dtype) == dtype
    values = numbers(drawn)
    # Rounding changes the variance by 1e-5 of itself; the bound is chance's.
    assert abs(values.var() * 400 - 1) < 5 * np.sqrt(2 / values.size)
    assert abs(values.mean()) < 5 * np.sqrt(1 / 400 / values.size)
    wide = numbers(initializers.VarianceScaling(1.0, "fan_in", distribution, seed=2)((400, 300)))
    np.testing.assert_allclose(values, wide, rtol=2.0**-8, atol=1e-7)


def test_axes_name_the_fans():
    drawn = initializers.LecunNormal(seed=1, input_axes=[0], output_axes=[1, 2])((64, 8, 128))
    assert_follows(drawn, law("truncated_normal", 1 / 64))
    drawn = initializers.VarianceScaling(1.0, "fan_out", "uniform", seed=1, input_axes=[0], output_axes=[1, 2])((64, 8, 128))
    assert_follows(drawn, law("uniform", 1 / (8 * 128)))


@pytest.mark.parametrize("name", ["VarianceScaling", *NAMED])
def test_attention_heads_tell_their_axes(name):
    scale, mode, distribution = NAMED.get(name, (1.0, "fan_in", "truncated_normal"))
    dim, heads, size = 96, 8, 64
    layer = keras.layers.MultiHeadAttention(heads, size, kernel_initializer=getattr(initializers, name)(seed=1))
    layer.build((None, 5, dim), (None, 5, dim))
    for path, (fan_in, fan_out) in {"query": (dim, heads * size), "attention_output": (heads * size, dim)}.items():
        (kernel,) = (w for w in layer.weights if w.path.endswith(f"{path}/kernel"))
        assert_follows(kernel, law(distribution, scale / (fan_in if mode == "fan_in" else (fan_in + fan_out) / 2)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_small_shapes_count_one_input(shape):
    values = [numbers(initializers.HeUniform(seed=seed)(shape)) for seed in range(30)]
    assert np.shape(values) == (30, 1)
    assert np.abs(values).max() <= np.sqrt(6.0) * (1 + 1e-6)
    assert np.abs(values).max() > np.sqrt(6.0) / 2


@pytest.mark.parametrize("name", ["VarianceScaling", *NAMED])
def test_an_int_seed_repeats_and_a_generator_goes_on(name):
    build = getattr(initializers, name)
    first = numbers(build(seed=4)((20, 30)))
    instance = build(seed=4)
    np.testing.assert_array_equal(numbers(instance((20, 30))), first)
    np.testing.assert_array_equal(numbers(instance((20, 30))), first)
    assert (numbers(build(seed=5)((20, 30))) != first).mean() > 0.99
    going_on = build(seed=keras.random.SeedGenerator(4))
    assert (numbers(going_on((20, 30))) != numbers(going_on((20, 30)))).mean() > 0.99


def test_unseeded_instances_differ_and_follow_set_random_seed():
    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        draws.append([numbers(initializers.HeNormal()((20, 30))) for _ in range(2)])
    assert (draws[0][0] != draws[0][1]).mean() > 0.99
    np.testing.assert_array_equal(draws[0], draws[1])


def test_xavier_is_glorot():
    assert initializers.XavierNormal is initializers.GlorotNormal
    assert initializers.XavierUniform is initializers.GlorotUniform


@pytest.mark.parametrize("name", ["VarianceScaling", *NAMED])
def test_defaults_are_those_of_keras(name):
    ours, theirs = getattr(initializers, name)(), getattr(keras.initializers, name)()
    assert isinstance(ours, keras.initializers.VarianceScaling)
    for attribute in ("scale", "mode", "distribution", "input_axes", "output_axes"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)


@pytest.mark.parametrize("arguments", [{"scale": 0.0}, {"scale": -1.0}, {"mode": "fan"}, {"distribution": "normal2"}])
def test_wrong_arguments_are_refused_in_keras_words(arguments):
    with pytest.raises(ValueError) as theirs:
        keras.initializers.VarianceScaling(**arguments)
    with pytest.raises(ValueError) as ours:
        initializers.VarianceScaling(**arguments)
    assert str(ours.value) == str(theirs.value)
