import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.layers import Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

OURS = {1: SpatialDropout1D, 2: SpatialDropout2D, 3: SpatialDropout3D}
THEIRS = {1: keras.layers.SpatialDropout1D, 2: keras.layers.SpatialDropout2D, 3: keras.layers.SpatialDropout3D}
FORMS = [(1, "channels_last"), *((rank, form) for rank in (2, 3) for form in ("channels_last", "channels_first"))]
SPACE = {1: (5,), 2: (3, 4), 3: (2, 3, 2)}

every_form = pytest.mark.parametrize(("rank", "form"), FORMS)


def make(rank, form, *arguments, **named):
    return OURS[rank](*arguments, **named) if rank == 1 else OURS[rank](*arguments, data_format=form, **named)


def shape_of(rank, form, batch, channels):
    return (batch, *SPACE[rank], channels) if form == "channels_last" else (batch, channels, *SPACE[rank])


def ones(*shape):
    return np.ones(shape, "float32")


def dropped(layer, *shape, **arguments):
    return ops.convert_to_numpy(ops.cast(layer(ones(*shape), **{"training": True, **arguments}), "float32")) == 0


def channels_of(zero, rank, form):
    """Whether each (sample, channel) is dropped, once it is known to be dropped as a whole."""
    zero = np.moveaxis(zero, 1, -1) if form == "channels_first" else zero
    zero = zero.reshape(zero.shape[0], -1, zero.shape[-1])
    assert (zero == zero[:, :1]).all()
    return zero[:, 0]


@every_form
@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_whole_channels_are_dropped_at_the_rate_each_sample_its_own(rank, form, rate):
    zero = channels_of(dropped(make(rank, form, rate, seed=1), *shape_of(rank, form, 250, 400)), rank, form)
    n = zero.size
    assert abs(zero.sum() - n * rate) <= 5 * np.sqrt(1.04 * n * rate * (1 - rate))
    for one, other in ((zero[1:], zero[:-1]), (zero[:, 1:], zero[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) <= 5 / np.sqrt(one.size)


@every_form
def test_kept_channels_are_scaled_and_inference_passes_through(rank, form):
    x = np.random.default_rng(0).normal(size=shape_of(rank, form, 20, 30)).astype("float32")
    layer = make(rank, form, 0.25, seed=1)
    y = ops.convert_to_numpy(layer(x, training=True))
    np.testing.assert_allclose(y, np.where(y == 0, 0, x / 0.75), rtol=1e-6)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x, training=False)), x)


@every_form
def test_gradient_is_the_scale_in_kept_channels(rank, form, differentiate):
    weight = np.random.default_rng(0).uniform(1, 2, shape_of(rank, form, 6, 8)).astype("float32")
    y, (gradient,) = differentiate(make(rank, form, 0.5, seed=1), np.ones_like(weight), weight)
    assert 0 < (y == 0).sum() < y.size
    np.testing.assert_allclose(gradient, np.where(y != 0, weight * 2, 0), rtol=1e-6)


@every_form
def test_monte_carlo_drops_whole_channels_at_inference(rank, form):
    layer = make(rank, form, 0.5, seed=1, monte_carlo=True)
    assert 0 < channels_of(dropped(layer, *shape_of(rank, form, 20, 30), training=False), rank, form).mean() < 1


@every_form
def test_an_assigned_rate_acts(rank, form):
    layer = make(rank, form, 0.5, seed=1)
    shape = shape_of(rank, form, 200, 100)
    assert abs(channels_of(dropped(layer, *shape), rank, form).mean() - 0.5) <= 5 * 0.5 / np.sqrt(20_000)
    layer.rate = 0.2
    assert abs(channels_of(dropped(layer, *shape), rank, form).mean() - 0.2) <= 5 * np.sqrt(0.2 * 0.8 * 1.03 / 20_000)
    assert layer.get_config()["rate"] == 0.2


def test_the_format_is_keras_setting_unless_given():
    keras.config.set_image_data_format("channels_first")
    try:
        assert SpatialDropout2D(0.5).data_format == SpatialDropout3D(0.5).data_format == "channels_first"
        zero = dropped(SpatialDropout2D(0.5, seed=1), 20, 30, 3, 4)
        assert 0 < channels_of(zero, 2, "channels_first").mean() < 1
        channels_of(dropped(SpatialDropout1D(0.5, seed=1), 20, 5, 30), 1, "channels_last")
        channels_of(dropped(SpatialDropout2D(0.5, "channels_last", seed=1), 20, 3, 4, 30), 2, "channels_last")
    finally:
        keras.config.set_image_data_format("channels_last")


@every_form
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_the_dtype_policy_outlives_the_config_and_a_file_and_keras_does_not(rank, form, policy, tmp_path):
    layer = make(rank, form, 0.5, seed=1, dtype=policy)
    again = type(layer).from_config(json.loads(json.dumps(keras.saving.serialize_keras_object(layer)["config"])))
    assert layer.dtype_policy.name == again.dtype_policy.name == policy
    inputs = keras.Input(shape_of(rank, form, 1, 4)[1:])
    keras.Model(inputs, layer(inputs)).save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.layers[-1].dtype_policy.name == policy
    assert keras.backend.standardize_dtype(loaded(ones(*shape_of(rank, form, 2, 4)), training=True).dtype) == layer.compute_dtype
    theirs = THEIRS[rank](0.5, dtype=policy)
    lost = THEIRS[rank].from_config(theirs.get_config())
    assert (lost.dtype_policy.name == policy) == (policy == "float16")


@every_form
def test_a_loaded_model_draws_the_same_masks_and_keeps_its_arguments(rank, form, tmp_path):
    inputs = keras.Input(shape_of(rank, form, 1, 50)[1:])
    parts = [make(rank, form, 0.5, seed=1, monte_carlo=True) for _ in range(2)]
    model = keras.Model(inputs, [part(inputs) for part in parts])
    parts[0].rate = 0.25
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [type(part) for part in loaded.layers[1:]] == [OURS[rank]] * 2
    assert [part.get_config() for part in loaded.layers[1:]] == [part.get_config() for part in parts]
    assert [(part.rate, part.stream, part.monte_carlo) for part in loaded.layers[1:]] == [(0.25, 0, True), (0.5, 1, True)]
    x = ones(*shape_of(rank, form, 20, 50))
    for mine, theirs in zip(model(x), loaded(x), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(theirs))


def test_layers_of_one_seed_drop_independently_and_keras_layers_together():
    for kind, alike in ((SpatialDropout1D, False), (keras.layers.SpatialDropout1D, True)):
        inputs = keras.Input((2, 100))
        model = keras.Model(inputs, [kind(0.5, seed=1)(inputs) for _ in range(2)])
        first, second = (channels_of(ops.convert_to_numpy(y) == 0, 1, "channels_last") for y in model(ones(100, 2, 100), training=True))
        assert (first == second).all() == alike
        assert alike or abs((first == second).mean() - 0.5) <= 5 * 0.5 / 100


def test_a_seed_counts_with_the_layers_of_every_kind():
    inputs = keras.Input((2, 100))
    layers = [Dropout(0.5, seed=1), SpatialDropout1D(0.5, seed=1), Dropout(0.5, seed=1)]
    for layer in layers:
        layer(inputs)
    assert [layer.stream for layer in layers] == [0, 1, 2]


@every_form
def test_a_wrong_rank_is_refused_when_the_model_is_put_together_and_later(rank, form):
    for wrong in (rank + 1, rank + 3):
        message = f"expected ndim={rank + 2}, found ndim={wrong}"
        with pytest.raises(ValueError) as caught:
            make(rank, form, 0.5)(keras.Input((4,) * (wrong - 1)))
        assert message in str(caught.value)
        with pytest.raises(ValueError) as caught:
            make(rank, form, 0.5)(ones(*(4,) * wrong), training=True)
        assert message in str(caught.value)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_wrong_format_is_refused_by_name(rank):
    with pytest.raises(ValueError) as caught:
        OURS[rank](0.5, data_format="last")
    assert str(caught.value) == "`data_format` must be one of 'channels_last', 'channels_first', got 'last'."


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@every_form
@pytest.mark.parametrize("jit", [False, True])
def test_fit_takes_unknown_sizes_and_a_smaller_last_batch(rank, form, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler and takes minutes")
    sizes = [None] * (rank + 1)
    sizes[-1 if form == "channels_last" else 0] = 4
    inputs = keras.Input(sizes)
    outputs = ops.mean(make(rank, form, 0.5, seed=1)(inputs), axis=list(range(1, rank + 2)))
    model = keras.Model(inputs, outputs)
    model.compile(optimizer="sgd", loss="mse", jit_compile=jit)
    history = model.fit(ones(*shape_of(rank, form, 10, 4)), ones(10), batch_size=4, verbose=0).history
    assert 0 < history["loss"][0] < 4
