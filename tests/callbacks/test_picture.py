"""The heat maps: what is drawn where, and that it stays readable."""

import io
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.report.picture import NETWORK, picture

pytestmark = pytest.mark.backend_free

GREY, BLACK, PINK, WHITE = "#dcdcdc", "#000000", "#ff2bd6", "#ffffff"


def panels(figure):
    """Return the heat maps by the first line of their title; colour bars have none."""
    return {axis.get_title().splitlines()[0]: axis for axis in figure.axes if axis.get_title()}


def cell(axis, i, j):
    return to_hex(axis.images[0].get_array()[i, j])


def legend(figure):
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def marks(axis):
    return {(line.get_marker(), int(line.get_xdata()[0]), int(line.get_ydata()[0])) for line in axis.lines if len(line.get_xdata()) == 1}


def draw(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=60)


def zero_gradient(snapshot):
    return replace(snapshot, weights=(replace(snapshot.weights[0], gradient_norm=0.0), *snapshot.weights[1:]))


def test_a_cell_is_a_layer_in_a_snapshot(made_snapshots):
    snapshots, _ = made_snapshots(snapshots=5, layers=7)
    maps = panels(picture(snapshots, []))
    assert list(maps) == ["saturated outputs", "dead units", "gradient norm"]
    for axis in maps.values():
        assert axis.images[0].get_array().shape == (7, 5, 4)
    darkness = maps["saturated outputs"].images[0].get_array()[0].sum(axis=-1)
    assert (np.diff(darkness) < 0).all(), "saturation grows from snapshot to snapshot"
    assert [label.get_text() for label in maps["saturated outputs"].get_yticklabels()] == [f"layer_{i + 1}" for i in range(7)]
    assert [label.get_text() for label in maps["gradient norm"].get_xticklabels()] == ["0\n0", "1\n45", "2\n90", "3\n135", "4\n180"]


def test_the_gradient_has_a_logarithmic_scale(made_snapshots):
    snapshots, _ = made_snapshots(layers=5)
    brightness = panels(picture(snapshots, []))["gradient norm"].images[0].get_array()[:, 0, 1]
    steps = np.diff(brightness)
    assert (steps > 0.05).all(), "each layer's gradient is 3 times that of the one before it, and one sees all of them"


@pytest.mark.parametrize(("kinds", "drawn"), [(("relu",), "dead units"), (("tanh",), "saturated outputs"), (("gelu",), None)])
def test_only_panels_with_data(made_snapshots, kinds, drawn):
    snapshots, _ = made_snapshots(kinds=kinds)
    assert list(panels(picture(snapshots, []))) == ([drawn] if drawn else []) + ["gradient norm"]
    bare = [replace(snapshot, weights=()) for snapshot in snapshots]
    assert list(panels(picture(bare, []))) == ([drawn] if drawn else [])


def test_what_was_not_measured_or_is_zero_or_not_finite_has_its_own_colour(made_snapshots):
    snapshots, _ = made_snapshots(unhealthy=True)
    snapshots[0] = zero_gradient(snapshots[0])
    figure = picture(snapshots, [])
    maps = panels(figure)
    assert [cell(maps["gradient norm"], 0, j) for j in (0, 2)] == [BLACK, PINK]
    assert cell(maps["gradient norm"], 0, 1) not in (BLACK, PINK, GREY)
    assert cell(maps["saturated outputs"], 0, 2) == PINK
    assert cell(maps["saturated outputs"], 1, 2) == GREY
    assert cell(maps["dead units"], 0, 2) == GREY, "a sigmoid cannot die, finite or not"
    assert legend(figure) == ["not measured", "exactly zero", "not finite (NaN or infinite)"]
    infinite = replace(snapshots[1], weights=(replace(snapshots[1].weights[0], gradient_norm=math.inf), *snapshots[1].weights[1:]))
    assert cell(panels(picture([infinite], []))["gradient norm"], 0, 0) == PINK


def test_findings_are_marked_where_they_belong(made_snapshots):
    figure = picture(*made_snapshots())
    maps = panels(figure)
    assert marks(maps["saturated outputs"]) == {("X", 2, 1)}, "the earlier warning became critical"
    assert marks(maps["dead units"]) == {("^", 0, 2)}
    assert marks(maps["gradient norm"]) == {("X", 2, 1), ("^", 2, 0)}
    assert legend(figure)[:2] == ["critical", "warning"]
    assert maps["saturated outputs"].get_yticklabels()[0].get_text() == NETWORK
    assert cell(maps["gradient norm"], 0, 0) == WHITE


def test_a_finding_of_a_missing_panel_layer_or_snapshot_does_no_harm(made_snapshots):
    snapshots, findings = made_snapshots(kinds=("tanh",))
    assert ("^", 0, 2) in marks(panels(picture(snapshots, findings))["gradient norm"])
    elsewhere = [Finding("saturated", "note", "gone", 0, 0, 1.0, 0.5, ""), Finding("saturated", "critical", "layer_1", 7, 7, 1.0, 0.5, "")]
    figure = picture(snapshots, elsewhere)
    assert marks(panels(figure)["saturated outputs"]) == {("^", 0, 0)}


@pytest.mark.parametrize(("snapshots", "layers"), [(1, 3), (60, 3), (1, 60), (60, 60), (3, 200)])
def test_labels_do_not_overlap(made_snapshots, snapshots, layers):
    figure = picture(*made_snapshots(snapshots, layers))
    draw(figure)
    assert figure.get_figheight() <= 11
    for axis in panels(figure).values():
        for labels, side in ((axis.get_xticklabels(), "x"), (axis.get_yticklabels(), "y")):
            boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
            ends = sorted((getattr(b, f"{side}0"), getattr(b, f"{side}1")) for b in boxes)
            assert all(a[1] <= b[0] + 1 for a, b in pairwise(ends))
            assert len(ends) >= 1 or axis is not panels(figure)["saturated outputs"]


def test_long_names_are_shortened_but_differ(made_snapshots):
    snapshots, _ = made_snapshots(layers=4)

    def renamed(part):
        return replace(part, layer=f"backbone/stage_3/block_{part.layer[-1]}/expanded_depthwise_separable_convolution")

    snapshots = [replace(k, activations=tuple(map(renamed, k.activations)), weights=tuple(map(renamed, k.weights))) for k in snapshots]
    figure = picture(snapshots, [])
    names = [label.get_text() for label in panels(figure)["saturated outputs"].get_yticklabels()]
    assert len(set(names)) == 4
    assert max(map(len, names)) <= 52


def test_the_title_is_the_verdict(made_snapshots):
    assert picture(*made_snapshots()).get_suptitle() == "2 critical findings and 2 warnings in 3 snapshots"
    assert picture(made_snapshots(snapshots=1)[0], []).get_suptitle() == "nothing found in 1 snapshot"


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, 1e-38, 3e38, 1.0])
def test_any_gradient_can_be_drawn(made_snapshots, value):
    snapshot = made_snapshots(snapshots=1, layers=2)[0][0]
    figure = picture([replace(snapshot, weights=tuple(replace(w, gradient_norm=value) for w in snapshot.weights))], [])
    draw(figure)
    assert panels(figure)["gradient norm"].images[0].get_array().shape[:2] == (2, 1)


def test_without_data_it_says_so(made_snapshots):
    assert picture([], []).texts[0].get_text() == "The monitor has not observed the model yet."
    bare = replace(made_snapshots()[0][0], activations=(), weights=())
    assert picture([bare], []).texts[0].get_text() == "The model has no layers to show."


def test_pyplot_knows_nothing_of_it(made_snapshots):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    draw(picture(*made_snapshots()))
    assert pyplot.get_fignums() == before
