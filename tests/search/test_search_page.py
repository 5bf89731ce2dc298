"""The pictures and the page of a search."""

import csv
import itertools
import re
import statistics

import pytest
from matplotlib import colormaps
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex

from keras_ext.search import Record, Results
from keras_ext.search.page import page
from keras_ext.search.picture import _Scale, by_value, hyperparameters, parallel_picture, score_picture, state_of, symptom_picture

pytestmark = pytest.mark.backend_free


def trial(number, score=0.5, ended="", symptoms=(), epochs=10, status="COMPLETED", **values):
    values = {"activation": "relu" if number % 2 else "sigmoid", "rate": 10.0**-number, **values}
    return Record(number, f"{number:02}", status, score, epochs, 2.0, ended or "nothing found", values, 10, ended, symptoms)


TRIALS = (
    trial(1, 0.9),
    trial(3, 0.8, bias=True),
    trial(2, 0.3, "critical: saturated (<h1>)", ("saturated",), 3),
    trial(4, 0.2, "by another callback", epochs=5),
    trial(6, None, "critical: saturated (h1), non finite", ("saturated", "non_finite"), 1),
    trial(5, None, "failed: ValueError: no", status="FAILED", epochs=0),
)


def test_a_trial_is_drawn_by_how_it_ended():
    states = ["ran through", "ran through", "stopped by the monitor", "ended by another callback", "without a score", "without a score"]
    assert [state_of(t) for t in TRIALS] == states
    figure = score_picture(TRIALS, "val_accuracy", "max")
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == [
        "ran through: 2", "stopped by the monitor: 1", "ended by another callback: 1", "without a score: 2", "best so far",
    ]  # fmt: skip
    points = {tuple(p) for c in figure.axes[0].collections for p in c.get_offsets().data.round(6).tolist()}
    # In the order of the search, two seconds each; those without a score at the worst one.
    assert points == {(2.0 * i, s) for i, s in zip(range(1, 7), (0.9, 0.3, 0.8, 0.2, 0.2, 0.2), strict=True)}
    assert figure.axes[0].get_xlabel() == "seconds of training"


def test_long_searches_are_drawn_in_minutes():
    slow = [Record(i, str(i), "COMPLETED", 0.5, 1, 60.0 * i, "", {}) for i in (1, 2)]
    axes = score_picture(slow, "s", "max").axes[0]
    assert axes.get_xlabel() == "minutes of training"
    assert axes.lines[0].get_xdata().tolist() == [1.0, 3.0]


@pytest.mark.parametrize(("direction", "best"), [("max", [0.9] * 6), ("min", [0.9, 0.3, 0.3, 0.2, 0.2, 0.2])])
def test_the_line_is_the_best_so_far(direction, best):
    (line,) = score_picture(TRIALS, "s", direction).axes[0].lines
    assert line.get_ydata().tolist() == best


def test_trials_stand_in_the_order_of_their_numbers():
    (line,) = score_picture([trial(10, 0.1), trial(9, 0.2)], "s", "min").axes[0].lines
    assert line.get_ydata().tolist() == [0.2, 0.1]
    names = [Record(number, name, "COMPLETED", 0.1 * number, 1, 2.0, "", {}) for number, name in ((10, "9"), (11, "10"))]
    (line,) = score_picture(names, "s", "max").axes[0].lines
    assert line.get_ydata().tolist() == pytest.approx([1.0, 1.1])


def test_losses_of_very_different_sizes_stand_on_a_log_scale():
    def scale(direction, *scores):
        return score_picture([trial(i, score) for i, score in enumerate(scores, start=1)], "s", direction).axes[0].get_yscale()

    assert scale("min", 0.01, 0.31) == "log"
    assert scale("min", 0.01, 0.29) == scale("min", 0.0, 9.0) == scale("max", 0.01, 0.31) == "linear"


def test_numbers_of_many_values_are_parted_and_others_are_not():
    assert [(text, [t.number for t in mine]) for text, mine in by_value(TRIALS, "activation")] == [
        ("relu", [1, 3, 5]),
        ("sigmoid", [2, 4, 6]),
    ]
    parts = by_value(TRIALS, "rate")
    assert sorted(itertools.chain(*([t.number for t in mine] for _, mine in parts))) == [1, 2, 3, 4, 5, 6]
    assert [text for text, _ in parts] == ["1e-06", "1e-05 to 0.0001", "0.001", "0.01 to 0.1"]
    layers = [trial(i, layers=count) for i, count in enumerate([1, 2, 3, 3, 3, 3, 4, 5])]
    assert [(text, len(mine)) for text, mine in by_value(layers, "layers")] == [("1 to 2", 2), ("3", 4), ("4 to 5", 2)]
    assert hyperparameters([trial(1), trial(3, rate=0.1)]) == []


def test_numbers_of_very_different_sizes_stand_by_their_logarithm():
    scale = _Scale([1, 10, 100, 1000, 10_000])
    assert (scale.height(100), scale.ticks()) == (pytest.approx(0.5), [(0.0, "1"), (0.5, "100"), (1.0, "1e+04")])
    scale = _Scale([0, 1, 2, 3, 100])
    assert (scale.height(50), scale.ticks()) == (0.5, [(0.0, "0"), (0.5, "50"), (1.0, "100")])


def test_shares_of_symptoms_are_those_of_the_value():
    figure = symptom_picture(TRIALS)
    axes = figure.axes[0]
    symptoms = [t.get_text() for t in axes.get_xticklabels()]
    rows = [t.get_text() for t in axes.get_yticklabels()]
    shares = axes.images[0].get_array()
    assert symptoms == ["non finite", "saturated"]
    assert shares[rows.index("activation sigmoid  (3)")].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert shares[rows.index("activation relu  (3)")].tolist() == [0.0, 0.0]
    assert symptom_picture(TRIALS[:2]) is None


def test_few_numbers_stand_by_size_and_hyperparameters_are_parted_by_lines():
    assert [text for text, _ in by_value([trial(i, layers=n) for i, n in enumerate([10, 2, 9], start=1)], "layers")] == ["2", "9", "10"]
    axes = symptom_picture(TRIALS).axes[0]
    assert [line.get_ydata()[0] for line in axes.lines] == [1.5, 5.5]  # two activations, four parts of the rates
    assert axes.yaxis_inverted()


def test_a_line_goes_through_the_hyperparameters_of_each_trial():
    axes = parallel_picture(TRIALS, "val_accuracy", "max").axes[0]
    assert len(axes.collections) >= len(TRIALS)
    texts = {t.get_text() for t in axes.texts}
    assert {"activation", "rate", "bias", "relu", "sigmoid", "0.1", "1e-06"} <= texts


@pytest.mark.parametrize(("direction", "best"), [("max", [(0, 0.0), (1, 1.0)]), ("min", [(0, 1.0), (1, 0.4)])])
def test_lines_are_coloured_by_rank_with_the_best_on_top(direction, best):
    lines = [c for c in parallel_picture(TRIALS, "s", direction).axes[0].collections if isinstance(c, LineCollection)]
    colours = [to_hex(line.get_colors()[0]) for line in lines]
    assert colours == ["#bbbbbb", "#bbbbbb", *(to_hex(colormaps["viridis"](rank)) for rank in (0.0, 1 / 3, 2 / 3, 1.0))]
    # Trial 1 has the first activation and the largest rate; the rates stand evenly by their logarithm.
    (piece,) = lines[-1].get_segments()
    assert [(x, round(y, 6)) for x, y in piece] == best


def test_a_value_beside_those_that_were_not_used_is_a_point():
    whole, broken = ({"a": 1, "b": 2, "c": 3}, {"a": 2, "c": 5})
    records = [Record(i, str(i), "COMPLETED", 0.5, 1, 1.0, "", values) for i, values in enumerate((broken, whole), start=1)]
    assert hyperparameters(records) == ["a", "b", "c"]
    axes = parallel_picture(records, "s", "min").axes[0]
    points = [tuple(p) for c in axes.collections if isinstance(c, PathCollection) for p in c.get_offsets().tolist()]
    assert points == [(0, 1.0), (2, 1.0)]
    assert [len(c.get_segments()) for c in axes.collections if isinstance(c, LineCollection)] in ([0, 2], [2, 0])


@pytest.mark.parametrize(("count", "rows"), [(1, [1]), (8, [8]), (9, [8, 2]), (15, [8, 8]), (16, [8, 8, 2])])
def test_many_hyperparameters_stand_in_rows_that_go_on_where_the_last_one_ended(count, rows):
    names = [f"h{i:02d}" for i in range(count)]
    records = [Record(i, str(i), "COMPLETED", 0.1 * i, 1, 1.0, "", dict.fromkeys(names, i)) for i in (1, 2)]
    shown = [[t.get_text() for t in axes.texts if t.get_text().startswith("h")] for axes in parallel_picture(records, "s", "max").axes]
    assert [len(row) for row in shown] == rows
    assert [name for i, row in enumerate(shown) for name in row[min(i, 1) :]] == names
    assert all(before[-1] == after[0] for before, after in itertools.pairwise(shown))


def test_the_page_says_what_the_trials_say_and_needs_nothing_else(tmp_path):
    Results(TRIALS, "val_accuracy", "max").report(tmp_path / "new" / "report.html")
    text = (tmp_path / "new/report.html").read_text()
    assert "Best val_accuracy 0.9, of trial 1" in text
    assert "6 trials in 12 seconds of training: 2 ran through, 1 stopped by the monitor" in text
    assert text.count("<img ") == 3
    assert "saturated (&lt;h1&gt;)" in text
    assert "<h1>)" not in text
    assert "3 of 10" in text
    assert "http" not in text
    assert "No trial has ended yet." in page(Results((), "loss"))
    assert "No trial has a score" in page(Results(TRIALS[-1:], "loss"))


def test_the_page_shows_names_as_they_are_and_a_column_for_each_hyperparameter():
    text = page(Results(TRIALS, "a<b", "max"), "c<d")
    assert "a<b" not in text
    assert "c<d" not in text
    assert text.count("<h1>c&lt;d</h1>") == 1
    assert '<p class="verdict">Best a&lt;b 0.9, of trial 1</p>' in text
    assert text.startswith("<!DOCTYPE html>")
    assert "<title>c&lt;d: Best a&lt;b 0.9, of trial 1</title>" in text
    assert '<th scope="col">bias</th>' in text
    assert page(Results((trial(1), trial(3, rate=0.1)), "s")).count("<img ") == 1


def test_a_row_of_the_page_reports_one_trial():
    text = page(Results(TRIALS, "s", "max"))
    trials = text.partition("<h2>Trials</h2>")[2]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in trials.splitlines() if row.startswith("<tr><td")]
    assert rows[0] == ["1", "1", "0.9", "10 of 10", "2.0", "", "", "relu", "0.1", ""]
    assert rows[1][-1] == "True"
    assert rows[2][:7] == ["3", "2", "0.3", "3 of 10", "2.0", "critical: saturated (&lt;h1&gt;)", ""]
    assert rows[4][2] == "none"
    assert '<td class="words name critical">failed: ValueError: no</td>' in text
    assert '<td class="words name">by another callback</td>' in text
    assert re.findall(r"<th [^>]*>(.*?)</th>", trials)[:7] == ["rank", "trial", "s", "epochs", "seconds", "ended", "diagnosis"]
    warned = Record(1, "0", "COMPLETED", 0.0, 4, 2.0, "warning: saturated (h1)", {}, 0, "by another callback")
    (row,) = [row for row in page(Results((warned,), "s")).splitlines() if row.startswith("<tr><td")]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["1", "1", "0", "4", "2.0", "by another callback", "warning: saturated (h1)"]


def test_the_pictures_of_the_page_know_which_scores_are_better():
    pictures = [re.findall(r'src="([^"]+)"', page(Results(TRIALS, "s", direction))) for direction in ("max", "min")]
    assert [one == other for one, other in zip(*pictures, strict=True)] == [False, False, True]


def test_csv_has_a_row_for_each_trial_and_a_column_for_each_hyperparameter(tmp_path):
    Results(TRIALS, "val_accuracy", "max").to_csv(tmp_path / "new" / "t.csv")
    with (tmp_path / "new/t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "3", "2", "4", "6", "5"]
    assert (rows[0]["score"], rows[4]["score"], rows[1]["bias"], rows[0]["bias"]) == ("0.9", "", "True", "")
    assert rows[2]["ended"] == "critical: saturated (<h1>)"


def test_the_table_says_how_many_epochs_of_how_many():
    table = Results(TRIALS, "val_accuracy", "max").table(4)
    assert list(table.columns[4].cells) == ["10", "10", "3 of 10", "5 of 10"]
    assert table.caption == "and 2 more"


def test_the_page_shows_which_part_helped_with_the_scores_by_value():
    text = page(Results(TRIALS, "s", "max"))
    part = text.partition("<h2>Which part helped</h2>")[2].partition("<h2>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in part.splitlines() if row.startswith("<tr><td")]
    scores = {}
    for record in TRIALS:
        if record.score is not None and "activation" in record.hyperparameters:
            scores.setdefault(record.hyperparameters["activation"], []).append(record.score)
    start = [row[0] for row in rows].index("activation")
    shown = {row[2]: (float(row[3]), int(row[5])) for row in rows[start : start + len(scores)]}
    assert shown == {value: (pytest.approx(statistics.median(mine), rel=1e-3), len(mine)) for value, mine in scores.items()}
    assert "not told apart: the values of " in part
