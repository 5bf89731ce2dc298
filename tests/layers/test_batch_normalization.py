import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.layers import BatchNormalization


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


@pytest.mark.parametrize(("shape", "axis", "masked"), [((6, 3), -1, False), ((3, 2, 4), 1, False), ((3, 4, 2), -1, True)])
def test_gradients_equal_central_differences(shape, axis, masked, differentiate):
    rng = np.random.default_rng(1)
    x, weight = data(shape), rng.normal(size=shape).astype("float32")
    keep = rng.random(shape[:-1]) < 0.6 if masked else None
    gamma, beta = np.linspace(0.5, 2, shape[axis]), np.linspace(-1, 1, shape[axis])
    layer = BatchNormalization(
        axis, gamma_initializer=keras.initializers.Constant(gamma), beta_initializer=keras.initializers.Constant(beta)
    )
    arguments = {} if keep is None else {"mask": ops.convert_to_tensor(keep)}
    _, gradients = differentiate(layer, x, weight, **arguments)

    def loss(x, gamma, beta):
        return (weight * normalised(x, *batch_statistics(x, axis, keep), gamma, beta, axis)).sum()

    x = x.astype("float64")
    wanted = [
        by_central_differences(lambda v: loss(v, gamma, beta), x),
        by_central_differences(lambda v: loss(x, v, beta), gamma),
        by_central_differences(lambda v: loss(x, gamma, v), beta),
    ]
    for got, want in zip(gradients, wanted, strict=True):
        # float32 sums of at most 24 terms of size 1.
        np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-4)


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
