import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.layers import BatchNormalization, _moving_average


def batch(seed, shape=(16, 3)):
    return np.random.default_rng(seed).normal(seed + 1.0, seed + 2.0, shape).astype("float32")


def moments(x):
    x = np.asarray(x, "float64").reshape(-1, x.shape[-1])
    return np.array([x.mean(0), x.var(0)])


def statistics(layer):
    return np.array([ops.convert_to_numpy(layer.moving_mean), ops.convert_to_numpy(layer.moving_variance)])


def corrected(values, momentum):
    """Adam's average: from 0, divided by 1 - momentum^t."""
    average = 0.0
    for value in values:
        average = momentum * average + (1 - momentum) * value
    return average / (1 - momentum ** len(values))


def stepped(layer, batches):
    for x in batches:
        layer(x, training=True)
    return layer


def debiased(momentum=0.9, **arguments):
    return BatchNormalization(momentum=momentum, debias=True, **arguments)


# float32 rounds 1 - 0.99 to 6e-6 of it.
CLOSE = {"rtol": 3e-5}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_debias_is_adams_correction_at_every_step(momentum):
    layer = debiased(momentum, moving_mean_initializer=keras.initializers.Constant(50.0), moving_variance_initializer="zeros")
    seen = []
    for step in range(8):
        stepped(layer, [batch(step)])
        seen.append(moments(batch(step)))
        np.testing.assert_allclose(statistics(layer), corrected(seen, momentum), **CLOSE)


def test_the_first_batch_takes_the_place_of_the_initial_values():
    layer = debiased(0.99, moving_mean_initializer=keras.initializers.Constant(1e6))
    np.testing.assert_allclose(statistics(stepped(layer, [batch(0)])), moments(batch(0)), rtol=1e-6)
    far = stepped(BatchNormalization(moving_mean_initializer=keras.initializers.Constant(1e6)), [batch(0)])
    assert (statistics(far)[0] > 9e5).all()


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_that_is_not_finite_counts_for_the_other_channels_only(first):
    batches = [batch(step) for step in range(4)]
    bad = 0 if first else 2
    batches[bad][3, 1] = np.nan
    got = statistics(stepped(debiased(), batches))
    seen = [moments(x) for x in batches]
    np.testing.assert_allclose(got[:, [0, 2]], corrected(seen, 0.9)[:, [0, 2]], **CLOSE)
    del seen[bad]
    np.testing.assert_allclose(got[:, 1], corrected(seen, 0.9)[:, 1], **CLOSE)


def test_a_batch_that_is_masked_does_not_count():
    batches = [batch(step, (4, 5, 3)) for step in range(3)]
    layer = debiased()
    for x, keep in zip(batches, (True, False, True), strict=True):
        layer(x, training=True, mask=ops.convert_to_tensor(np.full((4, 5), keep)))
    np.testing.assert_allclose(statistics(layer), corrected([moments(batches[0]), moments(batches[2])], 0.9), **CLOSE)


def test_debias_counts_ghosts():
    batches = [batch(step, (7, 3)) for step in range(3)]
    batches[1][5, 1] = np.inf
    got = statistics(stepped(debiased(virtual_batch_size=3), batches))
    # Each batch of 7 is cut into 4 and 3.
    seen = [moments(part) for x in batches for part in (x[:4], x[4:])]
    np.testing.assert_allclose(got[:, [0, 2]], corrected(seen, 0.9)[:, [0, 2]], **CLOSE)
    np.testing.assert_allclose(got[:, 1], corrected(seen[:3] + seen[4:], 0.9)[:, 1], **CLOSE)


def test_debias_and_renorm():
    layer, plain = debiased(renorm=True, renorm_momentum=0.8), BatchNormalization(renorm=True, renorm_momentum=0.8)
    batches = [batch(step) for step in range(5)]
    for each in (layer, plain):
        stepped(each, batches)
    seen = [moments(x) for x in batches]
    stddev = corrected([np.sqrt(v + 1e-3) for _, v in seen], 0.9)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_mean), corrected([m for m, _ in seen], 0.9), **CLOSE)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_stddev), stddev, **CLOSE)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.moving_variance), stddev**2 - 1e-3, **CLOSE)
    # What the correction aims at starts as the paper has it.
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.renorm_mean), ops.convert_to_numpy(plain.renorm_mean))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.renorm_stddev), ops.convert_to_numpy(plain.renorm_stddev))


def network(layer):
    return keras.Sequential([keras.Input((3,)), layer])


def by_layer(source, layer, path):
    layer.set_weights(source.get_weights())


def by_model(source, layer, path):
    network(layer).set_weights(network(source).get_weights())


def by_file(source, layer, path):
    network(source).save_weights(path / "source.weights.h5")
    network(layer).load_weights(path / "source.weights.h5")


def by_assignment(source, layer, path):
    for mine, other in zip(layer.weights, source.weights, strict=True):
        mine.assign(other)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("load", [by_layer, by_model, by_file, by_assignment])
def test_loaded_statistics_count_as_converged(load, before, tmp_path):
    source = stepped(keras.layers.BatchNormalization(momentum=0.5), [batch(step) for step in range(3)])
    layer = debiased()
    layer.build((None, 3))
    stepped(layer, [batch(step) for step in range(7, 7 + before)])
    load(source, layer, tmp_path)
    start = statistics(source)
    np.testing.assert_array_equal(statistics(layer), start)
    for step in (4, 5):
        stepped(layer, [batch(step)])
        start = 0.9 * start + 0.1 * moments(batch(step))
        np.testing.assert_allclose(statistics(layer), start, **CLOSE)


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("arguments", [{}, {"virtual_batch_size": 4}, {"renorm": True}])
def test_files_keep_the_count(file, arguments, tmp_path):
    batches = [batch(step) for step in range(6)]
    through = network(debiased(**arguments))
    stepped(through, batches)
    first = network(debiased(**arguments))
    stepped(first, batches[:2])
    if file == "model.keras":
        first.save(tmp_path / file)
        second = keras.models.load_model(tmp_path / file)
    else:
        first.save_weights(tmp_path / file)
        second = network(debiased(**arguments))
        second.load_weights(tmp_path / file)
    stepped(second, batches[2:])
    for mine, other in zip(second.get_weights(), through.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_file_of_a_layer_without_debias_counts_as_converged(tmp_path):
    source = stepped(BatchNormalization(momentum=0.5), [batch(0)])
    layer = debiased()
    by_file(source, layer, tmp_path)
    stepped(layer, [batch(1)])
    np.testing.assert_allclose(statistics(layer), 0.9 * statistics(source) + 0.1 * moments(batch(1)), **CLOSE)


@pytest.mark.parametrize("arguments", [{}, {"renorm": True}, {"scale": False, "center": False}])
def test_debias_leaves_the_lists_of_weights_as_kerass(arguments):
    ours, theirs = debiased(name="bn", **arguments), keras.layers.BatchNormalization(name="bn", **arguments)
    models = [keras.Sequential([keras.Input((3,)), layer], name="net") for layer in (ours, theirs)]
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    assert [w.path for w in models[0].weights] == [w.path for w in models[1].weights]
    assert [w.path for w in models[0].non_trainable_weights] == [w.path for w in models[1].non_trainable_weights]
    stepped(ours, [batch(0)])
    theirs.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(theirs(batch(1))), ops.convert_to_numpy(ours(batch(1))))
    config = json.loads(json.dumps(ours.get_config()))
    assert BatchNormalization.from_config(config).debias is True


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="stateless_call under jax.jit")
def test_the_count_goes_through_stateless_call():
    import jax

    layer = debiased()
    layer.build((None, 3))
    step = jax.jit(lambda t, n, x: layer.stateless_call(t, n, x, training=True)[1])
    state = [v.value for v in layer.non_trainable_variables]
    for i in range(4):
        state = step([v.value for v in layer.trainable_variables], state, batch(i))
    wanted = corrected([moments(batch(i)) for i in range(4)], 0.9)
    np.testing.assert_allclose(state[:2], wanted, **CLOSE)
    # The layer itself has seen nothing.
    np.testing.assert_array_equal(statistics(layer), [[0.0] * 3, [1.0] * 3])


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_several_batches_as_one_are_the_steps_one_by_one(momentum):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 4)).astype("float32")
    usable = rng.random((6, 4)) < 0.6
    usable[:, 3] = False
    values[~usable] = np.nan
    (value,), any_usable, steps = _moving_average.as_one_batch([ops.convert_to_tensor(values)], ops.convert_to_tensor(usable), momentum)
    old = rng.normal(size=4).astype("float32")
    power = ops.power(ops.cast(momentum, "float32"), steps)
    got = _moving_average.step(ops.convert_to_tensor(old), value, power, any_usable)
    wanted = old.astype("float64")
    for row, good in zip(values, usable, strict=True):
        wanted = np.where(good, momentum * wanted + (1 - momentum) * np.where(good, row, 0), wanted)
    np.testing.assert_array_equal(ops.convert_to_numpy(steps), usable.sum(0))
    np.testing.assert_array_equal(ops.convert_to_numpy(any_usable), usable.any(0))
    np.testing.assert_allclose(ops.convert_to_numpy(got), wanted, atol=1e-6)
    assert ops.convert_to_numpy(got)[3] == old[3]
