import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.layers import BatchNormalization

BACKEND = keras.backend.backend()
# torch.compile needs a C++ compiler and takes minutes.
MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "compiled": {"jit_compile": True},
}
if BACKEND == "torch":
    del MODES["compiled"]


def data(shape, seed=0):
    """Samples that drift, so that no two batches have the same statistics."""
    drift = np.linspace(0, 5, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return (np.random.default_rng(seed).normal(2, 3, shape) + drift).astype("float32")


def moments(x):
    x = np.asarray(x, "float64").reshape(-1, x.shape[-1])
    return np.array([x.mean(0), x.var(0)])


def recursion(values, momentum, start=((0.0,), (1.0,))):
    average = np.array(start)
    for value in values:
        average = momentum * average + (1 - momentum) * value
    return average


def statistics(layer):
    return np.array([ops.convert_to_numpy(layer.moving_mean), ops.convert_to_numpy(layer.moving_variance)])


def compiled(model, mode):
    model.compile(keras.optimizers.SGD(1e-3), "mse", **MODES[mode])
    return model


def network(layer, mode, shape=(3,)):
    return compiled(keras.Sequential([keras.Input(shape), layer, keras.layers.Dense(1)]), mode)


def fit(model, x, batch_size=16, epochs=1):
    y = np.asarray(x, "float32").reshape(len(x), -1)[:, :1] / 10
    model.fit(x, y, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)


def weights(layer):
    return [ops.convert_to_numpy(w) for w in layer.weights]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arguments", [{}, {"renorm": True}, {"virtual_batch_size": 16}, {"debias": True}])
def test_a_batch_of_nan_does_not_end_the_moving_statistics(arguments, mode):
    x = data((80, 3))
    x[40, 1] = np.nan
    layer = BatchNormalization(momentum=0.8, **arguments)
    fit(network(layer, mode), x)
    assert all(np.isfinite(w).all() for w in weights(layer)[2:])
    if arguments in ({}, {"virtual_batch_size": 16}):
        batches = [moments(part) for part in np.split(x, 5)]
        np.testing.assert_allclose(statistics(layer)[:, [0, 2]], recursion(batches, 0.8)[:, [0, 2]], rtol=1e-5)
        del batches[2]
        np.testing.assert_allclose(statistics(layer)[:, 1], recursion(batches, 0.8)[:, 1], rtol=1e-5)


def test_a_batch_of_nan_ends_kerass():
    x = data((80, 3))
    x[40, 1] = np.nan
    layer = keras.layers.BatchNormalization()
    fit(network(layer, "graph"), x)
    assert np.isnan(statistics(layer)[:, 1]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arguments", [{}, {"debias": True}, {"virtual_batch_size": 4}, {"renorm": True}])
def test_a_frozen_layer_is_left_alone_by_fit_and_learns_again(arguments, mode):
    layer, x = BatchNormalization(**arguments), data((48, 3))
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(1)])
    far = [np.full(3, 40.0), np.full(3, 0.01)]
    layer.set_weights([np.full(3, 0.5), np.full(3, 2.0), *far, *([far[1] ** 0.5, *far] if "renorm" in arguments else [])])
    layer.trainable = False
    before, head = weights(layer), weights(model.layers[-1])
    fit(compiled(model, mode), x, epochs=2)
    for old, new in zip(before, weights(layer), strict=True):
        np.testing.assert_array_equal(new, old)
    assert not np.array_equal(weights(model.layers[-1])[0], head[0])
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x, training=True)), ops.convert_to_numpy(model(x)))
    np.testing.assert_allclose(model.predict(x, verbose=0), ops.convert_to_numpy(model(x)), rtol=1e-5)

    layer.trainable = True
    fit(compiled(model, mode), x)
    for old, new in zip(before, weights(layer), strict=True):
        assert (new != old).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_in_a_frozen_network_is_left_alone(mode):
    layer, x = BatchNormalization(), data((32, 3))
    base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), layer])
    base.trainable = False
    before = [ops.convert_to_numpy(w) for w in base.weights]
    model = compiled(keras.Sequential([keras.Input((3,)), keras.Sequential([base]), keras.layers.Dense(1)]), mode)
    fit(model, x)
    for old, new in zip(before, base.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(new), old)
    base.trainable = True
    fit(compiled(model, mode), x)
    for old, new in zip(before[2:], weights(layer), strict=True):
        assert (new != old).all()


@pytest.mark.parametrize("mode", MODES)
def test_after_fit_a_sample_is_predicted_alone_as_among_others(mode):
    x = data((48, 3))
    model = network(BatchNormalization(momentum=0.5), mode)
    fit(model, x)
    together = model.predict(x, verbose=0)
    for size in range(1, 6):
        # Dense adds the same three numbers in another order.
        np.testing.assert_allclose(model.predict(x[:size], verbose=0), together[:size], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arguments", [{}, {"virtual_batch_size": 8}])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_fit_in_half_precision_keeps_float32_statistics(dtype, arguments, mode):
    x = data((48, 4, 3))
    halves = ops.convert_to_numpy(ops.cast(ops.cast(x, dtype), "float32"))
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    layer = BatchNormalization(momentum=0.8, **arguments)
    model = network(layer, mode, (4, 3))
    fit(model, x)
    assert [keras.backend.standardize_dtype(w.dtype) for w in layer.weights] == ["float32"] * 4
    parts = np.split(halves, 6 if arguments else 3)
    np.testing.assert_allclose(statistics(layer), recursion([moments(p) for p in parts], 0.8), rtol=1e-5)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("arguments", [{}, {"renorm": True}, {"axis": 1}, {"scale": False}])
def test_weights_go_to_keras_and_back(arguments):
    x = data((48, 3, 2) if "axis" in arguments else (48, 3))
    for first, second in ((BatchNormalization, keras.layers.BatchNormalization), (keras.layers.BatchNormalization, BatchNormalization)):
        trained, other = (network(kind(momentum=0.5, **arguments), "graph", x.shape[1:]).layers[0] for kind in (first, second))
        model = compiled(keras.Sequential([keras.Input(x.shape[1:]), trained, keras.layers.Flatten(), keras.layers.Dense(1)]), "graph")
        fit(model, x)
        other.set_weights(trained.get_weights())
        mine, theirs = (ops.convert_to_numpy(layer(x)) for layer in (trained, other))
        np.testing.assert_array_max_ulp(mine, theirs, 1)
        assert abs(mine).max() > 0.1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "sizes"), [(8, [8] * 8 + [5]), (2, [2] * 32 + [3, 2]), (40, [32, 32, 5])])
def test_fit_steps_once_for_each_ghost_also_of_a_partial_batch(size, sizes, mode):
    x = data((69, 3))
    layer = BatchNormalization(momentum=0.95, virtual_batch_size=size)
    fit(network(layer, mode), x, batch_size=32)
    parts = np.split(x, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose(statistics(layer), recursion([moments(p) for p in parts], 0.95), rtol=2e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fit_counts_the_batches_of_debias(momentum, mode):
    x = data((69, 3))
    layer = BatchNormalization(momentum=momentum, debias=True)
    fit(network(layer, mode), x, batch_size=16, epochs=2)
    batches = [moments(x[start : start + 16]) for start in range(0, 69, 16)] * 2
    wanted = recursion(batches, momentum, ((0.0,), (0.0,))) / (1 - momentum ** len(batches))
    np.testing.assert_allclose(statistics(layer), wanted, rtol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_training_that_goes_on_from_a_file_is_as_if_never_interrupted(mode, tmp_path):
    x = data((64, 3))
    through, first = (network(BatchNormalization(debias=True), mode) for _ in range(2))
    first.set_weights(through.get_weights())
    fit(through, x)
    fit(first, x[:32])
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    fit(second, x[32:])
    for mine, other in zip(second.get_weights(), through.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arguments", [{}, {"axis": 1}, {"virtual_batch_size": 2}])
def test_images_of_many_sizes_are_trained_on(arguments, mode):
    first = arguments.get("axis") == 1
    layer = BatchNormalization(momentum=0.8, **arguments)
    inputs = keras.Input((3, None, None) if first else (None, None, 3))
    pool = keras.layers.GlobalAveragePooling2D(data_format="channels_first" if first else "channels_last")
    model = compiled(keras.Model(inputs, keras.layers.Dense(1)(pool(layer(inputs)))), mode)
    seen = []
    for seed, (height, width) in enumerate([(4, 4), (5, 7), (1, 3)]):
        x = data((4, height, width, 3), seed)
        seen += [moments(part) for part in (np.split(x, 2) if "virtual_batch_size" in arguments else [x])]
        model.train_on_batch(np.moveaxis(x, -1, 1) if first else x, np.zeros((4, 1)))
    np.testing.assert_allclose(statistics(layer), recursion(seen, 0.8), rtol=1e-5)
