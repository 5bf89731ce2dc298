import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import _backend
from keras_ext.layers import Dropout, _dropout_mask

MODES = {"eager": {"run_eagerly": True}, "graph": {"jit_compile": False}, "compiled": {"jit_compile": True}}
HALF_UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def out(layer, x, **arguments):
    return ops.convert_to_numpy(ops.cast(layer(x, **arguments), "float32"))


def ones(*shape):
    return np.ones(shape, "float32")


class InTraining(keras.Model):
    """`predict` as in training: a functional model would tell its layers that it predicts."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=True)


def dropped_by(layer, mode):
    """Predict a million ones with the layer in training."""
    model = InTraining(layer)
    model.compile(**MODES[mode])
    y = model.predict(ones(1000, 1000), batch_size=1000, verbose=0)
    assert y.dtype == layer.compute_dtype or keras.backend.backend() == "torch"
    return np.asarray(y, "float32")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_UNIT)
@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_the_asked_rate_is_dropped_and_the_mean_kept(rate, dtype, mode):
    if mode == "compiled" and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    y = dropped_by(Dropout(rate, seed=1, dtype=dtype), mode)
    n = y.size
    assert abs((y == 0).sum() - n * rate) <= 5 * np.sqrt(n * rate * (1 - rate))
    # A kept number is one value, 1 / (1 - rate), rounded to the dtype.
    assert abs(y.mean() - 1) <= 5 * np.sqrt(rate / (1 - rate) / n) + 2 * HALF_UNIT[dtype]
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=2 * HALF_UNIT[dtype])


@pytest.mark.needs_tensorflow
def test_keras_drops_at_another_rate_in_bfloat16():
    y = dropped_by(keras.layers.Dropout(0.001, seed=1, dtype="bfloat16"), "graph")
    assert (y == 0).mean() > 0.005


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_neighbours_are_dropped_independently(rate):
    zero = out(Dropout(rate, seed=3), ones(1000, 1000), training=True) == 0
    for pairs in (zero[:, 1:] & zero[:, :-1], zero[1:] & zero[:-1], zero[:, 4:] & zero[:, :-4]):
        # Overlapping pairs are correlated: their variance is at most three times the binomial one.
        assert abs(pairs.mean() - rate**2) <= 5 * np.sqrt(3 * rate**2 / pairs.size)


@pytest.mark.parametrize("noise_shape", [(None, 1, None), (40, 1, 50), [None, 1, 50]])
def test_noise_shape_shares_the_mask(noise_shape):
    zero = out(Dropout(0.5, noise_shape=noise_shape, seed=1), ones(40, 20, 50), training=True) == 0
    assert (zero == zero[:, :1]).all()
    assert abs(zero[:, 0].mean() - 0.5) <= 5 * 0.5 / np.sqrt(40 * 50)


def test_same_seed_gives_the_same_masks():
    first, second = Dropout(0.5, seed=7), Dropout(0.5, seed=7)
    for _ in range(2):
        np.testing.assert_array_equal(out(first, ones(100, 100), training=True), out(second, ones(100, 100), training=True))


@pytest.mark.parametrize("seeds", [(7, 8), (None, None)])
def test_other_seeds_and_unseeded_layers_give_other_masks(seeds):
    first, second = (out(Dropout(0.5, seed=seed), ones(100, 100), training=True) for seed in seeds)
    # Two independent masks differ in half of the places.
    assert abs((first != second).mean() - 0.5) < 5 * 0.5 / 100


def test_two_calls_give_other_masks():
    layer = Dropout(0.5, seed=7)
    first, second = (out(layer, ones(100, 100), training=True) for _ in range(2))
    assert abs((first != second).mean() - 0.5) < 5 * 0.5 / 100


def test_set_random_seed_makes_unseeded_layers_repeat():
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        results.append(out(Dropout(0.5), ones(100, 100), training=True))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True), (1.0, False)])
def test_input_passes_through_at_inference_and_at_rate_zero(rate, training):
    x = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")
    np.testing.assert_array_equal(out(Dropout(rate), x, training=training), x)
    if not training:
        np.testing.assert_array_equal(out(Dropout(rate), x), x)


def test_rate_one_gives_zeros():
    np.testing.assert_array_equal(out(Dropout(1.0), ones(20, 30), training=True), np.zeros((20, 30)))


def test_gradient_flows_exactly_where_the_input_is_kept(differentiate):
    rng = np.random.default_rng(0)
    x, weight = (rng.uniform(1, 2, (50, 40)).astype("float32") for _ in range(2))
    y, (gradient,) = differentiate(Dropout(0.3, seed=1), x, weight)
    assert 0 < (y == 0).sum() < y.size
    np.testing.assert_allclose(gradient, np.where(y != 0, weight / 0.7, 0), rtol=1e-6)


def test_a_mask_goes_on():
    inputs = keras.Input((5, 2))
    masked = keras.layers.Masking()(inputs)
    assert keras.src.backend.get_keras_mask(Dropout(0.5)(masked)) is not None


RATE = (
    "Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received: rate={}. "
    "It is the share of the inputs to drop: .5 drops every second one."
)
SHAPE = "Invalid value received for argument `noise_shape`. "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 1.5}, RATE.format("1.5")),
        ({"rate": -0.1}, RATE.format("-0.1")),
        ({"rate": float("nan")}, RATE.format("nan")),
        ({"rate": "0.5"}, RATE.format("'0.5'")),
        ({"rate": True}, RATE.format("True")),
        ({"rate": None}, RATE.format("None")),
        ({"noise_shape": "ab"}, SHAPE + "Expected a tuple or list of integers. Received: noise_shape=ab"),
        ({"noise_shape": 3}, SHAPE + "Expected an iterable of integers (e.g., a tuple or list). Received: noise_shape=3"),
        (
            {"noise_shape": (None, 1.5)},
            SHAPE + "Expected all elements to be integers or None. Received element at index 1: 1.5 (type: float)",
        ),
        (
            {"noise_shape": (True, 1)},
            SHAPE + "Expected all elements to be integers or None. Received element at index 0: True (type: bool)",
        ),
        (
            {"noise_shape": (0, 1)},
            SHAPE + "Expected all dimensions to be positive integers or None. Received negative or zero value at index 0: 0",
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError) as caught:
        Dropout(**{"rate": 0.5, **arguments})
    assert str(caught.value) == message


def test_a_shorter_noise_shape_is_shared_over_the_first_axes():
    y = keras.ops.convert_to_numpy(Dropout(0.5, noise_shape=(None, 4), seed=1)(ones(5, 3, 4), training=True))
    assert (y == y[:1]).all()
    assert 0 < (y[0] == 0).sum() < 12


def test_a_longer_noise_shape_is_refused():
    with pytest.raises(ValueError) as caught:
        Dropout(0.5, noise_shape=(None, 1, 1, 1))(ones(2, 3, 4), training=True)
    assert (
        "`noise_shape` must have at most one entry for each of the input's 3 axes, got (None, 1, 1, 1). "
        "Use None where the mask takes the input's size, and 1 where it is shared."
    ) in str(caught.value)


RATES = [0.001, 0.01, 0.03125, 0.1, 0.3, 0.5, 0.9, 0.999]


def dropped(layer, *shape):
    return out(layer, ones(*shape), training=True) == 0


def spread(rate, n):
    """Standard deviation of the number of dropped elements: binomial, and what rows of 256 with a common threshold add."""
    steps = 256 if 1 / 32 <= rate <= 31 / 32 else 65536
    part = rate * steps % 1
    return np.sqrt(n * rate * (1 - rate) + n * 255 * part * (1 - part) / steps**2)


def assert_independent(first, second):
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) <= 5 / np.sqrt(first.size)


@pytest.mark.parametrize("dtype", HALF_UNIT)
@pytest.mark.parametrize("rate", RATES)
def test_of_four_million_the_asked_rate_is_dropped_and_the_mean_kept(rate, dtype):
    y = out(Dropout(rate, seed=1, dtype=dtype), ones(2000, 2000), training=True)
    n, kept = y.size, y[y != 0]
    assert abs(n - kept.size - n * rate) <= 5 * spread(rate, n)
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=HALF_UNIT[dtype] + 2.0**-24)
    assert abs(kept.size * np.float64(kept[0]) / n - 1) <= (5 * spread(rate, n) / n / (1 - rate) + HALF_UNIT[dtype]) * 1.01


@pytest.mark.parametrize("rate", [0.001, 0.3])
def test_an_element_is_dropped_at_the_rate_over_many_calls(rate):
    layer, calls = Dropout(rate, seed=1), 300
    total = sum(dropped(layer, 300).astype(int) for _ in range(calls))
    assert total.max() <= calls * rate + 6 * np.sqrt(calls * rate)
    assert total.min() >= calls * rate - 5 * np.sqrt(calls * rate)
    assert abs(total.sum() - total.size * calls * rate) <= 5 * spread(rate, total.size * calls)


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5, 0.98])
def test_elements_apart_are_dropped_independently(rate):
    zero = dropped(Dropout(rate, seed=5), 1_000_000)
    for apart in (1, 2, 3, 4, 7, 8, 16, 128, 255, 256, 257, 512, 1000):
        assert_independent(zero[apart:], zero[:-apart])


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_calls_layers_seeds_and_streams_are_independent(rate):
    layer = Dropout(rate, seed=5)
    others = [Dropout(rate, seed=6), Dropout(rate, seed=5, stream=1), Dropout(rate, seed=5, stream=2), Dropout(rate), Dropout(rate)]
    zeros = [dropped(each, 1000, 1000) for each in (layer, layer, layer, *others)]
    for i, zero in enumerate(zeros):
        for other in zeros[:i]:
            assert_independent(zero, other)


def test_the_bytes_of_an_element_and_of_its_rows_threshold_are_independent_and_uniform():
    seed = keras.random.SeedGenerator(3).next()
    seeds = [seed, *(_dropout_mask._apart(seed, number) for number in (1, 2))]
    drawn = [ops.convert_to_numpy(_backend.random_bytes(1_000_000, each)) for each in seeds]
    for i, one in enumerate(drawn):
        counts = np.bincount(one, minlength=256)
        assert counts.size == 256
        # Chi-squared of 255 degrees of freedom.
        assert abs(((counts - one.size / 256) ** 2).sum() / (one.size / 256) - 255) <= 5 * np.sqrt(2 * 255)
        for other in drawn[:i]:
            assert_independent(one, other)
            assert abs((one == other).mean() - 1 / 256) <= 5 / np.sqrt(256 * one.size)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the other backends draw otherwise")
@pytest.mark.parametrize("in_xla", [False, True])
def test_on_a_cpu_tensorflow_draws_the_published_numbers_of_splitmix64(in_xla):
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        pytest.skip("a GPU has another generator")
    published = np.array([0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC], "<u8")
    draw = tf.function(_backend.random_bytes, jit_compile=in_xla)
    assert draw(29, tf.constant([0, 0], "int64")).numpy().tobytes() == published.tobytes()[:29]


@pytest.mark.parametrize("rate", [0.001, 0.0039, 1 / 32, 0.1, 0.3, 0.5, 2 / 3, 31 / 32, 0.99, 0.999])
def test_of_all_bytes_that_can_be_drawn_the_rates_share_drops_to_24_bits(rate, monkeypatch):
    """Each element meets each of its last bytes once beside each of the two bytes of a threshold; 2^24 elements."""
    steps, two = rate * 256, not 1 / 32 <= rate <= 31 / 32
    own, pairs = np.tile(np.arange(256), 65536), np.arange(65536)
    # With two bytes the first one decides alone but where it is the whole part of the steps.
    first = np.full(own.size, int(steps))
    draws = iter([first, own, np.concatenate([pairs >> 8, pairs & 255])] if two else [own, np.concatenate([pairs >> 8, pairs & 255])])
    monkeypatch.setattr(_backend, "random_bytes", lambda count, seed: ops.convert_to_tensor(next(draws).astype("uint8")[:count]))
    seed = keras.random.SeedGenerator(1).next()
    keep = ops.convert_to_numpy(_dropout_mask.keep_mask((own.size,), rate, seed, _dropout_mask.needs_two_bytes(rate)))
    share = (int(steps) + (~keep).mean()) / 256 if two else (~keep).mean()
    # Two bytes of a threshold: one part in 2^16 of a step, which is 2^-8, or 2^-16 with two bytes.
    assert abs(share - rate) <= (2.0**-32 if two else 2.0**-24)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_no_two_draws_of_a_mask_have_one_seed(rate, monkeypatch):
    seeds, draw = [], _backend.random_bytes
    monkeypatch.setattr(_backend, "random_bytes", lambda count, seed: (seeds.append(seed), draw(count, seed))[1])
    layers = [Dropout(rate, seed=1), Dropout(rate, seed=1, stream=1)]
    for _ in range(20):
        for layer in layers:
            layer(ones(300), training=True)
    drawn = [tuple(int(v) for v in ops.convert_to_numpy(seed)) for seed in seeds]
    assert len(set(drawn)) == len(drawn) == 40 * (3 if rate < 1 / 32 else 2)


@pytest.mark.parametrize("rate", [4.5 / 256, 8.5 / 256, 0.1, 247.5 / 256, 251.5 / 256])
def test_a_common_threshold_adds_3_percent_to_the_variance_of_a_share_at_most(rate):
    zero = dropped(Dropout(rate, seed=2), 4000, 4096).reshape(-1, 256)
    ratio = zero.sum(1).var() / (256 * rate * (1 - rate))
    # A variance of n numbers is off by sqrt(2 / n), and a little more for counts of few events.
    assert abs(ratio - 1) <= (0.03 if 1 / 32 <= rate <= 31 / 32 else 0.0) + 5 * np.sqrt((2 + 1 / (256 * rate * (1 - rate))) / len(zero))


@pytest.mark.parametrize(("start", "rate"), [(0.5, 0.99), (0.01, 0.999), (0.5, 0.001), (0.0, 0.3)])
def test_a_rate_far_from_the_traced_one_drops_its_share_and_keeps_the_mean(start, rate):
    layer = Dropout(start, seed=1)
    model = InTraining(layer)
    model.compile()
    x = ones(1000, 2000)
    model.predict(x, batch_size=1000, verbose=0)
    layer.rate = rate
    y = np.asarray(model.predict(x, batch_size=1000, verbose=0))
    # What was traced with one byte an element keeps one: rows of 256 share a threshold in steps of 1 / 256.
    part = rate * 256 % 1
    stddev = np.sqrt(y.size * rate * (1 - rate) + y.size * 255 * part * (1 - part) / 256**2)
    assert abs((y == 0).sum() - y.size * rate) <= 5 * stddev
    assert abs(y.mean(dtype="float64") - 1) <= 5 * stddev / y.size / (1 - rate) + 2.0**-22


def test_seeds_next_to_each_other_never_repeat_a_mask():
    layers = [Dropout(0.5, seed=seed) for seed in (1, 2)] + [Dropout(0.5, seed=1, stream=1)]
    assert len({dropped(layer, 128).tobytes() for layer in layers for _ in range(50)}) == 150


@pytest.mark.parametrize("rate", [0.01, 0.5])
@pytest.mark.parametrize("mode", ["graph", "compiled"])
def test_the_mask_of_a_seed_is_the_same_compiled_or_not(mode, rate):
    if mode == "compiled" and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    eager, other = (dropped_by(Dropout(rate, seed=4), each) for each in ("eager", mode))
    np.testing.assert_array_equal(eager == 0, other == 0)
    np.testing.assert_allclose(eager, other, rtol=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.5])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (255,), (256,), (257,), (3, 5, 7, 11), (1000, 3)])
def test_any_size_has_one_mask_element_each(shape, rate):
    layer = Dropout(rate, seed=2)
    zeros = [dropped(layer, *shape) for _ in range(20)]
    assert zeros[0].shape == shape
    n = 20 * zeros[0].size
    # The rarest shares are Poisson, with a longer tail.
    assert abs(sum(int(zero.sum()) for zero in zeros) - n * rate) <= 5 * spread(rate, n) + 1


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 2)])
def test_an_empty_batch_stays_empty(shape, rate):
    x = ones(*shape)
    assert out(keras.layers.Dropout(rate), x, training=True).shape == shape
    assert out(Dropout(rate), x, training=True).shape == shape


@pytest.mark.parametrize("mode", MODES)
def test_the_last_batch_of_an_epoch_may_be_smaller(mode):
    if mode == "compiled" and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    model = InTraining(Dropout(0.3, seed=1))
    model.compile("sgd", "mse", **MODES[mode])
    zero = np.asarray(model.predict(ones(10, 5001), batch_size=4, verbose=0)) == 0
    assert zero.shape == (10, 5001)
    for rows in (zero[:4], zero[4:8], zero[8:]):
        assert abs(rows.sum() - rows.size * 0.3) <= 5 * spread(0.3, rows.size)
    # No mask is a part of another.
    assert_independent(zero[8:], zero[:2])
    inputs = keras.Input((50,))
    model = keras.Model(inputs, keras.layers.Dense(1)(Dropout(0.3, seed=1)(inputs)))
    model.compile("sgd", "mse", **MODES[mode])
    assert np.isfinite(model.fit(ones(10, 50), ones(10, 1), batch_size=4, epochs=2, verbose=0).history["loss"]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", HALF_UNIT)
def test_dropped_nan_and_inf_are_zero_and_kept_ones_stay(dtype, mode):
    if mode == "compiled" and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    x = np.tile(np.array([np.nan, np.inf, -np.inf, 1], "float32"), (50, 25))
    results = []
    for inputs in (ones(50, 100), x):
        model = InTraining(Dropout(0.5, seed=1, dtype=dtype))
        model.compile(**MODES[mode])
        results.append(np.asarray(model.predict(inputs, batch_size=50, verbose=0), "float32"))
    mask = results[0] != 0
    assert 0 < mask[:, 0].sum() < 50
    np.testing.assert_array_equal(results[1], np.where(mask, x * 2, 0))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_gradient_in_other_dtypes_is_the_scale_where_kept(differentiate, dtype):
    x = ops.convert_to_numpy(ops.cast(ones(50, 40), "float32"))
    inside = keras.Sequential([keras.layers.Rescaling(1, dtype=dtype), Dropout(0.3, seed=1, dtype=dtype)])
    inside.build(x.shape)
    y, (gradient,) = differentiate(inside, x, ones(50, 40))
    y = np.asarray(y, "float32")
    assert 0 < (y == 0).sum() < y.size
    np.testing.assert_allclose(gradient, np.where(y != 0, 1 / 0.7, 0), rtol=2 * HALF_UNIT.get(dtype, 2.0**-24))


def test_gradient_flows_where_a_shared_mask_keeps(differentiate):
    weight = np.random.default_rng(0).uniform(1, 2, (10, 6, 8)).astype("float32")
    y, (gradient,) = differentiate(Dropout(0.5, noise_shape=(None, 1, None), seed=1), ones(10, 6, 8), weight)
    assert 0 < (y == 0).sum() < y.size
    np.testing.assert_allclose(gradient, np.where(y != 0, weight * 2, 0), rtol=1e-6)


def test_gradient_of_what_is_dropped_is_zero_whatever_comes_back(differentiate):
    y, (gradient,) = differentiate(Dropout(0.5, seed=1), ones(50, 40), np.full((50, 40), np.nan, "float32"))
    np.testing.assert_array_equal(gradient, np.where(y != 0, np.nan, 0))


def test_second_gradient_is_twice_the_square_of_the_scale_where_kept(differentiate_twice):
    layer, x, kept = Dropout(0.3, seed=1), np.random.default_rng(0).uniform(1, 2, (50, 40)).astype("float32"), []

    def loss(x):
        kept.append(layer(x, training=True))
        return ops.sum(kept[0] * kept[0])

    _, second = differentiate_twice(loss, x, np.ones_like(x))
    mask = ~dropped(Dropout(0.3, seed=1), 50, 40)
    if keras.backend.backend() != "jax":  # where it is a trace
        np.testing.assert_array_equal(ops.convert_to_numpy(kept[0]) != 0, mask)
    np.testing.assert_allclose(second, np.where(mask, 2 / 0.7**2, 0), rtol=1e-6)


class DroppedShare(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.traces = 0

    def call(self, x):
        self.traces += 1
        return ops.mean(ops.cast(x == 0, "float32"), axis=1, keepdims=True)


class Assign(keras.callbacks.Callback):
    """Assign a rate at the third of six batches in two epochs, or between the two epochs; keep what each batch dropped."""

    def __init__(self, layer, share, rate, moment, read_model):
        super().__init__()
        self.layer, self.share, self.rate, self.moment, self.read_model = layer, share, rate, moment, read_model
        self.sums, self.traces, self.rates, self.said = [], [], [], []

    def act(self, moment):
        if moment == self.moment:
            if self.read_model:
                self.model
            self.layer.rate = self.rate

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.act(f"begin of epoch {epoch}")

    def on_epoch_end(self, epoch, logs=None):
        self.act(f"end of epoch {epoch}")
        self.rates.append(self.layer.rate)

    def on_train_batch_begin(self, batch, logs=None):
        self.act(f"begin of batch {3 * self.epoch + batch}")
        self.said.append(self.layer.rate)

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(float(logs["loss"]) * (batch + 1))
        self.traces.append(self.share.traces)
        self.act(f"end of batch {3 * self.epoch + batch}")

    @property
    def shares(self):
        return np.concatenate([np.diff(self.sums[:3], prepend=0), np.diff(self.sums[3:], prepend=0)])


def trained(start, rate, moment, read_model=True, mode="graph"):
    layer, share = Dropout(start, seed=1), DroppedShare()
    assert layer.weights == layer.get_weights() == []
    model = keras.Sequential([keras.Input((5000,)), layer, share])
    model.compile("sgd", lambda _, y: ops.mean(y), **MODES["compiled" if keras.backend.backend() == "jax" else mode])
    callback = Assign(layer, share, rate, moment, read_model)
    model.fit(ones(24, 5000), ones(24, 1), batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[callback])
    assert layer.weights == layer.get_weights() == model.get_weights() == []
    assert layer.get_config()["rate"] == layer.rate
    return layer, callback


def assert_shares(callback, start, rate, first):
    wanted = np.where(np.arange(6) < first, start, rate)
    assert (abs(callback.shares - wanted) <= [5 * spread(r, 40_000) / 40_000 + 1e-5 for r in wanted]).all()


ignore_no_weights = pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")


@ignore_no_weights
@pytest.mark.parametrize("mode", ["graph", pytest.param("compiled", marks=pytest.mark.needs_tensorflow)])
@pytest.mark.parametrize(("start", "rate"), [(0.5, 0.2), (0.0, 0.5), (0.5, 0.0), (0.5, 0.004), (0.01, 0.5), (0.5, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize(("moment", "first"), [("end of batch 1", 2), ("begin of epoch 1", 3)])
def test_an_assigned_rate_acts_in_training_without_a_new_trace(start, rate, moment, first, mode):
    layer, callback = trained(start, rate, moment, mode=mode)
    assert_shares(callback, start, rate, first)
    assert layer.rate == rate
    if keras.backend.backend() != "torch":
        assert callback.traces == callback.traces[:1] * 6


@ignore_no_weights
@pytest.mark.parametrize(("moment", "first"), [("begin of batch 2", 2), ("end of epoch 0", 3)])
def test_an_assigned_rate_acts_from_the_next_batch(moment, first):
    layer, callback = trained(0.5, 0.2, moment)
    assert_shares(callback, 0.5, 0.2, first)
    assert layer.rate == 0.2


@ignore_no_weights
@pytest.mark.parametrize("moment", ["begin of batch 1", "end of batch 1", "begin of epoch 1", "end of epoch 0"])
def test_a_callback_need_not_read_the_model_but_inside_an_epoch_of_jax(moment):
    layer, callback = trained(0.5, 0.2, moment, read_model=False)
    lost = "batch" in moment and keras.backend.backend() == "jax"
    first = {"begin of batch 1": 1, "end of batch 1": 2}.get(moment, 3)
    assert_shares(callback, 0.5, 0.2, 6 if lost else first)
    assert layer.rate == (0.5 if lost else 0.2)
    assert callback.rates == ([0.5, 0.5] if lost else [0.5 if moment == "begin of epoch 1" else 0.2, 0.2])


@ignore_no_weights
@pytest.mark.parametrize("read_model", [True, False])
@pytest.mark.parametrize("moment", ["begin of batch 1", "end of batch 1", "begin of epoch 1"])
def test_the_rate_that_is_said_before_a_batch_is_the_one_that_acts_in_it(moment, read_model):
    if "batch" in moment and not read_model and keras.backend.backend() == "jax":
        pytest.skip("an assignment that JAX will lose is seen as lost at the epoch's end")
    _, callback = trained(0.5, 0.2, moment, read_model=read_model)
    assert (abs(callback.shares - callback.said) <= 5 * spread(0.5, 40_000) / 40_000).all()


@ignore_no_weights
def test_an_assignment_that_is_lost_on_jax_is_lost_in_a_new_trace_too():
    layer, share = Dropout(0.5, seed=1), DroppedShare()
    model = keras.Sequential([keras.Input((5000,)), layer, share])
    model.compile("sgd", lambda _, y: ops.mean(y))
    callback = Assign(layer, share, 1.0, "end of batch 0", read_model=False)
    # The last batch has another shape.
    model.fit(ones(20, 5000), ones(20, 1), batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    lost = keras.backend.backend() == "jax"
    assert layer.rate == (0.5 if lost else 1)
    mean = 0.5 if lost else (8 * 0.5 + 12) / 20
    assert abs(callback.sums[2] / 3 - mean) <= 5 * spread(0.5, 100_000) / 100_000


@pytest.mark.parametrize("bad", [1.5, -0.1, float("nan"), "x", True, None])
def test_a_bad_assignment_is_refused_and_leaves_the_rate(bad):
    layer = Dropout(0.25, seed=1)
    with pytest.raises(ValueError) as caught:
        layer.rate = bad
    assert str(caught.value) == RATE.format(repr(bad))
    assert layer.rate == layer.get_config()["rate"] == 0.25
    assert abs(dropped(layer, 1000, 1000).mean() - 0.25) <= 5 * spread(0.25, 1e6) / 1e6


@pytest.mark.parametrize("rate", [0.2, 0, 1, np.float32(0.3), 0.001])
def test_an_assigned_rate_acts_on_the_next_call_and_is_the_rate_of_the_config(rate):
    layer = Dropout(0.7, seed=1)
    assert abs(dropped(layer, 1000, 1000).mean() - 0.7) <= 5 * spread(0.7, 1e6) / 1e6
    layer.rate = rate
    assert layer.rate == layer.get_config()["rate"] == rate
    assert abs(dropped(layer, 1000, 1000).mean() - rate) <= 5 * spread(float(rate), 1e6) / 1e6
    assert layer.weights == layer.get_weights() == []


def network(layer):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="a"), layer, keras.layers.Dense(1, name="b")], name="net")
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
@pytest.mark.parametrize(("giver", "taker"), [(keras.layers.Dropout, Dropout), (Dropout, keras.layers.Dropout), (Dropout, Dropout)])
def test_files_of_keras_layer_load_and_ours_load_into_keras(giver, taker, suffix, tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    given, taken = (network(kind(0.5, seed=seed, name="d")) for kind, seed in ((giver, 1), (taker, 2)))
    for model in (given, taken):
        if isinstance(model.layers[1], Dropout):
            model.layers[1].rate = 0.25
        model.fit(x, x[:, :1], verbose=0)
    assert abs(given.predict(x, verbose=0) - taken.predict(x, verbose=0)).max() > 1e-3
    path = tmp_path / f"m.{suffix}"
    (given.save if suffix == "keras" else given.save_weights)(path)
    taken.load_weights(path)
    np.testing.assert_allclose(taken.predict(x, verbose=0), given.predict(x, verbose=0), rtol=1e-6, atol=1e-6)
    assert taken.layers[1].rate == (0.25 if taker is Dropout else 0.5)


def test_a_model_saved_after_the_rate_changed_has_the_changed_rate(tmp_path):
    model = network(Dropout(0.5, seed=1, name="d"))
    model.fit(ones(8, 6), ones(8, 1), verbose=0)
    model.layers[1].rate = 0.125
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.layers[1].rate == 0.125
    np.testing.assert_array_equal(again.predict(ones(8, 6), verbose=0), model.predict(ones(8, 6), verbose=0))
    assert abs(dropped(again.layers[1], 1000, 1000).mean() - 0.125) <= 5 * spread(0.125, 1e6) / 1e6


def in_a_row(kind, **arguments):
    return keras.Sequential([keras.Input((1000,)), kind(0.5, seed=1, **arguments), kind(0.5, seed=1, **arguments)])


def in_parallel(kind, **arguments):
    inputs = keras.Input((1000,))
    return keras.Model(inputs, [kind(0.5, seed=1, **arguments)(inputs) for _ in range(3)])


def masks_of(model, calls=2):
    return [
        np.array([ops.convert_to_numpy(y) != 0 for y in keras.tree.flatten(model(ones(40, 1000), training=True))]) for _ in range(calls)
    ]


def test_layers_of_one_seed_drop_independently_in_a_sequential_model_and_keras_layers_together():
    for mask in masks_of(in_a_row(Dropout)):
        assert abs(mask.mean() - 0.25) <= 5 * spread(0.25, 40_000) / 40_000
    for mask in masks_of(in_a_row(keras.layers.Dropout)):
        assert abs(mask.mean() - 0.5) <= 5 * spread(0.5, 40_000) / 40_000
    built_late = keras.Sequential([Dropout(0.5, seed=1), Dropout(0.5, seed=1)])
    for mask in masks_of(built_late):
        assert abs(mask.mean() - 0.25) <= 5 * spread(0.25, 40_000) / 40_000


def test_layers_of_one_seed_drop_independently_in_parallel_branches_and_keras_layers_together():
    for mask in masks_of(in_parallel(Dropout)):
        for i in range(3):
            for j in range(i):
                assert_independent(mask[i], mask[j])
    for mask in masks_of(in_parallel(keras.layers.Dropout)):
        assert (mask == mask[0]).all()


@pytest.mark.parametrize("kind", [Dropout, keras.layers.Dropout])
def test_layers_of_one_seed_draw_alike_behind_two_inputs_and_in_models_inside_a_model_as_keras_layers_do(kind):
    inputs = [keras.Input((1000,)) for _ in range(2)]
    model = keras.Model(inputs, [kind(0.5, seed=1)(each) for each in inputs])
    np.testing.assert_array_equal(*(ops.convert_to_numpy(y) == 0 for y in model([ones(40, 1000)] * 2, training=True)))
    inside = [keras.Sequential([keras.Input((1000,)), kind(0.5, seed=1)]) for _ in range(2)]
    for mask in masks_of(keras.Sequential([keras.Input((1000,)), *inside])):
        assert abs(mask.mean() - 0.5) <= 5 * spread(0.5, 40_000) / 40_000


def test_layers_of_one_seed_draw_alike_in_a_subclassed_model_as_keras_layers_do():
    class Two(keras.Model):
        def __init__(self, kind):
            super().__init__()
            self.parts = [kind(0.5, seed=1), kind(0.5, seed=1)]

        def call(self, x, training=False):
            return [part(x, training=training) for part in self.parts]

    for kind in (Dropout, keras.layers.Dropout):
        for first, second in masks_of(Two(kind)):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("model", [in_a_row, in_parallel])
def test_a_model_built_or_loaded_or_cloned_again_draws_the_same_masks(model, tmp_path):
    first, second = (model(Dropout) for _ in range(2))
    first.save(tmp_path / "m.keras")
    loaded = [keras.models.load_model(tmp_path / "m.keras") for _ in range(2)]
    again = [*loaded, keras.models.clone_model(first)]
    streams = [[layer.stream for layer in each.layers if isinstance(layer, Dropout)] for each in (first, second, *again)]
    assert streams == [list(range(len(streams[0])))] * 5
    wanted = masks_of(first)
    for each in (second, *again):
        for mine, theirs in zip(masks_of(each), wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert (wanted[0] != wanted[1]).any()


def test_the_stream_is_an_argument_that_a_model_leaves_alone():
    inputs = keras.Input((10,))
    layers = [Dropout(0.5, seed=1, stream=7), Dropout(0.5, seed=1), Dropout(0.5, seed=2), Dropout(0.5), Dropout(0.5, seed=1)]
    for layer in layers:
        layer(inputs)
        layer(inputs)
    assert [layer.stream for layer in layers] == [7, 0, 0, None, 1]
    assert [Dropout.from_config(layer.get_config()).stream for layer in layers] == [7, 0, 0, None, 1]
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError) as caught:
            Dropout(0.5, stream=bad)
        assert str(caught.value) == f"`stream` must be a whole number of at least 0, got {bad!r}."


def test_set_random_seed_makes_a_model_of_unseeded_layers_repeat():
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((1000,))
        results.append(masks_of(keras.Model(inputs, [Dropout(0.5)(inputs) for _ in range(2)])))
    np.testing.assert_array_equal(*results)
    for first, second in results[0]:
        assert_independent(first, second)


def predicted(layer):
    inputs = keras.Input((1000,))
    model = keras.Model(inputs, layer(inputs))
    model.compile()
    return [model.predict(ones(40, 1000), batch_size=20, verbose=0) for _ in range(2)]


def test_monte_carlo_drops_in_predict_anew_each_time():
    first, second = predicted(Dropout(0.3, seed=1, monte_carlo=True))
    assert abs((first == 0).sum() - 40_000 * 0.3) <= 5 * spread(0.3, 40_000)
    assert_independent(first, second)
    assert_independent(first[:20], first[20:])
    for plain in predicted(Dropout(0.3, seed=1)):
        np.testing.assert_array_equal(plain, ones(40, 1000))


def test_monte_carlo_drops_the_same_in_training_and_is_kept_in_the_config():
    layer = Dropout.from_config(Dropout(0.3, seed=1, monte_carlo=True).get_config())
    assert layer.monte_carlo is True
    np.testing.assert_array_equal(out(layer, ones(40, 100), training=False) == 0, dropped(Dropout(0.3, seed=1), 40, 100))
    assert Dropout.from_config(Dropout(0.3).get_config()).monte_carlo is False


@pytest.mark.parametrize("monte_carlo", [False, True])
def test_rates_zero_and_one_in_a_model(monte_carlo):
    for rate, wanted in ((0, 1), (1, 0), (0.0, 1), (1.0, 0)):
        layer = Dropout(rate, monte_carlo=monte_carlo)
        for y in predicted(layer):
            np.testing.assert_array_equal(y, np.full((40, 1000), wanted if monte_carlo else 1, "float32"))
        np.testing.assert_array_equal(out(layer, ones(20, 30), training=True), np.full((20, 30), wanted, "float32"))


def test_rate_one_gives_zeros_for_nan():
    np.testing.assert_array_equal(out(Dropout(1.0), np.full((1000, 2000), np.nan, "float32"), training=True), np.zeros((1000, 2000)))


def test_a_rate_raised_to_one_after_the_trace_gives_zeros_for_nan():
    layer = Dropout(0.5, seed=1)
    model = InTraining(layer)
    model.compile()
    model.predict(ones(40, 1000), batch_size=40, verbose=0)
    layer.rate = 1.0
    y = model.predict(np.full((40, 1000), np.nan, "float32"), batch_size=40, verbose=0)
    np.testing.assert_array_equal(y, np.zeros((40, 1000)))


def test_a_bad_monte_carlo_is_refused():
    with pytest.raises(ValueError) as caught:
        Dropout(0.5, monte_carlo=1)
    assert str(caught.value) == "`monte_carlo` must be True or False, got 1."


@pytest.mark.parametrize(
    ("shape", "sizes"), [((None, 4), (None, 3, 4)), ((None, 1, 1), (None, None, 4)), ((1, None, None), (2, None, None))]
)
def test_noise_shape_fits_symbolic_inputs(shape, sizes):
    y = Dropout(0.5, noise_shape=shape)(keras.Input(batch_shape=sizes))
    assert tuple(y.shape) == sizes


MISFIT = (
    "`noise_shape` must have 1, None or the input's size on each axis, got {} for an input of shape {}: {} does not fit {} on axis {}. "
    "Use None there, or 1 to share the mask."
)
TOO_LONG = (
    "`noise_shape` must have at most one entry for each of the input's {} axes, got {}. "
    "Use None where the mask takes the input's size, and 1 where it is shared."
)


MISFITS = pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, 2, 1), MISFIT.format("(None, 2, 1)", "({}, 3, 4)", 2, 3, 1)),
        ((5,), MISFIT.format("(5,)", "({}, 3, 4)", 5, 4, 2)),
        ((None, 1, 1, 1), TOO_LONG.format(3, "(None, 1, 1, 1)")),
    ],
)


@MISFITS
def test_a_noise_shape_that_does_not_fit_is_refused_when_the_model_is_put_together(shape, message):
    with pytest.raises(ValueError) as caught:
        Dropout(0.5, noise_shape=shape)(keras.Input((3, 4)))
    assert message.format(None) in str(caught.value)


@MISFITS
@pytest.mark.parametrize("training", [False, True])
def test_a_noise_shape_that_does_not_fit_is_refused_when_called(shape, message, training):
    with pytest.raises(ValueError) as caught:
        Dropout(0.5, noise_shape=shape)(ones(2, 3, 4), training=training)
    assert message.format(2) in str(caught.value)


@pytest.mark.parametrize("shape", [(None, 1, 8), (7, 1, 1), (1,), (8,), (1, None, 1), (None, None, None)])
def test_a_mask_is_equal_along_shared_axes_and_free_along_the_others(shape):
    zero = dropped(Dropout(0.5, noise_shape=shape, seed=1), 7, 9, 8)
    wanted = (1,) * (3 - len(shape)) + shape
    for axis, size in enumerate(wanted):
        assert (zero == zero.take([0], axis)).all() == (size == 1)


@pytest.mark.parametrize(("policy", "dtype"), [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16"), ("float64", "float64")])
def test_output_has_the_policys_compute_dtype(policy, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless asked before it starts")
    for arguments in ({"training": True}, {"training": False}):
        for rate in (0.0, 0.5, 1.0):
            assert keras.backend.standardize_dtype(Dropout(rate, dtype=policy)(ones(4, 5), **arguments).dtype) == dtype
    layer = Dropout(0.5, dtype=policy)
    assert layer(keras.Input((5,))).dtype == dtype
    assert Dropout.from_config(layer.get_config()).dtype_policy.name == policy
    keras.config.set_dtype_policy(policy)
    assert Dropout(0.5).compute_dtype == dtype


@pytest.mark.needs_tensorflow
def test_an_exported_monte_carlo_model_drops(tmp_path):
    import tensorflow as tf

    inputs = keras.Input((1000,))
    model = keras.Model(inputs, [Dropout(0.3, seed=1, monte_carlo=True)(inputs), Dropout(0.3, seed=1)(inputs)])
    model.export(tmp_path / "m", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    (first, plain), (second, _) = (loaded.serve(ones(40, 1000)) for _ in range(2))
    np.testing.assert_array_equal(plain, ones(40, 1000))
    assert abs((np.array(first) == 0).sum() - 40_000 * 0.3) <= 5 * spread(0.3, 40_000)
    assert_independent(np.array(first), np.array(second))
