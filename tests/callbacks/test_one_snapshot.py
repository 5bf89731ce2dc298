"""What the rules see in one snapshot: pure, so each is shown at its limit with made-up snapshots."""

import math
from dataclasses import replace

import pytest

from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import Aim
from keras_ext.callbacks.monitor.rules.symptoms import states
from keras_ext.callbacks.monitor.snapshot import Activation, Output, Snapshot, Weight

HEALTHY = Activation("h1", "tanh", "", False, 0.1, 0.0, 0.0, 0.0, 0.5, True)
UNHEALTHY = replace(HEALTHY, saturated=0.9)
FIRST = Weight("h1", "h1/kernel", True, 0.1, 5.0, 1.0, 0.0, True)
LAST = replace(FIRST, layer="out", path="out/kernel")
POOR = replace(FIRST, scale=42.0, least_scale=0.8, most_scale=1.4)


def snapshot(loss=1.0, spread=0.5, activations=(HEALTHY,), weights=(FIRST, LAST), step=10, epoch=1):
    return Snapshot(step, epoch, loss, spread, tuple(activations), tuple(weights))


def symptoms(a_snapshot, limits=None):
    return [s.symptom for s in states(a_snapshot, limits or Limits())]


def reported(a_snapshot):
    return [(s.symptom, s.layer) for s in states(a_snapshot, Limits())]


def test_a_healthy_snapshot_has_no_symptom():
    assert symptoms(snapshot()) == []


@pytest.mark.parametrize(
    ("unhealthy", "symptom"),
    [
        ({"activations": [replace(HEALTHY, saturated=0.51)]}, "saturated"),
        ({"activations": [replace(HEALTHY, kind="relu", dead=0.5)]}, "dead_relu"),
        ({"activations": [replace(HEALTHY, rms=1.1e4)]}, "exploding_activation"),
        ({"weights": [replace(FIRST, gradient_norm=0.9e-3), replace(LAST, gradient_norm=1.0)]}, "vanishing_gradient"),
        ({"weights": [replace(FIRST, gradient_norm=0.0), replace(LAST, gradient_norm=0.0)]}, "zero_gradient"),
        ({"weights": [replace(FIRST, gradient_norm=1001.0)]}, "exploding_gradient"),
        ({"weights": [replace(FIRST, largest=1001.0)]}, "exploding_weight"),
        ({"weights": [replace(FIRST, update=0.0), LAST]}, "unchanged_weights"),
        ({"spread": 0.9e-3}, "constant_output"),
        ({"loss": math.nan}, "non_finite"),
        ({"activations": [replace(HEALTHY, finite=False)]}, "non_finite"),
        ({"weights": [replace(FIRST, finite=False)]}, "non_finite"),
    ],
)
def test_each_symptom_alone(unhealthy, symptom):
    assert symptoms(snapshot(**unhealthy)) == [symptom]


@pytest.mark.parametrize(
    "sound",
    [
        {"activations": [replace(HEALTHY, saturated=0.5)]},
        {"activations": [replace(HEALTHY, saturated=1.0, is_output=True)]},
        {"activations": [replace(HEALTHY, saturated=1.0, kind="softmax")]},  # attention that is sure of itself
        {"activations": [replace(HEALTHY, kind="relu", dead=0.49)]},
        {"weights": [replace(FIRST, gradient_norm=0.9e-3), replace(LAST, gradient_norm=0.1)]},  # all of it is small
        {"weights": [replace(FIRST, gradient_norm=0.1), replace(LAST, gradient_norm=500.0)]},  # small only beside the last
        {"weights": [LAST, replace(FIRST, update=0.0, gradient_norm=0.0)]},  # no gradient, no step
        {"weights": [replace(FIRST, update=0.0, zero_gradients=0.9), LAST]},  # an embedding of which the batches named other rows
        {"weights": [replace(FIRST, update=1e-9), LAST]},
        {"spread": 0.0, "step": 0},  # before the first step a network may say nothing yet
    ],
)
def test_within_the_limits_nothing_is_said(sound):
    assert symptoms(snapshot(**sound)) == []


OWN = Limits(saturated=0.4, dead=0.45, exploding_activation=2e4, exploding_gradient=3e3, exploding_weight=4e3, constant_output=2e-3)


@pytest.mark.parametrize(
    ("unhealthy", "symptom", "layer", "value", "limit"),
    [
        ({"activations": [replace(HEALTHY, saturated=0.41, saturated_units=0.2)]}, "saturated", "h1", 0.41, 0.4),
        ({"activations": [replace(HEALTHY, kind="relu", dead=0.45, zeros=0.7)]}, "dead_relu", "h1", 0.45, 0.45),
        ({"activations": [replace(HEALTHY, rms=2.1e4)]}, "exploding_activation", "h1", 2.1e4, 2e4),
        ({"weights": [FIRST, replace(LAST, gradient_norm=3001.0)]}, "exploding_gradient", "out", 3001.0, 3e3),
        ({"weights": [FIRST, replace(LAST, largest=4001.0)]}, "exploding_weight", "out", 4001.0, 4e3),
        ({"spread": 1.9e-3}, "constant_output", None, 1.9e-3, 2e-3),
    ],
)
def test_each_symptom_has_its_own_number_and_limit(unhealthy, symptom, layer, value, limit):
    (state,) = states(snapshot(**unhealthy), OWN)
    assert (state.symptom, state.layer, state.value, state.limit) == (symptom, layer, value, limit)


def test_weights_and_gradients_have_each_their_own_limit():
    assert list(states(snapshot(weights=[FIRST, replace(LAST, largest=3500.0)]), OWN)) == []


def test_a_kernel_that_stands_before_a_normalization_is_a_matter_of_small_batches():
    stands = replace(FIRST, update=0.0)
    plain, normalized = (next(states(snapshot(weights=[w, LAST]), Limits())) for w in (stands, replace(stands, normalized=True)))
    assert (plain.symptom, normalized.symptom) == ("unchanged_weights", "unchanged_weights")
    assert "batch of one sample" in normalized.advice
    assert "batch of one sample" not in plain.advice


@pytest.mark.parametrize(
    ("aim", "deviation", "is_found"),
    [
        (None, 0.009, True),  # no targets
        (None, 0.011, False),
        (Aim("own", False, 0.0, 9.0, 5.0, units=1), 0.009, True),  # targets that are not what the outputs are to be
        (Aim("own", False, 0.0, 9.0, 5.0, units=8), 0.009, False),
    ],
)
def test_outputs_that_have_shrunk_to_one_point_are_critical_though_their_loss_falls(aim, deviation, is_found):
    first, last = (replace(snapshot(), outputs=(Output(8, -1.0, 1.0, 1.0, 0.9, d),)) for d in (1.0, deviation))
    found = [s for s in states(last, Limits(), [aim], first) if s.symptom == "constant_output"]
    assert [(s.value, s.limit, s.ignores_loss) for s in found] == [(deviation, 0.01, True)] * is_found
    assert "constant_output" not in [s.symptom for s in states(replace(last, has_loss=False), Limits(), [aim], first)]


def test_biases_are_not_judged_as_kernels_are():
    bias = replace(FIRST, path="h1/bias", is_kernel=False, update=0.0, largest=2e3, gradient_norm=2e3)
    assert reported(snapshot(weights=[FIRST, bias, LAST])) == []


def test_a_symptom_is_that_of_the_layer_where_it_begins():
    assert reported(snapshot(weights=[replace(FIRST, gradient_norm=0.0), LAST])) == [("vanishing_gradient", "h1")]
    # A value that is not finite makes the gradients of the layers before it so.
    unhealthy = snapshot(activations=[replace(HEALTHY, layer="h2", finite=False)], weights=[replace(FIRST, finite=False)])
    assert reported(unhealthy) == [("non_finite", "h2")]


def test_a_kernel_that_stands_still_is_reported_at_regular_snapshots_unless_half_of_its_gradient_is_zero():
    still = snapshot(weights=[replace(FIRST, update=0.0, zero_gradients=0.49), LAST])
    assert reported(still) == [("unchanged_weights", "h1")]
    assert reported(replace(still, is_regular=False)) == []
    assert reported(snapshot(weights=[replace(FIRST, update=0.0, zero_gradients=0.5), LAST])) == []


@pytest.mark.parametrize(
    ("weights", "rms", "said"),
    [
        ([FIRST, LAST], 25.0, "its inputs is 25: scale them"),
        ([LAST, FIRST], 25.0, "are saturated. Use relu"),  # what the first layer is given is not this layer's input
        ([replace(FIRST, update=3.0), LAST], 1.0, "has gone 60% of its own length"),
        ([replace(FIRST, update=2.4), LAST], 1.0, "are saturated. Use relu"),
        ([replace(FIRST, scale=5.0, most_scale=1.4), LAST], 1.0, "is 3.57 times as large"),
        ([replace(FIRST, scale=4.0, most_scale=1.4), LAST], 1.0, "are saturated. Use relu"),
    ],
)
def test_the_fix_is_that_of_what_the_snapshot_shows(weights, rms, said):
    unhealthy = replace(snapshot(activations=[UNHEALTHY], weights=weights), input_rms=rms)
    (advice,) = [s.advice for s in states(unhealthy, Limits()) if s.symptom == "saturated"]
    assert said in advice


def test_a_kernel_that_has_grown_is_not_to_start_smaller():
    drawn = replace(FIRST, scale=1.0, most_scale=1.4)
    dead = snapshot(activations=[replace(HEALTHY, kind="relu", dead=1.0)], weights=[replace(drawn, scale=14.0), LAST])
    (grown,) = states(dead, Limits(), first=snapshot(weights=[drawn, LAST]))
    assert "is 10 times as large as its fans ask for, and has grown to that in training: lower the learning rate" in grown.advice
    (large,) = states(dead, Limits(), first=dead)
    assert "fans ask for: start it smaller." in large.advice


def test_who_clips_already_is_reported_to_clip_more():
    steep = snapshot(weights=[replace(FIRST, gradient_norm=1e5), LAST])
    (alone,) = states(steep, Limits())
    assert "Put GradientClipping around the optimizer, scale" in alone.advice
    (clipped,) = states(replace(steep, clipped=0.9), Limits())
    assert "Lower the threshold of its GradientClipping, which changed 90% of the last steps, scale" in clipped.advice


def test_dead_units_have_the_fix_of_what_the_snapshot_shows_too():
    dead = snapshot(activations=[replace(HEALTHY, kind="relu", dead=0.6)], weights=[replace(FIRST, update=3.0), LAST])
    (state,) = states(dead, Limits())
    assert state.advice.startswith("60% of its relu units are zero on every sample. Its kernel has gone 60% of its own length")


def poor(*weights, step=0):
    reported = states(snapshot(step=step, weights=[*weights, LAST]), Limits())
    return [(s.layer, round(s.value, 6), s.limit) for s in reported if s.symptom == "poor_initialization"]


def test_first_weights_are_reported_with_their_number_and_its_limit():
    assert poor(POOR) == [("h1", 30.0, 10.0)]
    # Numbers that are nearly alike.
    assert poor(replace(POOR, scale=1.0, deviation=0.9e-3)) == [("h1", 0.9e-3, 1e-3)]
    assert poor(replace(POOR, scale=1.0, deviation=1e-3)) == []
    for path in ("h1/bias", "h1/beta"):
        assert poor(replace(FIRST, path=path, is_kernel=False, largest=50.0)) == [("h1", 50.0, 5.0)]


def test_a_layer_of_several_poor_weights_is_reported_once_by_the_first():
    assert poor(POOR, replace(POOR, path="h1/recurrent_kernel", scale=70.0)) == [("h1", 30.0, 10.0)]


def test_a_normalized_kernel_of_zeros_has_no_scale_to_judge():
    assert poor(replace(POOR, scale=0.0, normalized=True), step=10) == []


def test_a_model_without_a_kernel_has_no_symptom():
    assert symptoms(snapshot(weights=[replace(FIRST, path="h1/bias", is_kernel=False)], step=0)) == []


def test_first_weights_are_reported_before_what_follows_from_them():
    assert symptoms(snapshot(activations=[UNHEALTHY], weights=[POOR, LAST], step=0)) == ["poor_initialization", "saturated"]


def test_limits_are_checked():
    with pytest.raises(ValueError) as raised:
        Limits(saturated=1.5)
    assert str(raised.value) == "`saturated` must be a number in (0, 1], got 1.5."


@pytest.mark.parametrize(("zeros", "hardly_differs"), [(0.6, True), (0.603, True), (0.62, False), (0.8, False)])
def test_dead_units_among_others_that_are_never_zero_are_those_of_samples_that_hardly_differ(zeros, hardly_differs):
    dead = snapshot(activations=[replace(HEALTHY, kind="relu", dead=0.6, zeros=zeros)])
    (state,) = states(dead, Limits())
    assert ("hardly differs between samples" in state.advice) == hardly_differs
