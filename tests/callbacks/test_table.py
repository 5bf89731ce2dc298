"""The table and the words that all reports share."""

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.report.table import table
from keras_ext.callbacks.monitor.snapshot import Activation, Snapshot, Weight, layer_states, layers_of
from keras_ext.callbacks.monitor.wording import NO_SNAPSHOT, advice_of, grouped, latest, number, share, short_names, verdict, worst_of

pytestmark = pytest.mark.backend_free


def shown(snapshots, findings, width=140, colour=False):
    text = io.StringIO()
    Console(file=text, width=width, force_terminal=colour, color_system="standard" if colour else None).print(table(snapshots, findings))
    return text.getvalue()


def row(text, layer):
    return next(line.split() for line in text.splitlines() if line.strip().startswith(f"{layer} "))


def test_a_row_merges_activation_and_kernel_of_the_last_snapshot(made_snapshots):
    text = shown(*made_snapshots())
    assert row(text, "layer_1") == ["layer_1", "50%", "-", "0.0399", "0.00499", "0.00125", "critical:", "vanishing", "gradient"]
    assert row(text, "layer_2") == ["layer_2", "-", "22%", "0.126", "0.0158", "0.0025", "warning:", "dead", "relu"]
    assert row(text, "layer_4")[1:3] == ["0%", "-"]


def test_the_saturation_of_an_output_stands_in_brackets(made_snapshots):
    snapshots, _ = made_snapshots()
    sure = replace(snapshots[-1], activations=tuple(replace(a, saturated=0.76) for a in snapshots[-1].activations))
    text = shown([sure], [])
    assert (row(text, "layer_1")[1], row(text, "layer_4")[1]) == ("76%", "(76%)")


def test_an_update_that_was_not_measured_is_a_dash(made_snapshots):
    assert row(shown(*made_snapshots(snapshots=1)), "layer_3")[5] == "-"


def test_a_layer_that_is_not_finite_says_so(made_snapshots):
    snapshots, _ = made_snapshots(unhealthy=True)
    assert row(shown(snapshots, []), "layer_1")[1:8] == ["not", "finite", "-", "not", "finite", "-", "0.00125"]


def test_below_the_table_are_the_findings_with_advice(made_snapshots):
    text = shown(*made_snapshots())
    assert 'critical: saturated in layer "layer_1", epoch 2, step 90. 90% of its sigmoid outputs are saturated. Use relu.' in text
    assert "warning: constant output in the network, epoch 2, step 90. The predictions do not depend on the input." in text
    assert "55%" not in text, "the warning that became critical is reported once"
    assert text.index("critical: vanishing gradient in layer") < text.index("warning: dead relu in")


def test_severity_has_a_colour(made_snapshots):
    text = shown(*made_snapshots(), colour=True)
    assert "\x1b[1;31mcritical: " in text
    assert "\x1b[33mwarning: " in text


def test_without_snapshots_it_says_so():
    assert shown([], []).strip() == NO_SNAPSHOT


def test_names_are_no_markup(made_snapshots):
    snapshots, _ = made_snapshots()
    named = replace(snapshots[0].activations[0], layer="[red]odd[/red]")
    snapshot = replace(snapshots[0], activations=(named,), weights=())
    assert "[red]odd[/red]" in shown([snapshot], [])
    reported = shown(
        [replace(snapshot, activations=())], [Finding("saturated", "warning", "[red]odd[/red]", 0, 0, 1.0, 0.5, "[b]advice[/b]")]
    )
    assert '"[red]odd[/red]", before the first step. [b]advice[/b]' in reported


def test_it_fits_eighty_columns_without_cutting_a_number(made_snapshots):
    snapshots, findings = made_snapshots(unhealthy=True)

    def renamed(part):
        return replace(part, layer=f"stage_3/expanded_depthwise_separable_convolution_{part.layer}")

    last = replace(
        snapshots[-1], activations=tuple(map(renamed, snapshots[-1].activations)), weights=tuple(map(renamed, snapshots[-1].weights))
    )
    lines = shown([last], [renamed(f) for f in findings if f.layer], width=80).splitlines()
    assert max(map(len, lines)) <= 80
    rows = lines[: next(i for i, line in enumerate(lines) if line.startswith("critical"))]
    words = " ".join(rows).split()
    for word in ("saturated", "not", "finite", "0.00125", "critical:", "vanishing", "gradient", "warning:"):
        assert word in words
    assert "".join(line[:13].strip() for line in rows).endswith("stage_3/expan…lution_layer_4")


def test_many_findings_of_one_kind_are_one_line():
    findings = [Finding("saturated", "warning", f"h{i}", 9, 1, 0.5 + i / 100, 0.5, f"{50 + i}% are saturated. Use relu.") for i in range(9)]
    assert [len(group) for group in grouped(findings)] == [9]
    snapshot = Snapshot(9, 1, 1.0, 1.0, (), (Weight("h0", "h0/kernel", True, 1.0, 1.0, 1.0, 0.0, True),))
    reported = shown([snapshot], findings)
    assert 'in layers "h0", "h1", "h2" and 6 more, epoch 1, step 9. The worst is "h8": 58% are saturated. Use relu.' in reported
    other = replace(findings[0], advice="Something else.")
    assert [len(group) for group in grouped([*findings, other])] == [9, 1]


@pytest.mark.parametrize(
    ("first", "second", "order"),
    [
        (["c1", "c2", "out"], ["r1", "r2"], ["c1", "r1", "c2", "r2", "out"]),
        (["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"]),
        (["a", "c"], ["a", "r", "c"], ["a", "r", "c"]),
        (["embedding", "a"], ["a", "softmax"], ["embedding", "a", "softmax"]),
    ],
)
def test_rows_are_in_network_order(first, second, order):
    weights = tuple(Weight(name, name, True, 1.0, 1.0, 1.0, 0.0, True) for name in first)
    activations = tuple(Activation(name, "relu", "", False, 0.0, 0.0, 0.1, 0.1, 1.0, True) for name in second)
    snapshot = Snapshot(0, 0, 1.0, 1.0, activations, weights, layers=("input", *order))
    assert [s.layer for s in layer_states(snapshot)] == order
    assert layers_of([snapshot, snapshot]) == order


def test_a_layer_of_several_kernels_and_gates_is_one_row():
    weights = tuple(Weight("lstm", p, True, g, w, 1.0, 0.0, True, update=u) for p, g, w, u in (("k", 3.0, 6.0, 0.3), ("r", 4.0, 8.0, 0.4)))
    gates = tuple(Activation("lstm", "sigmoid", p, False, s, 0.0, 0.0, 0.0, 1.0, True) for p, s in (("input gate", 0.2), ("output", 0.7)))
    (state,) = layer_states(Snapshot(0, 0, 1.0, 1.0, gates, weights))
    assert state.gradient_norm == 5.0
    assert (state.gradient_ratio, state.saturated) == (0.5, 0.7)
    assert state.update_ratio == pytest.approx(0.05)
    assert math.isnan(state.dead)


def test_the_output_does_not_count_and_a_unhealthy_layer_without_kernel_has_a_row():
    output = Activation("out", "sigmoid", "", True, 0.9, 0.0, 0.0, 0.0, 1.0, True)
    norm = Weight("norm", "norm/gamma", False, math.nan, 1.0, 1.0, 0.0, False)
    states = {s.layer: s for s in layer_states(Snapshot(0, 0, 1.0, 1.0, (output,), (norm,)))}
    assert (states["out"].counts, states["out"].saturated) == (False, 0.9)
    assert not states["norm"].weights_finite
    assert list(states) == ["norm", "out"]
    healthy = replace(norm, gradient_norm=1.0, finite=True)
    assert [s.layer for s in layer_states(Snapshot(0, 0, 1.0, 1.0, (output,), (healthy,)))] == ["out"]


def test_the_worst_finding_is_the_most_severe_then_the_newest(made_snapshots):
    _, findings = made_snapshots()
    later = replace(findings[0], step=1000)
    assert worst_of([*findings, later], "layer_1").severity == "critical"
    assert worst_of([findings[0], later], "layer_1") is later
    assert worst_of(findings, None).symptom == "constant_output"
    assert worst_of(findings, "layer_4") is None


def test_the_verdict_counts_a_finding_once(made_snapshots):
    _, findings = made_snapshots()
    assert verdict(findings) == "2 critical findings and 2 warnings"
    assert verdict(findings[:1]) == "nothing critical, 1 warning"
    assert len(latest(findings)) == 4


def test_numbers_for_people():
    assert [share(v) for v in (0.005, 0.994, 0.996, 1.0, math.inf)] == ["<1%", ">99%", ">99%", "100%", "inf"]
    assert [number(v) for v in (1e-3, 9999.0, 1e4, -2.5e-12, 3e38)] == ["0.001", "9999", "1e4", "-2.5e-12", "3e38"]


def test_a_table_of_a_unhealthy_network_fits_a_terminal_of_80_columns(made_snapshots):
    snapshots, findings = made_snapshots(unhealthy=True)
    poor = replace(findings[0], symptom="poor_initialization", severity="critical")
    text = shown(snapshots, [*findings, poor], width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "initialization" in text
    assert {"not", "finite", "worst", "finding", "critical:", "vanishing", "dead"} <= set(text.split())
    assert "…" not in text


def test_small_shares_and_numbers_far_from_one_are_no_other_than_they_are():
    assert [share(v) for v in (0.5, 0.001, 0.9999, 0.0, math.nan)] == ["50%", "<1%", ">99%", "0%", "-"]
    numbers = {0.012345: "0.0123", 1234.5: "1234", 1.2e-7: "1.2e-7", 1e5: "1e5", 0.0: "0", math.nan: "-", math.inf: "inf"}
    assert [number(v) for v in numbers] == list(numbers.values())


def test_advice_for_several_layers_is_that_of_the_worst():
    def findings(symptom, said, *values):
        return [Finding(symptom, "warning", f"h{i}", 9, 1, v, 0.5, f"{v:.0%} {said}.") for i, v in enumerate(values, 1)]

    assert advice_of(findings("dead_relu", "are dead", 0.6)) == "60% are dead."
    assert advice_of(findings("dead_relu", "are dead", 0.6, 0.9)) == 'The worst is "h2": 90% are dead.'
    assert advice_of(findings("unchanged_weights", "left", 0.1, 0.2)) == 'The worst is "h1": 10% left.'


def test_long_names_lose_their_middle_where_they_still_differ():
    assert short_names(["a" * 40 + "_1", "a" * 40 + "_2"]) == ["aaaaaaaaaaaaa…aaaaaaaaaaaa_1", "aaaaaaaaaaaaa…aaaaaaaaaaaa_2"]
