"""From snapshots to findings: pure, so what lasts, what is critical and what the logs get is shown with made-up snapshots."""

import math
from dataclasses import replace

import pytest

from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import Aim
from keras_ext.callbacks.monitor.probe.training import Step, Training
from keras_ext.callbacks.monitor.rules.findings import by_layer, examine, passed, worst
from keras_ext.callbacks.monitor.snapshot import Activation, Output, Snapshot, Weight

HEALTHY = Activation("h1", "tanh", "", False, 0.1, 0.0, 0.0, 0.0, 0.5, True)
UNHEALTHY = replace(HEALTHY, saturated=0.9)
FIRST = Weight("h1", "h1/kernel", True, 0.1, 5.0, 1.0, 0.0, True)
LAST = replace(FIRST, layer="out", path="out/kernel")
POOR = replace(FIRST, scale=42.0, least_scale=0.8, most_scale=1.4)
ENDS = [replace(FIRST, gradient_norm=0.0), replace(LAST, gradient_norm=0.0)]
FADES = [replace(FIRST, gradient_norm=0.9e-5), replace(LAST, gradient_norm=0.1)]


def snapshot(loss=1.0, spread=0.5, activations=(HEALTHY,), weights=(FIRST, LAST), step=10, epoch=1):
    return Snapshot(step, epoch, loss, spread, tuple(activations), tuple(weights))


def run(*snapshots, patience=2, aims=()):
    found = []
    for i in range(len(snapshots)):
        found += examine(snapshots[: i + 1], Limits(), found, patience, aims)
    return found


def critical(found):
    return [(f.symptom, f.layer) for f in found if f.severity == "critical"]


def test_a_lasting_state_is_critical_only_while_the_loss_does_not_fall():
    stuck = run(*[snapshot(1.0, activations=[UNHEALTHY]) for _ in range(3)])
    assert [(f.symptom, f.severity) for f in stuck] == [("saturated", "warning"), ("saturated", "critical")]
    falls = run(*[snapshot(1.0 - 0.1 * i, activations=[UNHEALTHY]) for i in range(6)])
    assert [(f.symptom, f.severity) for f in falls] == [("saturated", "warning")]


def test_most_of_the_planned_steps_without_a_beginning_are_critical_with_the_cause_that_is_seen():
    aim = Aim("mean_squared_error", False, -1.0, 1.0, 1.0, 1.0)

    def of(input_rms=0.0, poor=False):
        weights = [(POOR if poor and i == 0 else FIRST, LAST) for i in range(11)]
        course = [replace(snapshot(1.0, weights=weights[i], step=10 * i, epoch=i), input_rms=input_rms) for i in range(11)]
        found = []
        for i in range(1, 12):
            found += examine(course[:i], Limits(), found, 2, [aim], Training(planned=133.0))
        return critical(found)

    assert of() == [("stalled_loss", None)]
    assert of(input_rms=50.0) == [("unscaled_input", None)]
    assert of(poor=True) == [("poor_initialization", "h1")]


def test_a_setting_that_keeps_a_network_from_learning_is_the_cause_of_what_else_lasts():
    aim = Aim("mean_squared_error", False, -1.0, 1.0, 1.0, 1.0)
    dead = [replace(HEALTHY, kind="relu", saturated=0.0, dead=1.0)]
    for training, root in (
        (Training(penalty=3.0), ("strong_decay", None)),
        (Training(penalty=1.0), ("dead_relu", "h1")),
        (Training(step=Step(rate=0.1, weight_decay=1.0)), ("strong_decay", None)),
        (Training(is_same=True), ("constant_output", None)),
    ):
        course, found = [snapshot(1.0, activations=dead) for _ in range(4)], []
        for i in range(1, 5):
            found += examine(course[:i], Limits(), found, 2, [aim], training)
        assert critical(found) == [root]


def test_targets_of_a_large_scale_are_fixed_before_what_they_break():
    aim = Aim("mean_squared_error", False, -400.0, 400.0, 172.0, 172.0**2)
    dead = [replace(HEALTHY, kind="relu", saturated=0.0, dead=1.0)]
    snapshots = [replace(snapshot(2e4, activations=dead), outputs=(Output(1, 0.0, 1.0, 0.0, 0.5),)) for _ in range(4)]
    (reported,) = [f for f in run(*snapshots, aims=(aim,)) if f.symptom == "dead_relu" and f.severity == "critical"]
    assert reported.advice.startswith(
        "The root mean square of the targets is 172, and so are the first errors: scale them to unit variance first."
    )
    (small,) = [f for f in run(*snapshots, aims=(replace(aim, rms=50.0),)) if f.symptom == "dead_relu" and f.severity == "critical"]
    assert small.advice.startswith("100% of its relu units")


def test_what_a_kernel_was_at_first_is_known_later():
    drawn = replace(FIRST, scale=1.0, least_scale=0.8, most_scale=1.4)
    grown = snapshot(activations=[UNHEALTHY], weights=[replace(drawn, scale=14.0), LAST])
    (reported,) = [f for f in run(snapshot(weights=[drawn, LAST], step=0), grown) if f.symptom == "saturated"]
    assert "has grown to that in training" in reported.advice


def test_a_constant_output_is_not_reported_to_raise_its_rate_as_well():
    reported = {f.symptom for f in run(*[snapshot(1.0, spread=0.0) for _ in range(9)])}
    assert "constant_output" in reported
    assert "stalled_loss" not in reported
    assert "stalled_loss" in {f.symptom for f in run(*[snapshot(1.0) for _ in range(9)])}


def test_a_state_must_last_for_patience_snapshots():
    snapshots = [snapshot(), snapshot(), snapshot(activations=[UNHEALTHY]), snapshot(), snapshot(activations=[UNHEALTHY]), snapshot()]
    assert {f.severity for f in run(*snapshots)} == {"warning"}
    assert {f.severity for f in run(*snapshots, patience=1)} == {"critical"}


def test_snapshots_beside_the_rhythm_warn_but_do_not_count():
    early = [replace(snapshot(activations=[UNHEALTHY]), is_regular=False) for _ in range(9)]
    assert [f.severity for f in run(snapshot(), *early)] == ["warning"]
    assert [f.severity for f in run(snapshot(activations=[UNHEALTHY]), *early, snapshot(activations=[UNHEALTHY]))] == ["warning"]
    assert [f.severity for f in run(snapshot(), snapshot(activations=[UNHEALTHY]), *early, snapshot(activations=[UNHEALTHY]))] == [
        "warning",
        "critical",
    ]
    assert [f.severity for f in run(snapshot(), replace(snapshot(math.nan), is_regular=False))] == ["critical"]


def test_a_snapshot_beside_the_rhythm_makes_nothing_critical_that_an_earlier_one_has_seen():
    unhealthy = snapshot(activations=[UNHEALTHY])
    assert [f.severity for f in run(snapshot(), unhealthy, snapshot(), replace(unhealthy, is_regular=False))] == ["warning"]


def test_what_is_not_finite_is_critical_at_once_and_alone():
    found = run(snapshot(), snapshot(math.nan, activations=[replace(UNHEALTHY, finite=False)]))
    assert [(f.symptom, f.severity, f.layer) for f in found] == [("non_finite", "critical", "h1")]


def test_a_finding_is_reported_once_a_severity():
    assert len([f for f in run(*[snapshot(1.0, activations=[UNHEALTHY]) for _ in range(10)]) if f.symptom == "saturated"]) == 2


def test_what_was_critical_is_no_warning_afterwards():
    found = run(snapshot(), snapshot(activations=[UNHEALTHY]), snapshot(0.8, activations=[UNHEALTHY]), patience=1)
    assert [f.severity for f in found] == ["critical"]


def test_the_first_unhealthy_layer_comes_first():
    found = run(snapshot(activations=[UNHEALTHY, replace(UNHEALTHY, layer="h2")]))
    assert [f.layer for f in found] == ["h1", "h2"]


def test_of_several_unhealthy_gates_of_a_layer_the_first_is_reported():
    (found,) = run(snapshot(activations=[replace(UNHEALTHY, kind="sigmoid", part=part) for part in ("input gate", "output gate")]))
    assert found.advice.startswith("90% of its sigmoid (input gate) outputs are saturated. Start its kernels with")


def test_a_state_of_the_first_snapshot_is_critical_if_the_network_still_learns_too_little_after_long():
    falls = [snapshot(1.0 - 0.05 * i, activations=[UNHEALTHY]) for i in range(8)]
    assert [f.severity for f in run(*falls[:6])] == ["warning"]
    assert [(f.symptom, f.severity) for f in run(*falls[:7])] == [("saturated", "warning"), ("saturated", "critical")]
    assert [f.severity for f in run(snapshot(), *falls[1:])] == ["warning"]  # was not there at first
    learned = [snapshot(max(1.0 - 0.2 * i, 0.1), activations=[UNHEALTHY]) for i in range(9)]
    assert [f.severity for f in run(*learned)] == ["warning"]


def test_what_was_well_in_between_is_not_critical_while_the_loss_falls():
    falls = [snapshot(1.0 - 0.05 * i, activations=[HEALTHY if i == 3 else UNHEALTHY]) for i in range(7)]
    assert [f.severity for f in run(*falls)] == ["warning"]


def test_once_the_network_has_learned_small_gradients_are_no_symptom():
    for weights, symptom in ((FADES, "vanishing_gradient"), (ENDS, "zero_gradient")):
        assert run(snapshot(1.0), snapshot(0.5, weights=weights), snapshot(0.5, weights=weights)) == []
        found = run(snapshot(1.0), snapshot(0.51, weights=weights), snapshot(0.51, weights=weights))
        assert [(f.symptom, f.severity) for f in found] == [(symptom, "warning")]


def test_a_gradient_that_is_gone_for_one_snapshot_is_not_reported():
    ends = snapshot(weights=ENDS)
    assert run(snapshot(), replace(ends, is_regular=False), snapshot()) == []
    assert [f.symptom for f in run(snapshot(), replace(ends, is_regular=False), ends)] == ["zero_gradient"]
    assert [f.symptom for f in run(ends)] == ["zero_gradient"]  # before the first step there is no other snapshot


@pytest.mark.parametrize(
    ("shown", "symptoms"),
    [
        ({"weights": FADES, "spread": 0.9e-3}, {"vanishing_gradient", "constant_output"}),
        ({"weights": ENDS}, {"zero_gradient"}),
        ({"weights": [replace(FIRST, update=0.0), LAST]}, {"unchanged_weights"}),
    ],
)
def test_what_may_follow_from_an_symptom_stays_a_warning(shown, symptoms):
    unhealthy, alone = snapshot(activations=[replace(UNHEALTHY, layer="h2")], **shown), snapshot(**shown)
    found = run(snapshot(step=0), unhealthy, unhealthy, unhealthy)
    assert {f.symptom for f in found} == {"saturated", *symptoms}
    assert critical(found) == [("saturated", "h2")]
    assert {symptom for symptom, _ in critical(run(snapshot(step=0), alone, alone, alone))} == symptoms


def test_a_loss_that_swings_behind_a_unhealthy_layer_stays_a_warning():
    aims = [Aim("mean_squared_error", False, 0.0, 1.0, 0.5, baseline=1.0)]
    for activation, expected in ((UNHEALTHY, ("saturated", "h1")), (HEALTHY, ("oscillating_loss", None))):
        found = run(snapshot(2.0), *[snapshot(loss, activations=[activation]) for loss in [1.2, 1.5] * 4], aims=aims)
        assert "oscillating_loss" in {f.symptom for f in found}
        assert critical(found) == [expected]


NOT_PROBABILITIES = Output(3, 0.0, 90.0, 120.0, 0.5)


@pytest.mark.parametrize("last", [None, replace(HEALTHY, layer="out", kind="relu", is_output=True)])
def test_an_output_that_its_loss_cannot_use_is_no_consequence_with_an_activation_and_without(last):
    aims, layer = [Aim("categorical_crossentropy", False, 0.0, 1.0, 0.3)], last and "out"

    def outputs(hidden, **more):
        return replace(snapshot(activations=[hidden, *filter(None, [last])], **more), outputs=(NOT_PROBABILITIES,))

    unhealthy = outputs(UNHEALTHY)
    assert critical(run(outputs(UNHEALTHY, step=0), unhealthy, unhealthy, aims=aims)) == [("output_mismatch", layer), ("saturated", "h1")]
    # The layer became so later.
    assert critical(run(outputs(HEALTHY, step=0), unhealthy, unhealthy, aims=aims)) == [("output_mismatch", layer)]


def test_of_two_symptoms_that_which_was_there_first_is_critical():
    later, first = replace(UNHEALTHY, layer="h1"), replace(UNHEALTHY, layer="h2")
    both = snapshot(activations=[later, first])
    assert critical(run(snapshot(activations=[first], step=0), both, both, both)) == [("saturated", "h2")]


def test_poor_first_weights_are_critical_with_what_follows_from_them_and_not_alone():
    start = snapshot(step=0, weights=[FIRST, replace(POOR, layer="h2")])
    assert [(f.symptom, f.severity) for f in run(start, *[snapshot()] * 9) if f.symptom != "stalled_loss"] == [
        ("poor_initialization", "warning")
    ]
    dead = snapshot(activations=[replace(HEALTHY, kind="relu", dead=0.9)])
    assert critical(run(start, dead, dead, dead)) == [("poor_initialization", "h2")]
    assert critical(run(start, snapshot(math.nan))) == [("poor_initialization", "h2"), ("non_finite", None)]
    own = snapshot(activations=[replace(HEALTHY, layer=name, kind="relu", dead=0.9) for name in ("h2", "h3")])
    assert critical(run(start, own, own, own)) == [("poor_initialization", "h2"), ("dead_relu", "h2")]


def test_a_constant_prediction_is_the_measure_where_its_loss_is_known():
    aims = [Aim("categorical_crossentropy", False, 0.0, 1.0, 0.3, baseline=2.3)]
    # Falls from three times to a tenth above that: too slowly to learn with what it has.
    slow = [snapshot(6.9 - 0.3 * i, activations=[UNHEALTHY]) for i in range(5)]
    found = [f for i in range(5) for f in examine(slow[: i + 1], Limits(), [], 2, aims)]
    assert "critical" in {f.severity for f in found}
    assert "critical" not in {f.severity for f in run(*slow)}


@pytest.mark.parametrize("field", ["saturated", "dead"])
@pytest.mark.parametrize(("share", "loss", "is_critical"), [(0.74, 0.9, False), (0.75, 0.9, True), (0.74, 0.96, True)])
def test_a_layer_of_which_a_part_works_does_not_stop_what_has_begun_to_learn(field, share, loss, is_critical):
    snapshots = [snapshot(1.0), *[snapshot(loss, activations=[replace(HEALTHY, **{field: share})])] * 4]
    assert bool(critical(run(*snapshots))) == is_critical


def test_a_falling_loss_does_not_excuse_an_output_that_it_cannot_use():
    aims = [Aim("categorical_crossentropy", False, 0.0, 1.0, 0.3, baseline=2.3)]

    def found(losses):
        snapshots = [replace(snapshot(loss, activations=[UNHEALTHY]), outputs=(NOT_PROBABILITIES,)) for loss in losses]
        return [symptom for symptom, _ in critical(run(*snapshots, aims=aims))]

    assert found([4.0, 2.0, 1.5, 1.3]) == ["output_mismatch"]
    assert found([4.0, 3.5, 3.0, 2.5, 2.0, 1.6, 1.4, 1.3]) == ["output_mismatch", "saturated"]
    assert found([4.0, 1.1, 1.0, 0.9]) == []  # it has learned all the same


def test_a_finding_reads_as_a_sentence():
    text = str(run(snapshot(activations=[UNHEALTHY]))[0])
    assert text.startswith('warning: saturated in layer "h1", epoch 1. 90% of its tanh outputs are saturated. Use relu')


def test_a_finding_has_the_number_the_limit_and_the_moment():
    (found,) = run(snapshot(activations=[UNHEALTHY], step=7, epoch=3))
    assert (found.value, found.limit, found.step, found.epoch) == (0.9, 0.5, 7, 3)


def test_a_critical_finding_says_since_when():
    found = run(
        snapshot(step=0),
        snapshot(activations=[UNHEALTHY], step=7),
        snapshot(activations=[UNHEALTHY], step=9),
        snapshot(activations=[UNHEALTHY], step=11),
    )
    assert [f.advice[-25:] for f in found] == ["on before the activation.", " First seen after step 7."]
    found = run(snapshot(activations=[UNHEALTHY], step=0), snapshot(activations=[UNHEALTHY]), snapshot(activations=[UNHEALTHY]))
    assert [f.advice[-29:] for f in found][1:] == ["t seen before the first step."]


def test_log_numbers_are_the_last_and_the_worst():
    snapshots = [snapshot(activations=[UNHEALTHY]), snapshot(weights=[replace(FIRST, gradient_norm=0.01), LAST])]
    numbers = worst(snapshots)
    assert (numbers["saturation"], numbers["saturation_worst"]) == (0.1, 0.9)
    assert numbers["gradient_ratio"] == pytest.approx(0.1)
    assert numbers["gradient_ratio_worst"] == pytest.approx(0.1)
    assert numbers["dead"] == numbers["dead_worst"] == 0.0


def test_log_numbers_are_those_of_the_worst_hidden_layer_and_the_worst_snapshot():
    layers = [HEALTHY, replace(HEALTHY, layer="h2", saturated=0.3, dead=0.2), replace(HEALTHY, layer="out", saturated=0.9, is_output=True)]
    numbers = worst([snapshot(), snapshot(activations=[UNHEALTHY]), snapshot(activations=layers)])
    assert (numbers["saturation"], numbers["saturation_worst"], numbers["dead"]) == (0.3, 0.9, 0.2)
    numbers = worst([snapshot(), snapshot(math.nan), snapshot()])
    assert (numbers["saturation"], numbers["dead"], numbers["gradient_ratio"]) == (0.1, 0.0, 1.0)
    assert (numbers["saturation_worst"], numbers["dead_worst"], numbers["gradient_ratio_worst"]) == (1.0, 1.0, 0.0)


def test_log_numbers_of_single_layers_are_of_those_that_can_saturate_or_die():
    layers = [HEALTHY, replace(HEALTHY, layer="h2", kind="relu", saturated=0.0, dead=0.2), replace(UNHEALTHY, layer="out", is_output=True)]
    assert by_layer(snapshot(activations=layers)) == {"saturation/h1": 0.1, "dead/h2": 0.2}
    assert by_layer(snapshot(math.nan, activations=layers)) == {"saturation/h1": 1.0, "dead/h2": 1.0}


@pytest.mark.parametrize(("step", "epoch", "when"), [(0, 0, "before the first step"), (10, 0, "step 10"), (90, 2, "epoch 2")])
def test_a_finding_says_when_it_was_made(step, epoch, when):
    finding = Finding("saturated", "warning", "h1", step, epoch, 0.9, 0.5, "Use relu.")
    assert str(finding) == f'warning: saturated in layer "h1", {when}. Use relu.'


def test_a_state_must_last_for_steps_too():
    snapshots = [snapshot(activations=[UNHEALTHY], step=5 * i, epoch=i) for i in range(41)]

    def since(planned):
        training, found = Training(planned=planned), []
        for i in range(1, len(snapshots) + 1):
            found = examine(snapshots[:i], Limits(), [], 2, training=training)
            if critical(found):
                return snapshots[i - 1].step
        return None

    assert since(math.nan) == 10
    assert since(60) == 30  # half of what is planned
    assert since(500) == 100
    assert since(1500) == 150  # a tenth


def test_a_setting_that_keeps_a_network_from_learning_is_critical_before_what_follows_from_it():
    training, found = Training(dropping=(("drop", 0.99),)), []
    snapshots = [snapshot(step=0, epoch=0), *[snapshot(activations=[replace(HEALTHY, kind="relu", dead=0.9)]) for _ in range(3)]]
    for i in range(1, 5):
        found += examine(snapshots[:i], Limits(), found, training=training)
    assert critical(found) == [("heavy_dropout", "drop")]
    assert ("dead_relu", "warning") in {(f.symptom, f.severity) for f in found}


def test_a_negative_cross_entropy_is_nothing_learned():
    aims = [Aim("binary_crossentropy", False, 0.0, 255.0, 100.0)]
    snapshots = [replace(snapshot(loss), outputs=(Output(1, 0.0, 1.0, 1.0, 0.5),)) for loss in (1.0, -50.0, -400.0, -900.0)]
    assert critical(run(*snapshots, aims=aims)) == [("output_mismatch", None)]


def test_what_began_as_nan_is_reported_once():
    bad = snapshot(math.nan, activations=[replace(HEALTHY, finite=False)])
    assert [f.symptom for f in run(bad, snapshot(math.nan))] == ["non_finite"]


def test_a_warning_that_ends_while_the_network_learns_has_passed():
    known = run(snapshot(1.0, activations=[UNHEALTHY], step=0, epoch=0))
    assert [f.symptom for f in known] == ["saturated"]
    course = [snapshot(loss, activations=[UNHEALTHY], step=i, epoch=i) for i, loss in enumerate((1.0, 0.9, 0.8))]
    falls, stands = (snapshot(loss, step=3, epoch=3) for loss in (0.7, 1.0))
    assert passed([*course, falls], Limits(), known) == known
    assert passed([*course, replace(falls, is_regular=False)], Limits(), known) == []
    assert passed([*course, replace(falls, activations=(UNHEALTHY,))], Limits(), known) == []
    assert passed([replace(each, loss=1.0) for each in course] + [stands], Limits(), known) == []
    assert passed([*course[2:], falls], Limits(), known) == []  # too few to tell
    exploded = [replace(known[0], symptom="exploding_gradient")]
    assert passed([*course, falls], Limits(), exploded) == []
    grave = [*known, replace(known[0], severity="critical")]
    assert passed([*course, falls], Limits(), grave) == []


def test_a_first_gradient_of_exactly_zero_asks_for_an_operation_without_one():
    zero, faint = (replace(FIRST, gradient_norm=norm) for norm in (0.0, 1e-9))
    for first, asks in ((zero, True), (faint, False)):
        (found,) = [f for f in run(snapshot(weights=(first, LAST)), snapshot(weights=(first, LAST))) if f.severity == "warning"]
        assert (found.symptom, "round, sign, argmax" in found.advice) == ("vanishing_gradient", asks)


def test_a_loss_of_unknown_least_value_that_fell_and_left_the_same_prediction_for_all_is_critical():
    """As a segmentation does that ends with nothing in the foreground."""
    aim = Aim("dice", False, 0.0, 1.0, 0.5, deviation=0.45, units=1)
    for deviation, found in ((1e-8, [("constant_output", None)]), (0.3, [])):
        output = Output(1, 0.0, 1e-7, 0.0, 0.9, deviation=deviation)
        course = [replace(snapshot(1.0 if i < 2 else 0.2, step=20 * i, epoch=i), outputs=(output,)) for i in range(12)]
        assert critical(run(*course, aims=[aim])) == found
