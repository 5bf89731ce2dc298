import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers
from keras_ext.optimizers import GradientClipping
from keras_ext.optimizers.clipping_rules import AdaptiveClipping

RULES = ["global_norm", "norm", "value"]


def clip(gradients, rule, threshold, dtype="float32", nonfinite="skip"):
    """What arrives at the inner optimizer: descent at rate 1 from zero ends at minus the gradient."""
    variables = [keras.Variable(np.zeros(np.shape(g)), dtype=dtype) for g in gradients]
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), rule, threshold, nonfinite)
    optimizer.apply([ops.convert_to_tensor(g, dtype=dtype) for g in gradients], variables)
    return [-ops.convert_to_numpy(ops.cast(v, "float32")) for v in variables]


def gradients(scale, seed=0):
    rng = np.random.default_rng(seed)
    return [
        np.asarray(s * scale * rng.normal(size=shape)).astype("float32") for s, shape in ((1, (4, 3)), (10, (5,)), (0.1, ()), (0, (2,)))
    ]


def joint(arrays):
    return np.concatenate([np.asarray(a, "float64").ravel() for a in arrays])


def size(arrays, rule):
    """What the rule bounds, in float64."""
    if rule == "global_norm":
        return np.linalg.norm(joint(arrays))
    if rule == "norm":
        return max(np.linalg.norm(np.asarray(a, "float64")) for a in arrays)
    return np.abs(joint(arrays)).max()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e12])
@pytest.mark.parametrize("threshold", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("rule", RULES)
def test_the_size_is_at_most_the_threshold_and_that_if_it_was_more(rule, threshold, scale):
    given = gradients(scale)
    got = clip(given, rule, threshold)
    # The norm and the factor are rounded in float32.
    np.testing.assert_allclose(size(got, rule), min(size(given, rule), threshold), rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_within_the_threshold_pass_as_they_are(rule):
    given = gradients(1.0)
    for mine, original in zip(clip(given, rule, 1.001 * size(given, rule)), given, strict=True):
        np.testing.assert_array_equal(mine, original)


@pytest.mark.parametrize("scale", [0.1, 1.0, 1e6])
@pytest.mark.parametrize("rule", RULES)
def test_clipping_twice_is_clipping_once(rule, scale):
    once = clip(gradients(scale), rule, 0.5)
    for mine, other in zip(clip(once, rule, 0.5), once, strict=True):
        # A norm that was rounded up by one unit is clipped again by one.
        np.testing.assert_allclose(mine, other, rtol=3e-7 if rule != "value" else 0)


def test_global_norm_keeps_the_joint_direction_and_norm_each_direction():
    given = gradients(3.0)
    got = clip(given, "global_norm", 1.0)
    np.testing.assert_allclose(joint(got), joint(given) / size(given, "global_norm"), rtol=1e-6)
    for mine, original in zip(clip(given, "norm", 1.0), given, strict=True):
        np.testing.assert_allclose(mine, original / max(1.0, np.linalg.norm(original)), rtol=1e-6)
    for mine, original in zip(clip(given, "value", 1.0), given, strict=True):
        np.testing.assert_array_equal(mine, np.clip(original, -1, 1))


@pytest.mark.parametrize(("dtype", "unit"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
@pytest.mark.parametrize("rule", ["global_norm", "norm"])
def test_half_precision_norms_do_not_overflow(rule, dtype, unit):
    given = [np.array([3.0, -4.0, 0.0, 12.0]) * 1000]
    (got,) = clip(given, rule, 1.0, dtype)
    np.testing.assert_allclose(got, given[0] / 13000, rtol=2 * unit)


def test_keras_loses_half_precision_gradients():
    variable = keras.Variable([0.0, 0.0], dtype="float16")
    keras.optimizers.SGD(1.0, global_clipnorm=1.0).apply([ops.convert_to_tensor([3000.0, 4000.0], dtype="float16")], [variable])
    assert not np.allclose(ops.convert_to_numpy(variable), [-0.6, -0.8], atol=0.01)


def test_keras_takes_a_threshold_of_zero_for_none():
    variable = keras.Variable([0.0])
    keras.optimizers.SGD(1.0, clipnorm=0.0).apply([ops.convert_to_tensor([100.0])], [variable])
    assert float(ops.convert_to_numpy(variable)[0]) == -100.0
    with pytest.raises(ValueError, match="`clipnorm` must be a finite number above 0"):
        optimizers.SGD(1.0, clipnorm=0.0)


@pytest.mark.parametrize("rule", RULES)
def test_nan_stays_where_it_is(rule):
    (clipped,) = clip([np.array([np.nan, 0.5])], rule, 1.0, nonfinite="propagate")
    assert np.isnan(clipped[0])
    assert clipped[1] == 0.5


@pytest.mark.parametrize("rule", RULES)
def test_infinity_passes_on_as_not_finite_unless_values_are_cut(rule):
    (clipped,) = clip([np.array([np.inf, 0.5])], rule, 1.0, nonfinite="propagate")
    if rule == "value":
        assert clipped.tolist() == [1.0, 0.5]
    else:
        assert not np.isfinite(clipped[0])


def test_variables_without_gradient_are_left_out():
    first, second = keras.Variable([0.0, 0.0]), keras.Variable([5.0])
    GradientClipping(keras.optimizers.SGD(1.0)).apply([ops.convert_to_tensor([30.0, 40.0]), None], [first, second])
    np.testing.assert_allclose(ops.convert_to_numpy(first), [-0.6, -0.8], rtol=1e-6)
    assert float(ops.convert_to_numpy(second)[0]) == 5.0


def small_model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])


def small_data(scale=1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    return x, (scale * (x @ [[1.0], [-2.0], [0.5], [0.0]] + 3)).astype("float32")


def test_the_learning_rate_is_the_inner_optimizers():
    optimizer = GradientClipping(optimizers.Adam(0.25))
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == 0.25
    optimizer.learning_rate = 0.125
    assert float(ops.convert_to_numpy(optimizer.inner_optimizer.learning_rate)) == 0.125
    rates = []
    model = small_model()
    model.compile(optimizer, "mse")
    history = model.fit(
        *small_data(),
        epochs=3,
        verbose=0,
        callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch, rate: rates.append(rate) or 0.5**epoch)],
    )
    np.testing.assert_allclose(history.history["learning_rate"], [1.0, 0.5, 0.25])
    np.testing.assert_allclose(rates, [0.125, 1.0, 0.5])


def test_a_schedule_passes_through():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [1.0, 0.5, 0.25])
    optimizer = GradientClipping(keras.optimizers.SGD(schedule), threshold=1.0)
    variable = keras.Variable([0.0])
    places = [0.0]
    for step in range(4):
        assert int(ops.convert_to_numpy(optimizer.iterations)) == step
        optimizer.apply([ops.convert_to_tensor([-7.0])], [variable])
        places.append(float(ops.convert_to_numpy(variable)[0]))
    np.testing.assert_allclose(np.diff(places), [1.0, 1.0, 0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_in_fit_no_step_is_larger_than_the_threshold(rule):
    model = small_model()
    model.compile(GradientClipping(keras.optimizers.SGD(1.0), rule, 0.05), "mse")
    before = model.get_weights()
    for _ in range(5):
        model.train_on_batch(*small_data(scale=100.0))
        after = model.get_weights()
        # The weights round the step.
        np.testing.assert_allclose(size([a - b for a, b in zip(after, before, strict=True)], rule), 0.05, rtol=1e-4)
        before = after


def test_fit_learns():
    model = small_model()
    model.compile(GradientClipping(optimizers.Adam(0.05), threshold=1.0), "mse")
    losses = model.fit(*small_data(), epochs=15, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]


def test_a_saved_model_trains_on_as_if_it_had_not_been_saved(tmp_path):
    model = small_model()
    model.compile(GradientClipping(optimizers.Adam(0.01), "norm", 0.5), "mse")
    model.fit(*small_data(), epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, GradientClipping)
    assert isinstance(again.optimizer.inner_optimizer, optimizers.Adam)
    assert (again.optimizer.rule, again.optimizer.threshold) == ("norm", 0.5)
    assert len(again.optimizer.variables) == len(model.optimizer.variables) == 3 + 2 + 2 * 4
    for mine, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(other))
    for m in (model, again):
        m.fit(*small_data(), epochs=1, shuffle=False, verbose=0)
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("by_hand", [False, True])
def test_under_mixed_float16_the_unscaled_gradients_are_clipped(by_hand):
    keras.config.set_dtype_policy("mixed_float16")
    model = small_model()
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), threshold=0.05)
    # Keras wraps the optimizer by itself under this policy.
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0) if by_hand else optimizer, "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = model.get_weights()
    model.train_on_batch(*small_data())
    moved = [a - b for a, b in zip(model.get_weights(), before, strict=True)]
    if by_hand:
        np.testing.assert_allclose(size(moved, "global_norm"), 0.05, rtol=1e-3)
    losses = model.fit(*small_data(), epochs=10, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert int(ops.convert_to_numpy(optimizer.iterations)) > 0


def test_the_inner_optimizers_moving_average_becomes_the_weights():
    ema = {"use_ema": True, "ema_momentum": 0.9}
    found = []
    for optimizer in (GradientClipping(optimizers.SGD(0.1, **ema), threshold=0.1), keras.optimizers.SGD(0.1, **ema, global_clipnorm=0.1)):
        keras.utils.set_random_seed(0)
        model = small_model()
        model.compile(optimizer, "mse")
        for _ in range(5):
            model.train_on_batch(*small_data())
        last = model.get_weights()
        model.optimizer.finalize_variable_values(model.trainable_variables)
        assert np.abs(last[0] - model.get_weights()[0]).max() > 1e-3
        found.append(model.get_weights())
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


REPLICAS = """
import json
import keras
import numpy as np
import tensorflow as tf
from keras_ext import optimizers

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
report = {}
for name, build in {
    "ours": lambda: optimizers.GradientClipping(keras.optimizers.SGD(1.0), "global_norm", 1.0),
    "around ours": lambda: optimizers.GradientClipping(optimizers.SGD(1.0), "global_norm", 1.0),
    "loose": lambda: optimizers.GradientClipping(keras.optimizers.SGD(1.0), "global_norm", 100.0),
    "keras": lambda: keras.optimizers.SGD(1.0, global_clipnorm=1.0),
}.items():
    with strategy.scope():
        variables = [keras.Variable(np.zeros(2, "float32")), keras.Variable(np.zeros((3, 1), "float32"))]
        table = keras.Variable(np.zeros((4, 1), "float32"))
        optimizer = build()
        optimizer.build([*variables, table])

    @tf.function
    def step():
        scale = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group + 1, tf.float32)
        rows = tf.IndexedSlices(scale * tf.constant([[1.0], [2.0], [3.0]]), tf.constant([0, 0, 3]), tf.constant([4, 1]))
        optimizer.apply([scale * tf.constant([3.0, 4.0]), scale * tf.ones((3, 1)), rows], [*variables, table])

    strategy.run(step)
    report[name] = np.concatenate([np.array(v).ravel() for v in [*variables, table]]).tolist()
print(json.dumps(report))
"""


@pytest.mark.needs_tensorflow
def test_over_replicas_the_sum_is_clipped_where_keras_clips_the_parts(in_new_process):
    report = json.loads(in_new_process(REPLICAS).splitlines()[-1])
    # The replicas' gradients are once and twice this one, so that their sum is three times it.
    gradient = 3 * np.array([3, 4, 1, 1, 1, 3, 0, 0, 3.0])
    np.testing.assert_allclose(report["ours"], -gradient / np.linalg.norm(gradient), atol=1e-6)
    np.testing.assert_allclose(report["around ours"], -gradient / np.linalg.norm(gradient), atol=1e-6)
    np.testing.assert_allclose(report["loose"], -gradient, rtol=1e-6)
    assert np.linalg.norm(report["keras"]) > 1.9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"optimizer": 3}, TypeError, "`optimizer` must be a Keras optimizer, got 3. Give for instance keras_ext.optimizers.Adam()."),
        ({"optimizer": None}, TypeError, "`optimizer` must be a Keras optimizer, got None. Give for instance keras_ext.optimizers.Adam()."),
        ({"rule": "l1"}, ValueError, "`rule` must be one of 'global_norm', 'norm', 'value', 'adaptive', 'percentile', 'zscore', got 'l1'."),
        ({"threshold": 0}, ValueError, "`threshold` must be a finite number above 0, got 0."),
        ({"threshold": -1.0}, ValueError, "`threshold` must be a finite number above 0, got -1.0."),
        ({"threshold": float("nan")}, ValueError, "`threshold` must be a finite number above 0, got nan."),
        ({"threshold": float("inf")}, ValueError, "`threshold` must be a finite number above 0, got inf."),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error) as caught:
        GradientClipping(**{"optimizer": keras.optimizers.SGD(), **arguments})
    assert str(caught.value) == message


TWICE = 'Gradients would be clipped twice. Write rule="{}" and the threshold here.'


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), name="scaled"),
            "`optimizer` must be an optimizer that does not scale its loss, got 'scaled'. "
            "Write LossScaleOptimizer(GradientClipping(inner)): gradients are clipped after they are unscaled.",
        ),
        (lambda: optimizers.SGD(clipnorm=1.0), f"`optimizer` must be an optimizer with clipnorm=None, got 1.0. {TWICE.format('norm')}"),
        (lambda: optimizers.SGD(clipvalue=0.5), f"`optimizer` must be an optimizer with clipvalue=None, got 0.5. {TWICE.format('value')}"),
        (
            lambda: optimizers.SGD(global_clipnorm=2.0),
            f"`optimizer` must be an optimizer with global_clipnorm=None, got 2.0. {TWICE.format('global_norm')}",
        ),
    ],
)
def test_inner_optimizers_that_would_undo_it_are_refused(inner, message):
    with pytest.raises(ValueError) as caught:
        GradientClipping(inner())
    assert str(caught.value) == message


def test_a_name_stands_for_keras_optimizer():
    assert isinstance(GradientClipping("adam").inner_optimizer, keras.optimizers.Adam)


def test_exclusion_from_weight_decay_reaches_the_inner_optimizer():
    wrapped = GradientClipping(keras.optimizers.AdamW(0.1, weight_decay=0.5))
    wrapped.exclude_from_weight_decay(var_names=["bias"])
    bias, kernel = keras.Variable(np.ones(3), name="bias"), keras.Variable(np.ones(3), name="kernel")
    wrapped.apply([ops.zeros(3), ops.zeros(3)], [bias, kernel])
    np.testing.assert_array_equal(ops.convert_to_numpy(bias), np.ones(3))
    np.testing.assert_allclose(ops.convert_to_numpy(kernel), np.full(3, 0.95), rtol=1e-6)


def test_hdf5_files_of_whole_models_keep_what_keras_keeps(tmp_path):
    iterations = []
    for build in (lambda: keras.optimizers.Adam(0.01), lambda: GradientClipping(keras.optimizers.Adam(0.01))):
        model = small_model()
        model.compile(build(), keras.losses.MeanSquaredError())
        model.fit(*small_data(), batch_size=32, verbose=0)
        model.save(tmp_path / "model.h5")
        again = keras.models.load_model(tmp_path / "model.h5").optimizer
        inner = getattr(again, "inner_optimizer", again)
        iterations.append((int(again.iterations), len(inner.variables)))
    assert iterations[0] == iterations[1]
    assert iterations[1][0] == 2


def test_set_weights_sets_the_inner_optimizer():
    built = []
    for _ in range(2):
        optimizer = GradientClipping(keras.optimizers.Adam(0.01))
        variable = keras.Variable([1.0, 2.0])
        optimizer.build([variable])
        built.append((optimizer, variable))
    (first, variable), (second, _) = built
    first.apply([ops.convert_to_tensor([1.0, -1.0])], [variable])
    second.set_weights([ops.convert_to_numpy(v) for v in first.variables])
    for mine, other in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(mine), ops.convert_to_numpy(other))


@pytest.mark.parametrize("rule", ["global_norm", "norm", AdaptiveClipping(1e-3, epsilon=1.0)])
def test_a_factor_that_half_precision_rounds_to_zero_scales(rule):
    given = [np.array([3.0, -4.0, 0.0, 12.0]) * 5400]
    (got,) = clip(given, rule, 1e-3 if isinstance(rule, str) else None, "float16")
    np.testing.assert_allclose(got, given[0] / 70200 * 1e-3, rtol=2 * 2.0**-11)


@pytest.mark.parametrize("rule", [*RULES, "adaptive"])
@pytest.mark.parametrize(("given", "clipped"), [([1.0, 0.0], 0), ([2.0, 0.0], 1), ([0.0, 2.0], 1)])
def test_a_step_counts_as_clipped_where_one_gradient_was_changed(rule, given, clipped):
    variables = [keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), rule, 1.0)
    optimizer.apply([ops.convert_to_tensor([g]) for g in given], variables)
    assert optimizer.clipped_steps == clipped


def overwritten(dtype="float32"):
    """As the scales of float8 training: their gradient is their next value."""
    variable = keras.Variable(1.0, dtype=dtype)
    variable.overwrite_with_gradient = True
    return variable


def test_what_overwrites_its_weight_is_not_clipped_nor_measured():
    scale, weight = overwritten(), keras.Variable([0.0])
    optimizer = GradientClipping(keras.optimizers.SGD(1.0))
    optimizer.apply([ops.convert_to_tensor(700.0), ops.convert_to_tensor([2.0])], [scale, weight])
    assert float(ops.convert_to_numpy(scale)) == 700
    assert float(ops.convert_to_numpy(weight)[0]) == -1
    assert optimizer.gradient_norm == 2
    optimizer.apply([ops.convert_to_tensor(500.0), None], [scale, weight])
    assert float(ops.convert_to_numpy(scale)) == 500


def test_without_any_gradient_keras_error_is_raised():
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        GradientClipping(keras.optimizers.SGD(1.0)).apply([None], [keras.Variable([0.0])])


def by_name(**more):
    """A MultiOptimizer that takes `a` by a rate of 1 and the rest by 0.1."""
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.1, **more), {"a": keras.optimizers.SGD(1.0, momentum=0.5)})
    )


def test_the_parts_of_a_multi_optimizer_are_clipped_together(stepper):
    variables = [keras.Variable([0.0], name="a"), keras.Variable([0.0], name="b")]
    optimizer = GradientClipping(by_name(), threshold=1.0)
    step = stepper(optimizer, variables)
    step([np.array([g], "float32") for g in (30.0, 40.0)])
    step([np.array([g], "float32") for g in (np.nan, 1.0)])
    np.testing.assert_allclose([float(ops.convert_to_numpy(v)[0]) for v in variables], [-0.6, -0.08], rtol=1e-6)
    step([np.array([g], "float32") for g in (0.5, 0.0)])
    np.testing.assert_allclose([float(ops.convert_to_numpy(v)[0]) for v in variables], [-0.6 - 0.3 - 0.5, -0.08], rtol=1e-6)
    assert (optimizer.steps, optimizer.skipped_steps, optimizer.gradient_norm) == (3, 1, 0.5)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (lambda: by_name(clipnorm=1.0), "`optimizer` must be an optimizer with clipnorm=None, got 1.0."),
        (
            lambda: by_name(gradient_accumulation_steps=2),
            "`optimizer` must be a MultiOptimizer whose parts have gradient_accumulation_steps=None, got 2.",
        ),
        (
            lambda: keras.optimizers.SGD(loss_scale_factor=8.0),
            "`optimizer` must be an optimizer with loss_scale_factor=None, got 8.0.",
        ),
    ],
)
def test_parts_that_would_undo_it_are_refused(inner, message):
    with pytest.raises(ValueError) as caught:
        GradientClipping(inner())
    assert str(caught.value).startswith(message)


def test_parts_that_are_known_only_when_built_are_refused_then_and_again():
    part = keras.optimizers.SGD(1.0, clipnorm=0.1)
    optimizer = GradientClipping(keras.optimizers.MultiOptimizer(lambda variable: part))
    variables = [keras.Variable([0.0])]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"`optimizer` must be an optimizer with clipnorm=None, got 0\.1\."):
            optimizer.apply([ops.convert_to_tensor([50.0])], variables)
    assert float(ops.convert_to_numpy(variables[0])[0]) == 0.0


def test_a_file_without_one_of_the_counters_is_loaded():
    variables = [keras.Variable([0.0])]
    first, second = GradientClipping(keras.optimizers.SGD(0.0)), GradientClipping(keras.optimizers.SGD(0.0))
    first.apply([ops.convert_to_tensor([3.0])], variables)
    store = {}
    first.save_own_variables(store)
    del store["measures"]
    second.build(variables)
    second.load_own_variables(store)
    assert (second.steps, second.gradient_norm) == (1, 0.0)


def test_infinity_that_is_handed_on_leaves_the_others_as_they_are():
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([0.0])]
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), nonfinite="propagate")
    optimizer.apply([ops.convert_to_tensor([np.inf, 50.0]), ops.convert_to_tensor([7.0])], variables)
    assert [ops.convert_to_numpy(v).tolist() for v in variables] == [[-np.inf, -50.0], [-7.0]]
    assert np.isnan(optimizer.gradient_norm)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has no float64 unless it is asked for")
@pytest.mark.parametrize("rule", ["global_norm", "norm"])
def test_norms_of_double_precision_are_taken_in_it(rule):
    given = np.array([1.0, 2.0, 3.0]) / 0.7
    variable = keras.Variable(np.zeros(3), dtype="float64")
    GradientClipping(keras.optimizers.SGD(1.0), rule).apply([ops.convert_to_tensor(given, dtype="float64")], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), -given / np.linalg.norm(given), rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "error", "fix"),
    [
        (("adam", AdaptiveClipping), TypeError, "Give AdaptiveClipping()."),
        (("adam", 1.0), TypeError, "For a bound write threshold=1.0."),
        ((keras.optimizers.Adam(clipnorm=2.0),), ValueError, 'Write rule="norm" and the threshold here.'),
        ((GradientClipping("adam"),), ValueError, "Gradients would be clipped twice. Write a ClippingRule that does both."),
    ],
)
def test_a_likely_slip_is_reported_with_its_fix(arguments, error, fix):
    with pytest.raises(error) as caught:
        GradientClipping(*arguments)
    assert str(caught.value).endswith(fix)
