"""What becomes of a step whose gradients are not finite, and the counters."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import callbacks, optimizers
from keras_ext.optimizers import GradientClipping

BAD = [np.nan, np.inf, -np.inf]


def apply(optimizer, gradients, variables):
    optimizer.apply([ops.convert_to_tensor(g) for g in arrays(gradients)], variables)


def arrays(gradients):
    return [np.asarray(g, "float32") for g in gradients]


def values(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def model_and_data(optimizer, bad_rows=(), jit_compile="auto"):
    """A linear model whose first weight sees NaN in the rows that are named."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    y = (x @ [[1.0], [2.0], [3.0]]).astype("float32")
    x[list(bad_rows)] = np.nan
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="first"), keras.layers.Dense(1, name="last")])
    model.compile(optimizer, "mse", jit_compile=jit_compile)
    return model, x, y


JIT = [False, True] if keras.backend.backend() == "tensorflow" else ["auto"]
MODULES = (optimizers, keras.optimizers)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
@pytest.mark.parametrize("module", [optimizers, keras.optimizers])
def test_a_skipped_step_leaves_weights_slots_and_iterations_as_they_are(module, name, bad, stepper):
    arguments = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = GradientClipping(getattr(module, name)(0.1, **arguments))
    variables = [keras.Variable([1.0, 2.0]), keras.Variable([[3.0]])]
    step = stepper(optimizer, variables)
    step(arrays([[1.0, 1.0], [[0.5]]]))
    before = values(variables), values(optimizer.inner_optimizer.variables)
    assert before[0][0][0] != 1
    step(arrays([[1.0, 1.0], [[bad]]]))
    for old, new in zip([*before[0], *before[1]], values([*variables, *optimizer.inner_optimizer.variables]), strict=True):
        np.testing.assert_array_equal(new, old)
    assert (optimizer.steps, optimizer.skipped_steps, optimizer.nonfinite_steps) == (2, 1, 1)
    step(arrays([[1.0, 1.0], [[0.5]]]))
    assert int(ops.convert_to_numpy(optimizer.iterations)) == 2
    assert (optimizer.steps, optimizer.skipped_steps, optimizer.nonfinite_steps) == (3, 1, 1)


def test_keras_lets_one_nan_into_every_weight():
    variables = [keras.Variable([1.0]), keras.Variable([1.0])]
    apply(keras.optimizers.SGD(0.1, global_clipnorm=1.0), [[np.nan], [1.0]], variables)
    assert np.isnan(values(variables)).all()


@pytest.mark.parametrize("jit_compile", JIT)
@pytest.mark.parametrize("optimizer", [lambda: keras.optimizers.Adam(0.01), lambda: optimizers.Adam(0.01)])
def test_fit_goes_on_past_a_bad_batch_as_if_it_had_not_been(optimizer, jit_compile):
    model, x, y = model_and_data(GradientClipping(optimizer()), bad_rows=range(8, 16), jit_compile=jit_compile)
    clean, _, _ = model_and_data(GradientClipping(optimizer()), jit_compile=jit_compile)
    clean.set_weights(model.get_weights())
    good = np.r_[0:8, 16:32]
    for m, xs, ys in ((model, x, y), (clean, x[good], y[good])):
        m.fit(xs, ys, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for mine, other in zip(model.get_weights(), clean.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert (model.optimizer.steps, model.optimizer.skipped_steps) == (8, 2)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 6


@pytest.mark.parametrize("bad", BAD)
def test_zero_takes_the_rest_of_the_gradient(bad):
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), threshold=5.0, nonfinite="zero")
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([0.0])]
    apply(optimizer, [[bad, 6.0], [8.0]], variables)
    np.testing.assert_allclose(np.concatenate(values(variables)), [0.0, -3.0, -4.0], rtol=1e-6)
    assert (optimizer.skipped_steps, optimizer.nonfinite_steps, optimizer.gradient_norm) == (0, 1, 10.0)


def test_propagate_hands_them_on():
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), nonfinite="propagate")
    variables = [keras.Variable([0.0, 0.0])]
    apply(optimizer, [[np.nan, 0.5]], variables)
    np.testing.assert_array_equal(values(variables)[0], [np.nan, -0.5])
    assert (optimizer.steps, optimizer.skipped_steps, optimizer.nonfinite_steps) == (1, 0, 1)


def test_raise_names_the_weights_and_keeps_them():
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), nonfinite="raise")
    variables = [keras.Variable([1.0], name="left"), keras.Variable([1.0], name="right"), keras.Variable([1.0], name="top")]
    with pytest.raises(FloatingPointError, match=r"in the gradients of left, top. The weights are those before it"):
        apply(optimizer, [[np.nan], [1.0], [np.inf]], variables)
    assert values(variables) == [[1.0], [1.0], [1.0]]
    # Whoever catches it goes on.
    apply(optimizer, [[0.5], [0.0], [0.0]], variables)
    assert values(variables) == [[0.5], [1.0], [1.0]]


@pytest.mark.parametrize("jit_compile", JIT)
@pytest.mark.parametrize("with_log", [False, True])
def test_raise_ends_fit_with_the_weights_of_before(jit_compile, with_log):
    model, x, y = model_and_data(GradientClipping("sgd", nonfinite="raise"), bad_rows=[9], jit_compile=jit_compile)
    reference, _, _ = model_and_data(GradientClipping("sgd"))
    reference.set_weights(model.get_weights())
    reference.fit(x[:8], y[:8], batch_size=8, verbose=0)
    epochs = []
    ended = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    with pytest.raises(Exception, match=r"first/kernel, .*first/bias|first/kernel, first/bias") as caught:
        model.fit(
            x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, callbacks=[callbacks.ClippingLog(), ended] if with_log else [ended]
        )
    if keras.backend.backend() != "tensorflow" or jit_compile is True:
        assert isinstance(caught.value, FloatingPointError)
    at_once = keras.backend.backend() == "torch" or jit_compile is False
    assert epochs == ([] if with_log or at_once else [0, 1, 2])
    for mine, other in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("jit_compile", JIT)
def test_too_many_skips_in_a_row_raise_with_the_reason(jit_compile):
    model, x, y = model_and_data(GradientClipping("sgd", max_skips=3), bad_rows=range(32), jit_compile=jit_compile)
    with pytest.raises(Exception, match="3 steps in a row were skipped") as caught:
        model.fit(x, y, batch_size=8, verbose=0)
    assert "first/kernel" in str(caught.value)


def test_skips_that_are_not_in_a_row_do_not_add_up():
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), max_skips=2)
    variables = [keras.Variable([1.0])]
    for gradient in (np.nan, 0.0, np.nan, 0.0, np.nan):
        apply(optimizer, [[gradient]], variables)
    assert optimizer.skipped_steps == 3
    with pytest.raises(FloatingPointError, match="2 steps in a row"):
        apply(optimizer, [[np.nan]], variables)


def test_finite_gradients_whose_squares_overflow_are_clipped(stepper):
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), threshold=1.0)
    variables = [keras.Variable([0.0, 0.0]), keras.Variable([0.0])]
    stepper(optimizer, variables)(arrays([[3e25, 0.0], [4e25]]))
    np.testing.assert_allclose(np.concatenate(values(variables)), [-0.6, 0.0, -0.8], rtol=1e-6)
    np.testing.assert_allclose(optimizer.gradient_norm, 5e25, rtol=1e-6)
    assert (optimizer.skipped_steps, optimizer.clipped_steps) == (0, 1)


def test_the_counters_tell_what_happened_and_are_saved(tmp_path):
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), threshold=5.0)
    variables = [keras.Variable([0.0, 0.0])]
    for gradient in ([3.0, 4.0], [6.0, 8.0], [np.nan, 0.0], [0.3, 0.4]):
        apply(optimizer, [gradient], variables)
    counts = (4, 1, 1, 1)
    assert (optimizer.steps, optimizer.clipped_steps, optimizer.skipped_steps, optimizer.nonfinite_steps) == counts
    np.testing.assert_allclose([optimizer.gradient_norm, optimizer.gradient_norm_total], [0.5, 15.5], rtol=1e-6)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        twin.build(variables)
        assert (twin.steps, twin.clipped_steps, twin.skipped_steps, twin.nonfinite_steps) == counts
        assert int(ops.convert_to_numpy(twin.iterations)) == 3
    model, x, y = model_and_data(GradientClipping("adam", threshold=1e-3), bad_rows=[0])
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert (again.steps, again.clipped_steps, again.skipped_steps) == (8, 6, 2)


@pytest.mark.parametrize("jit_compile", JIT)
def test_clipping_log_logs_the_epoch(jit_compile):
    norms = []
    model, x, y = model_and_data(
        GradientClipping(keras.optimizers.SGD(0.0), threshold=1e-6), bad_rows=range(24, 32), jit_compile=jit_compile
    )
    for i in range(3):
        twin, _, _ = model_and_data(GradientClipping("sgd"))
        twin.set_weights(model.get_weights())
        twin.fit(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8], batch_size=8, verbose=0)
        norms.append(twin.optimizer.gradient_norm)
    history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[callbacks.ClippingLog()]).history
    np.testing.assert_allclose(history["gradient_norm"], [np.mean(norms)] * 2, rtol=1e-5)
    assert history["clipped_share"] == [1.0, 1.0]
    assert history["skipped_steps"] == [1, 1]


def test_clipping_log_needs_gradient_clipping():
    model, x, y = model_and_data(keras.optimizers.SGD())
    with pytest.raises(ValueError, match="ClippingLog needs a model that is compiled with GradientClipping, got SGD"):
        model.fit(x, y, verbose=0, callbacks=[callbacks.ClippingLog()])


@pytest.mark.parametrize("rule", ["global_norm", "zscore"])
def test_skipped_steps_do_not_reach_the_rule(rule):
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), rule)
    variables = [keras.Variable([0.0])]
    apply(optimizer, [[1.0]], variables)
    before = values(optimizer._rule_state)
    apply(optimizer, [[np.nan]], variables)
    for old, new in zip(before, values(optimizer._rule_state), strict=True):
        np.testing.assert_array_equal(new, old)


def test_overflow_is_the_loss_scalers_and_counts_nowhere():
    keras.config.set_dtype_policy("mixed_float16")
    clipping = GradientClipping(keras.optimizers.SGD(0.0))
    model, x, y = model_and_data(keras.optimizers.LossScaleOptimizer(clipping, initial_scale=2.0**24))
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    scale = float(ops.convert_to_numpy(model.optimizer.dynamic_scale))
    overflows = int(np.log2(2.0**24 / scale))
    assert overflows > 0
    assert (clipping.skipped_steps, clipping.nonfinite_steps) == (0, 0)
    assert clipping.steps == 4 - overflows


# Keras's own take half a minute to compile.
@pytest.mark.parametrize(
    ("module", "jit_compile"),
    [pytest.param(m, jit, marks=pytest.mark.slow if m is keras.optimizers else []) for m in MODULES for jit in JIT],
)
def test_accumulated_gradients_are_clipped_as_a_whole(module, jit_compile):
    """Two batches of 8 with accumulation are one of 16, bad batches left out."""
    found = []
    for accumulate in (True, False):
        inner = module.Adam(0.05, gradient_accumulation_steps=2 if accumulate else None)
        model, x, y = model_and_data(GradientClipping(inner, threshold=0.5), bad_rows=range(8, 16), jit_compile=jit_compile)
        keras.utils.set_random_seed(1)
        weights = [np.asarray(w) for w in (np.ones((3, 2)), np.zeros(2), np.ones((2, 1)), np.zeros(1))]
        model.set_weights(weights)
        good = np.r_[0:8, 16:32]
        # 24 good rows: of 8 with accumulation, of 16 without; the last pair wraps around into the second epoch.
        if accumulate:
            model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
            assert (model.optimizer.skipped_steps, model.optimizer.steps) == (2, 2 + 3)
        else:
            twice = np.r_[good, good]
            model.fit(x[twice], y[twice], batch_size=16, epochs=1, shuffle=False, verbose=0)
        found.append(model.get_weights())
        assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 3
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"nonfinite": "ignore"}, ValueError, "`nonfinite` must be one of 'skip', 'zero', 'raise', 'propagate', got 'ignore'."),
        ({"max_skips": 0}, ValueError, "`max_skips` must be a whole number of at least 1, got 0."),
        ({"rule": "percentile", "threshold": 101}, ValueError, "`threshold` must be a number in (0, 100], got 101."),
        (
            {"rule": 3},
            TypeError,
            "`rule` must be 'global_norm', 'norm', 'value', 'adaptive', 'percentile', 'zscore' or a ClippingRule, got 3.",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error) as caught:
        GradientClipping("sgd", **arguments)
    assert str(caught.value).startswith(message)


def test_whoever_catches_too_many_skips_has_as_many_left():
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), max_skips=2)
    variables = [keras.Variable([1.0])]
    for _ in range(2):
        apply(optimizer, [[np.nan]], variables)
        with pytest.raises(FloatingPointError, match="2 steps in a row"):
            apply(optimizer, [[np.nan]], variables)
    assert optimizer.skipped_steps == 4


def test_weights_in_another_order_than_they_were_built_in_are_named_and_kept_apart():
    left, right = keras.Variable([0.0], name="left"), keras.Variable([0.0], name="right")
    optimizer = GradientClipping(keras.optimizers.SGD(1.0, gradient_accumulation_steps=2), threshold=100.0, nonfinite="raise")
    optimizer.build([left, right])
    with pytest.raises(FloatingPointError, match=r"in the gradients of right\. The"):
        apply(optimizer, [[np.nan], [1.0]], [right, left])
    apply(optimizer, [[1.0], [20.0]], [left, right])
    apply(optimizer, [[40.0], [3.0]], [right, left])
    assert values([left, right]) == [[-2.0], [-30.0]]


def test_the_total_of_the_norms_keeps_what_float32_rounds_off(stepper):
    optimizer = GradientClipping(keras.optimizers.SGD(0.0))
    step = stepper(optimizer, [keras.Variable([0.0])])
    for size in (2.0**24, 1.0, 1.0, 1.0):
        step(arrays([[size]]))
    assert optimizer.gradient_norm_total == 2**24 + 3


@pytest.mark.parametrize("rule", ["percentile", "zscore"])
def test_nan_that_is_handed_on_stays_out_of_the_rule_and_of_the_total(rule, stepper):
    optimizer = GradientClipping(keras.optimizers.SGD(0.0), rule, nonfinite="propagate")
    step = stepper(optimizer, [keras.Variable([0.0])])
    step(arrays([[2.0]]))
    before = values(optimizer._rule_state)
    step(arrays([[np.nan]]))
    for old, new in zip(before, values(optimizer._rule_state), strict=True):
        np.testing.assert_array_equal(new, old)
    assert np.isnan(optimizer.gradient_norm)
    assert (optimizer.steps, optimizer.gradient_norm_total) == (2, 2.0)


# The mean of the two batches is (1.5, 2), of norm 2.5; the sum has twice that.
@pytest.mark.parametrize(("threshold", "moved"), [(2.0, [-1.2, -1.6]), (3.0, [-1.5, -2.0])])
@pytest.mark.parametrize("module", [optimizers, keras.optimizers])
def test_it_is_the_mean_of_accumulated_gradients_that_is_bounded(module, threshold, moved, stepper):
    optimizer = GradientClipping(module.SGD(1.0, gradient_accumulation_steps=2), threshold=threshold)
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    step = stepper(optimizer, variables)
    step(arrays([[3.0], [0.0]]))
    assert values(variables) == [[0.0], [0.0]]
    step(arrays([[0.0], [4.0]]))
    np.testing.assert_allclose(np.concatenate(values(variables)), moved, rtol=1e-6)
    assert (optimizer.gradient_norm, optimizer.clipped_steps) == (2.5, threshold < 2.5)


def test_what_was_accumulated_is_saved(tmp_path):
    model, x, y = model_and_data(GradientClipping(optimizers.SGD(0.1, gradient_accumulation_steps=2)))
    start = model.get_weights()
    model.train_on_batch(x[:8], y[:8])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, again):
        each.train_on_batch(x[8:16], y[8:16])
    assert np.abs(model.get_weights()[0] - start[0]).max() > 1e-3
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


def test_clipping_log_of_an_epoch_without_a_step():
    model, x, y = model_and_data(GradientClipping("sgd"), bad_rows=range(32))
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[callbacks.ClippingLog()]).history
    assert np.isnan(history["gradient_norm"]).all()
    assert (history["clipped_share"], history["skipped_steps"]) == ([0.0], [4])


def test_clipping_log_finds_it_in_a_loss_scale_optimizer():
    clipping = GradientClipping(keras.optimizers.SGD(0.0), threshold=1e-6)
    model, x, y = model_and_data(keras.optimizers.LossScaleOptimizer(clipping, initial_scale=64.0))
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[callbacks.ClippingLog()]).history
    np.testing.assert_allclose(history["gradient_norm"], [clipping.gradient_norm_total / 4], rtol=1e-6)
    assert history["clipped_share"] == [1.0]


def test_an_empty_weight_beside_gradients_whose_squares_overflow(stepper):
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), threshold=1.0)
    variables = [keras.Variable(np.zeros((0, 2), "float32")), keras.Variable([0.0, 0.0])]
    stepper(optimizer, variables)(arrays([np.zeros((0, 2)), [3e25, 4e25]]))
    np.testing.assert_allclose(values(variables)[1], [-0.6, -0.8], rtol=1e-6)


@pytest.mark.needs_tensorflow
def test_a_graph_fails_with_the_names_of_the_bad_weights_alone():
    import tensorflow as tf

    optimizer = GradientClipping(keras.optimizers.SGD(1.0), nonfinite="raise")
    variables = [keras.Variable([1.0], name="left"), keras.Variable([1.0], name="right"), keras.Variable([1.0], name="top")]
    optimizer.build(variables)
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"in the gradients of left, top\. The weights are those before it"):
        step([tf.constant([g]) for g in (np.nan, 1.0, np.inf)])


def test_the_mean_norm_is_that_of_the_finite_steps_where_others_are_handed_on():
    logged = {}
    for nonfinite in ("propagate", "skip"):
        keras.utils.set_random_seed(0)
        optimizer = GradientClipping(keras.optimizers.SGD(0.1), nonfinite=nonfinite)
        model, x, y = model_and_data(optimizer, bad_rows=range(24, 32))
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[callbacks.ClippingLog()]).history
        logged[nonfinite] = history["gradient_norm"]
    assert logged["propagate"][0] == pytest.approx(logged["skip"][0], rel=1e-6)
    assert logged["skip"][0] > 0.1
    assert np.isnan(logged["propagate"][1])
