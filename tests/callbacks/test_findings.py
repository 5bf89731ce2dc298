"""The rules: pure, so each is shown at its limit with made-up looks."""

import math
from dataclasses import replace

import pytest

from keras_ext.callbacks.findings import examine, worst
from keras_ext.callbacks.limits import Limits
from keras_ext.callbacks.look import Activation, Look, Output, Weight
from keras_ext.callbacks.rules import states
from keras_ext.callbacks.setting import Aim

HEALTHY = Activation("h1", "tanh", "", False, 0.1, 0.0, 0.0, 0.0, 0.5, True)
FIRST = Weight("h1", "h1/kernel", True, 0.1, 5.0, 1.0, 0.0, True)
LAST = replace(FIRST, layer="out", path="out/kernel")


def look(loss=1.0, spread=0.5, activations=(HEALTHY,), weights=(FIRST, LAST), step=10, epoch=1):
    return Look(step, epoch, loss, spread, tuple(activations), tuple(weights))


def symptoms(a_look, limits=None):
    return [s.symptom for s in states(a_look, limits or Limits())]


def test_a_healthy_look_has_no_symptom():
    assert symptoms(look()) == []


@pytest.mark.parametrize(
    ("sick", "symptom"),
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
def test_each_symptom_alone(sick, symptom):
    assert symptoms(look(**sick)) == [symptom]


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
    assert symptoms(look(**sound)) == []


def run(*looks, limits=None, patience=2):
    found = []
    for i in range(len(looks)):
        found += examine(looks[: i + 1], limits or Limits(), found, patience)
    return found


SICK = replace(HEALTHY, saturated=0.9)


def test_a_lasting_state_is_critical_only_while_the_loss_does_not_fall():
    stuck = run(*[look(1.0, activations=[SICK]) for _ in range(3)])
    assert [(f.symptom, f.severity) for f in stuck] == [("saturated", "warning"), ("saturated", "critical")]
    falls = run(*[look(1.0 - 0.1 * i, activations=[SICK]) for i in range(6)])
    assert [(f.symptom, f.severity) for f in falls] == [("saturated", "warning")]


def test_a_state_must_last_for_patience_looks():
    looks = [look(), look(), look(activations=[SICK]), look(), look(activations=[SICK]), look()]
    assert {f.severity for f in run(*looks)} == {"warning"}
    assert {f.severity for f in run(*looks, patience=1)} == {"critical"}


def test_looks_beside_the_rhythm_warn_but_do_not_count():
    early = [replace(look(activations=[SICK]), is_regular=False) for _ in range(9)]
    assert [f.severity for f in run(look(), *early)] == ["warning"]
    assert [f.severity for f in run(look(activations=[SICK]), *early, look(activations=[SICK]))] == ["warning"]
    assert [f.severity for f in run(look(), look(activations=[SICK]), *early, look(activations=[SICK]))] == ["warning", "critical"]
    assert [f.severity for f in run(look(), replace(look(math.nan), is_regular=False))] == ["critical"]


def test_what_is_not_finite_is_critical_at_once_and_alone():
    found = run(look(), look(math.nan, activations=[replace(SICK, finite=False)]))
    assert [(f.symptom, f.severity, f.layer) for f in found] == [("non_finite", "critical", "h1")]


def test_a_finding_is_told_once_a_severity():
    assert len([f for f in run(*[look(1.0, activations=[SICK]) for _ in range(10)]) if f.symptom == "saturated"]) == 2


def test_the_first_sick_layer_comes_first():
    found = run(look(activations=[SICK, replace(SICK, layer="h2")]))
    assert [f.layer for f in found] == ["h1", "h2"]


def test_a_state_of_the_first_look_is_critical_if_the_network_still_learns_too_little_after_long():
    falls = [look(1.0 - 0.05 * i, activations=[SICK]) for i in range(8)]
    assert [f.severity for f in run(*falls[:6])] == ["warning"]
    assert [(f.symptom, f.severity) for f in run(*falls[:7])] == [("saturated", "warning"), ("saturated", "critical")]
    assert [f.severity for f in run(look(), *falls[1:])] == ["warning"]  # was not there at first
    learned = [look(max(1.0 - 0.2 * i, 0.1), activations=[SICK]) for i in range(9)]
    assert [f.severity for f in run(*learned)] == ["warning"]


def test_once_the_network_has_learned_small_gradients_are_no_illness():
    fades = [replace(FIRST, gradient_norm=0.9e-5), replace(LAST, gradient_norm=0.1)]
    ends = [replace(FIRST, gradient_norm=0.0), replace(LAST, gradient_norm=0.0)]
    for weights, symptom in ((fades, "vanishing_gradient"), (ends, "zero_gradient")):
        assert run(look(1.0), look(0.5, weights=weights), look(0.5, weights=weights)) == []
        found = run(look(1.0), look(0.51, weights=weights), look(0.51, weights=weights))
        assert [(f.symptom, f.severity) for f in found] == [(symptom, "warning")]


def test_a_gradient_that_is_gone_for_one_look_is_not_told():
    ends = look(weights=[replace(FIRST, gradient_norm=0.0), replace(LAST, gradient_norm=0.0)])
    assert run(look(), replace(ends, is_regular=False), look()) == []
    assert [f.symptom for f in run(look(), replace(ends, is_regular=False), ends)] == ["zero_gradient"]
    assert [f.symptom for f in run(ends)] == ["zero_gradient"]  # before the first step there is no other look


POOR = replace(FIRST, scale=42.0, least_scale=0.8, most_scale=1.4)


def test_what_may_follow_from_an_illness_stays_a_warning():
    vanishes = [replace(FIRST, gradient_norm=0.9e-5), replace(LAST, gradient_norm=0.1)]
    sick = look(activations=[replace(SICK, layer="h2")], weights=vanishes, spread=0.9e-3)
    found = run(look(step=0), sick, sick, sick)
    assert {f.symptom for f in found} == {"saturated", "vanishing_gradient", "constant_output"}
    assert [(f.symptom, f.layer) for f in found if f.severity == "critical"] == [("saturated", "h2")]
    alone = look(weights=vanishes, spread=0.9e-3)
    critical = {f.symptom for f in run(look(step=0), alone, alone, alone) if f.severity == "critical"}
    assert critical == {"vanishing_gradient", "constant_output"}


def test_of_two_illnesses_that_which_was_there_first_is_critical():
    later, first = replace(SICK, layer="h1"), replace(SICK, layer="h2")
    both = look(activations=[later, first])
    found = run(look(activations=[first], step=0), both, both, both)
    assert [f.layer for f in found if f.severity == "critical"] == ["h2"]


def test_poor_first_weights_are_critical_with_what_follows_from_them_and_not_alone():
    start = look(step=0, weights=[FIRST, replace(POOR, layer="h2")])
    assert [(f.symptom, f.severity) for f in run(start, *[look()] * 9) if f.symptom != "stalled_loss"] == [
        ("poor_initialization", "warning")
    ]
    dead = look(activations=[replace(HEALTHY, kind="relu", dead=0.9)])
    found = run(start, dead, dead, dead)
    assert [(f.symptom, f.layer) for f in found if f.severity == "critical"] == [("poor_initialization", "h2")]
    critical = [(f.symptom, f.layer) for f in run(start, look(math.nan)) if f.severity == "critical"]
    assert critical == [("poor_initialization", "h2"), ("non_finite", None)]
    own = look(activations=[replace(HEALTHY, layer=name, kind="relu", dead=0.9) for name in ("h2", "h3")])
    critical = [(f.symptom, f.layer) for f in run(start, own, own, own) if f.severity == "critical"]
    assert critical == [("poor_initialization", "h2"), ("dead_relu", "h2")]


def test_a_constant_prediction_is_the_measure_where_its_loss_is_known():
    aims = [Aim("categorical_crossentropy", False, 0.0, 1.0, 0.3, baseline=2.3)]
    # Falls from three times to a tenth above that: too slowly to learn with what it has.
    slow = [look(6.9 - 0.3 * i, activations=[SICK]) for i in range(5)]
    found = [f for i in range(5) for f in examine(slow[: i + 1], Limits(), [], 2, aims)]
    assert "critical" in {f.severity for f in found}
    assert "critical" not in {f.severity for f in run(*slow)}


def test_limits_are_checked():
    with pytest.raises(ValueError) as raised:
        Limits(saturated=1.5)
    assert str(raised.value) == "`saturated` must be a number in (0, 1], got 1.5."


def test_a_finding_reads_as_a_sentence():
    text = str(run(look(activations=[SICK]))[0])
    assert text.startswith('warning: saturated in layer "h1", epoch 1. 90% of its tanh outputs are saturated. Use relu')


def test_a_layer_of_which_a_part_works_does_not_stop_what_has_begun_to_learn():
    for share, loss, is_critical in ((0.7, 0.9, False), (0.8, 0.9, True), (0.7, 0.96, True)):
        half = replace(HEALTHY, kind="relu", dead=share)
        looks = [look(1.0), *[look(loss, activations=[half])] * 4]
        assert ("critical" in {f.severity for f in run(*looks)}) == is_critical


def test_a_falling_loss_does_not_excuse_an_output_that_it_cannot_use():
    aims = [Aim("categorical_crossentropy", False, 0.0, 1.0, 0.3, baseline=2.3)]
    ends = Output(3, 0.0, 90.0, 120.0, 0.5)

    def found(losses):
        looks = [replace(look(loss, activations=[SICK]), outputs=(ends,)) for loss in losses]
        known = []
        for i in range(len(looks)):
            known += examine(looks[: i + 1], Limits(), known, 2, aims)
        return [f.symptom for f in known if f.severity == "critical"]

    assert found([4.0, 2.0, 1.5, 1.3]) == ["output_mismatch"]
    assert found([4.0, 3.5, 3.0, 2.5, 2.0, 1.6, 1.4, 1.3]) == ["output_mismatch", "saturated"]
    assert found([4.0, 1.1, 1.0, 0.9]) == []  # it has learned all the same


def test_a_critical_finding_says_since_when():
    found = run(look(step=0), look(activations=[SICK], step=7), look(activations=[SICK], step=9), look(activations=[SICK], step=11))
    assert [f.advice[-25:] for f in found] == ["on before the activation.", " First seen after step 7."]


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
def test_the_mend_is_that_of_what_the_look_shows(weights, rms, said):
    sick = replace(look(activations=[SICK], weights=weights), input_rms=rms)
    (advice,) = [s.advice for s in states(sick, Limits()) if s.symptom == "saturated"]
    assert said in advice


def test_log_numbers_are_the_last_and_the_worst():
    looks = [look(activations=[SICK]), look(weights=[replace(FIRST, gradient_norm=0.01), LAST])]
    numbers = worst(looks)
    assert (numbers["saturation"], numbers["saturation_worst"]) == (0.1, 0.9)
    assert numbers["gradient_ratio"] == pytest.approx(0.1)
    assert numbers["gradient_ratio_worst"] == pytest.approx(0.1)
    assert numbers["dead"] == numbers["dead_worst"] == 0.0
