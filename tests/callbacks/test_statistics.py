"""The monitor's numbers against float64 NumPy and the activations' own slopes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks.monitor.probe import statistics


@pytest.mark.parametrize("kind", statistics.SATURATING)
def test_slope_share_is_the_slope_over_the_steepest(kind):
    activation = getattr(keras.activations, kind)
    x = np.linspace(-6, 6, 241)
    x = x[np.abs(np.abs(x) - 3) > 1e-6] if kind == "hard_sigmoid" else x[np.abs(np.abs(x) - 1) > 1e-6]  # off the corners
    forward = {
        "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "tanh": np.tanh,
        "softsign": lambda v: v / (1 + np.abs(v)),
        "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1),
        "sparse_sigmoid": lambda v: np.clip((v + 1) / 2, 0, 1),
        "hard_tanh": lambda v: np.clip(v, -1, 1),
    }[kind]
    np.testing.assert_allclose(ops.convert_to_numpy(activation(ops.convert_to_tensor(x, "float32"))), forward(x), atol=1e-6)
    h = 1e-6
    slope = (forward(x + h) - forward(x - h)) / (2 * h)
    got = ops.convert_to_numpy(statistics.slope_share(ops.convert_to_tensor(forward(x), "float32"), kind))
    # float32 outputs near 1 are 6e-8 apart, and the slope there is of the size of that distance.
    np.testing.assert_allclose(got, slope / slope.max(), atol=1e-5)


def activation_numbers(y, kind, **arguments):
    (numbers,) = ops.convert_to_numpy(statistics.activation_statistics([y], kind, **arguments))
    return dict(zip(statistics.ACTIVATION_FIELDS, numbers.tolist(), strict=True))


def weight_numbers(weight, gradient, before=None):
    before = ops.zeros((1, statistics.kept_of(weight.size))) if before is None else before
    numbers, kept = statistics.weight_statistics([ops.convert_to_tensor(weight)], [ops.convert_to_tensor(gradient)], before)
    return dict(zip(statistics.WEIGHT_FIELDS, ops.convert_to_numpy(numbers)[0].tolist(), strict=True)), kept


def test_activation_statistics_count_pairs_units_and_zeros():
    y = np.array([[0.999, 0.5, 0.999], [0.999, 0.5, 0.5], [0.001, 0.5, 0.5], [0.999, 0.5, 0.5]])
    got = activation_numbers(y, "sigmoid")
    assert got == pytest.approx(
        {"saturated": 5 / 12, "saturated_units": 1 / 3, "dead": 0.0, "zeros": 0.0, "rms": np.sqrt(np.mean(y**2)), "rank": 0.0}
    )
    got = activation_numbers(np.array([[0.0, 1.0], [0.0, 0.0]]), "relu")
    assert (got["saturated"], got["dead"], got["zeros"]) == (0.0, 0.5, 0.75)


def test_a_slope_under_a_twentieth_of_the_steepest_is_saturated():
    for share, saturated in ((0.0499, 1.0), (0.0501, 0.0)):
        assert activation_numbers(np.full((3, 2), (1 - share) ** 0.5), "tanh")["saturated"] == saturated


def test_a_softmax_is_saturated_where_one_choice_takes_all():
    y = np.array([[0.99, 0.01, 0.0], [0.98, 0.01, 0.01], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])
    # 4 p (1 - p) is under .05 for p above .9873.
    assert activation_numbers(y, "softmax")["saturated"] == 0.5


def test_a_channel_is_dead_only_if_it_is_zero_everywhere():
    y = np.zeros((2, 3, 4, 4))
    y[1, 2, 3, 3] = 1.0  # channel 2 of three, on axis 1
    assert activation_numbers(y, "relu", channel_axis=1)["dead"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", ["relu", "relu6"])
def test_units_of_both_rectifiers_can_be_dead(kind):
    assert activation_numbers(np.array([[0.0, 1.0], [0.0, 6.0]]), kind)["dead"] == 0.5


def test_units_may_stand_on_another_axis():
    y = np.random.default_rng(0).normal(size=(20, 5, 6)) * np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    last, first = (activation_numbers(v, "linear", rank=True, channel_axis=axis) for v, axis in ((y, -1), (np.moveaxis(y, -1, 1), 1)))
    assert first == pytest.approx(last, rel=1e-5)
    choices = np.full((4, 2, 3), [0.5, 0.5, 0.0])
    assert activation_numbers(np.moveaxis(choices, -1, 1), "softmax", channel_axis=1)["saturated"] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_reported(bad):
    assert not np.isfinite(activation_numbers(np.array([[1.0, bad]]), "relu")["rms"])
    assert not np.isfinite(weight_numbers(np.array([1.0, 2.0]), np.array([bad, 1.0]))[0]["gradient_norm"])
    assert not np.isfinite(weight_numbers(np.array([bad, 2.0]), np.array([0.0, 1.0]))[0]["weight_norm"])


def test_weight_statistics_are_norms_and_shares():
    w, g = np.array([[3.0, -4.0]]), np.array([[0.0, 5.0]])
    got, _ = weight_numbers(w, g, before=ops.convert_to_tensor([[3.0, -1.0]]))
    reported = {"gradient_norm": 5.0, "weight_norm": 5.0, "largest": 4.0, "zero_gradients": 0.5, "update": 3.0}
    # The mean is -1/2, so that both numbers are 7/2 from it; their root mean square is that of 25/2.
    assert got == pytest.approx({**reported, "deviation": 3.5 / 12.5**0.5})
    assert weight_numbers(np.full((3, 2), 1e20), np.ones((3, 2)))[0]["deviation"] < 1e-6


def test_weights_of_zeros_have_numbers_of_zero():
    got, _ = weight_numbers(np.zeros((3, 2)), np.zeros((3, 2)))
    assert got == pytest.approx(dict.fromkeys(got, 0.0) | {"zero_gradients": 1.0}, abs=1e-29)


def test_the_update_of_a_large_weight_is_estimated_from_some_of_its_numbers():
    rng = np.random.default_rng(0)
    old, way = rng.normal(size=(300, 200)), rng.normal(size=(300, 200))
    _, kept = weight_numbers(old, old)
    got, _ = weight_numbers(old + way, old, before=kept)
    assert kept.shape[1] <= statistics.KEPT < old.size
    # The mean of 4,000 squares of normal numbers scatters by 2 %, its root by 1 %.
    assert got["update"] == pytest.approx(np.linalg.norm(way), rel=0.05)


def test_several_at_once_are_each_as_alone():
    rng = np.random.default_rng(0)
    values = [rng.uniform(-1, 1, size=(5, 3, 4)) * scale for scale in (0.1, 1.0, 1.01)]
    together = ops.convert_to_numpy(statistics.activation_statistics(values, "tanh", rank=True))
    for row, each in zip(together, values, strict=True):
        assert row.tolist() == pytest.approx(list(activation_numbers(each, "tanh", rank=True).values()), rel=1e-5)
    weights, gradients, kept = (ops.convert_to_tensor(rng.normal(size=(3, 2, 2)), "float32") for _ in range(3))
    kept = ops.reshape(kept, (3, 4))
    together, now = statistics.weight_statistics(list(weights), list(gradients), kept)
    for i in range(3):
        alone, _ = weight_numbers(weights[i], gradients[i], before=kept[i : i + 1])
        assert ops.convert_to_numpy(together)[i].tolist() == pytest.approx(list(alone.values()), rel=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(now), ops.convert_to_numpy(weights).reshape(3, 4))


@pytest.mark.parametrize("largest", [(8, 5), (90, 70)])
def test_weights_of_several_sizes_are_each_as_alone(largest):
    rng = np.random.default_rng(0)
    shapes = [largest, (7, 2), (2, 7), (3,), (1,)]
    weights, gradients, before = ([rng.normal(1.0, 1.0, size=shape).astype("float32") for shape in shapes] for _ in range(3))
    gradients[3][1] = 0.0
    weights[2][:] = 0.7
    _, kept = statistics.weight_statistics(before, gradients, ops.zeros((5, statistics.kept_of(largest[0] * largest[1]))))
    together, _ = statistics.weight_statistics(weights, gradients, kept)
    for row, w, g, old in zip(ops.convert_to_numpy(together), weights, gradients, before, strict=True):
        alone, _ = weight_numbers(w, g, before=ops.reshape(old, (1, -1))[:, :: -(-w.size // statistics.KEPT)])
        assert row.tolist() == pytest.approx(list(alone.values()), rel=1e-5, abs=1e-6)


def test_norms_survive_numbers_whose_squares_overflow_and_underflow():
    big, small = np.full(4, 1e30), np.full(4, 1e-30)
    got, _ = weight_numbers(big, small)
    assert got["weight_norm"] == pytest.approx(2e30, rel=1e-6)
    assert got["gradient_norm"] == pytest.approx(2e-30, rel=1e-6)


@pytest.mark.parametrize("shape", [(20, 6), (20, 3, 3, 6)])
def test_the_effective_rank_is_that_of_the_singular_values(shape):
    rng = np.random.default_rng(0)
    y = rng.normal(size=shape) * np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    flat = y.mean(axis=tuple(range(1, len(shape) - 1)))
    share = np.linalg.svd(flat, compute_uv=False)
    share = share / share.sum()
    assert activation_numbers(y, "linear", rank=True)["rank"] == pytest.approx(np.exp(-np.sum(share * np.log(share))), rel=1e-5)
    assert activation_numbers(np.outer(rng.normal(size=20), rng.normal(size=6)), "linear", rank=True)["rank"] == pytest.approx(1, abs=1e-4)


def output_numbers(p):
    numbers = ops.convert_to_numpy(statistics.output_statistics(p)).tolist()
    return dict(zip(statistics.OUTPUT_FIELDS, numbers, strict=True))


def test_spread_is_zero_for_a_constant_prediction_only():
    assert output_numbers(np.full((10, 3), 0.3))["spread"] < 1e-6
    # It differs between units alone.
    assert output_numbers(np.tile([0.1, 0.9], (10, 1)))["spread"] < 1e-6
    p = np.random.default_rng(0).normal(2.0, 0.5, (1000, 1))
    assert output_numbers(p)["spread"] == pytest.approx(p.std() / np.sqrt(np.mean(p**2)), rel=1e-5)


def test_predictions_in_half_precision_do_not_overflow():
    assert output_numbers(np.array([[400.0], [-400.0]], "float16"))["spread"] == pytest.approx(1.0)


def test_output_statistics_are_the_range_and_how_far_the_sums_are_from_one():
    got = output_numbers(np.array([[0.2, 0.8], [-0.5, 1.25]]))
    assert (got["low"], got["high"], got["sum_off"]) == pytest.approx((-0.5, 1.25, 0.25))
    assert output_numbers(np.array([0.5, 3.0]))["sum_off"] == pytest.approx(2.0)
    assert output_numbers(np.array([[0.5, 0.5], [0.2, 0.3], [0.6, 0.5]]))["sum_off"] == pytest.approx(0.5)
    assert output_numbers(np.array([[-3.0], [1.0]]))["high"] == 1.0
