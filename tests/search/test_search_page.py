"""The pictures and the page of a search."""

import csv
import itertools
import json
import re
import shutil
import statistics
import subprocess

import pytest

from keras_ext.search import Record, Results
from keras_ext.search.report import figures
from keras_ext.search.report.page import page
from keras_ext.search.report.picture import score_picture
from keras_ext.search.report.state import state_of
from keras_ext.search.report.values import by_value, hyperparameters

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


def shown(text):
    """Return the figures of a page as Plotly gets them."""
    return [json.loads(each.replace("<\\/", "</")) for each in re.findall(r'<script type="application/json">(.*?)</script>', text)]


def without_figures(text):
    return re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


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
    assert list(axes.lines[0].get_xdata()) == [1.0, 3.0]


@pytest.mark.parametrize(("direction", "best"), [("max", [0.9] * 4), ("min", [0.9, 0.3, 0.3, 0.2])])
def test_the_line_is_the_best_so_far(direction, best):
    (line,) = score_picture(TRIALS, "s", direction).axes[0].lines
    assert list(line.get_ydata()) == best


def test_trials_stand_in_the_order_of_their_numbers():
    (line,) = score_picture([trial(10, 0.1), trial(9, 0.2)], "s", "min").axes[0].lines
    assert list(line.get_ydata()) == [0.2, 0.1]
    names = [Record(number, name, "COMPLETED", 0.1 * number, 1, 2.0, "", {}) for number, name in ((10, "9"), (11, "10"))]
    (line,) = score_picture(names, "s", "max").axes[0].lines
    assert list(line.get_ydata()) == pytest.approx([1.0, 1.1])


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
    assert [text for text, _ in by_value([trial(i, layers=n) for i, n in enumerate([10, 2, 9], start=1)], "layers")] == ["2", "9", "10"]


def test_the_page_says_what_the_trials_say_and_needs_nothing_else(tmp_path):
    Results(TRIALS, "val_accuracy", "max").report(tmp_path / "new" / "report.html")
    text = (tmp_path / "new/report.html").read_text()
    assert "Best val_accuracy 0.9, of trial 1" in text
    assert "6 trials in 12 seconds of training: 2 ran through, 1 stopped by the monitor" in text
    assert text.count('<div class="figure" role="img"') == 5
    assert "saturated (&lt;h1&gt;)" in text
    assert "<h1>)" not in without_figures(text)
    assert "3 of 10" in text
    assert not re.search(r"""(?:src|href)=["']?http""", text)
    assert len(text) < 2.5e6
    assert "No trial has ended yet." in page(Results((), "loss"))
    assert "No trial has a score" in page(Results(TRIALS[-1:], "loss"))


def test_the_page_shows_names_as_they_are_and_a_column_for_each_hyperparameter():
    text = page(Results(TRIALS, "a<b", "max"), "c<d")
    assert "a<b" not in without_figures(text)
    assert "c<d" not in text
    assert text.count("<h1>c&lt;d</h1>") == 1
    assert '<p class="verdict">Best a&lt;b 0.9, of trial 1</p>' in text
    assert text.startswith("<!DOCTYPE html>")
    assert "<title>c&lt;d: Best a&lt;b 0.9, of trial 1</title>" in text
    assert '<th scope="col"><button type="button">bias</button></th>' in text
    assert [f["data"][0]["type"] for f in shown(page(Results((trial(1), trial(3, rate=0.1)), "s")))] == ["scatter"]


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
    assert re.findall(r"<th [^>]*><button[^>]*>(.*?)</button></th>", trials)[:7] == [
        "rank",
        "trial",
        "s",
        "epochs",
        "seconds",
        "ended",
        "diagnosis",
    ]
    warned = Record(1, "0", "COMPLETED", 0.0, 4, 2.0, "warning: saturated (h1)", {}, 0, "by another callback")
    (row,) = [row for row in page(Results((warned,), "s")).splitlines() if row.startswith("<tr><td")]
    assert re.findall(r"<td[^>]*>(.*?)</td>", row) == ["1", "1", "0", "4", "2.0", "by another callback", "warning: saturated (h1)"]


def test_csv_has_a_row_for_each_trial_and_a_column_for_each_hyperparameter(tmp_path):
    Results(TRIALS, "val_accuracy", "max").to_csv(tmp_path / "new" / "t.csv")
    with (tmp_path / "new/t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "3", "2", "4", "6", "5"]
    assert (rows[0]["score"], rows[4]["score"], rows[1]["bias"], rows[0]["bias"]) == ("0.9", "", "True", "")
    assert rows[2]["ended"] == "critical: saturated (<h1>)"
    Results((trial(1, 0.1 + 0.2, rate=0.1 + 0.7),), "s").to_csv(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["score"], row["rate"]) == ("0.3", "0.8")


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


def with_scores(number, score, ended="", **values):
    symptoms = ("dead_relu",) if ended.startswith("critical") else ()
    course = tuple(score * share for share in (0.5, 0.8, 1.0))
    return Record(number, f"{number:02}", "COMPLETED", score, 3, 2.0, ended or "nothing found", values, 10, ended, symptoms, scores=course)


COURSES = (
    with_scores(2, 0.9, optimizer="sgd", rate=0.1, momentum=0.9),
    with_scores(1, 0.8, optimizer="adam", rate=0.01),
    with_scores(3, 0.2, "critical: dead relu (<h>)", optimizer="sgd", rate=1e-4, momentum=0.5),
    with_scores(4, 0.1, "critical: dead relu (<h>)", optimizer="sgd", rate=1e-5, momentum=0.6),
    with_scores(5, 0.7, optimizer="adam", rate=1e-3),
)


def test_the_course_of_each_trial_is_a_line_with_a_mark_where_it_ended_early():
    figure = figures.curves(COURSES, "s", "max")
    lines = [each for each in figure.data if each.mode == "lines"]
    assert [list(line.y) for line in lines] == [list(r.scores) for r in reversed(COURSES)]  # the best on top
    assert [round(line.line.width, 3) for line in lines] == [1.125, 1.0, 1.008, 1.633, 3.0]  # 1 + 2 rank^4, of ranks 2/4, 0, 1/4, 3/4, 1
    assert [(list(mark.x), list(mark.y)) for mark in figure.data if mark.mode == "markers"] == [([3], [0.1]), ([3], [0.2])]
    assert lines[2].name == "trial 3: 0.2, 3 epochs<br>critical: dead relu (&lt;h>)<br>optimizer sgd, rate 0.0001, momentum 0.5"
    assert figures.curves([trial(1)], "s", "max") is None


def test_scores_stand_at_the_time_when_their_trial_ended():
    *points, best = figures.scores(COURSES, "s", "max").data
    assert {(x, y) for each in points for x, y in zip(each.x, each.y, strict=True)} == {(4, 0.9), (2, 0.8), (6, 0.2), (8, 0.1), (10, 0.7)}
    assert [each.name for each in points] == ["ran through: 3", "stopped by the monitor: 2"]
    assert list(best.y) == [0.8, 0.9, 0.9, 0.9, 0.9]
    assert list(figures.scores(COURSES, "s", "min").data[-1].y) == [0.8, 0.8, 0.2, 0.1, 0.1]


def test_a_line_goes_through_the_hyperparameters_that_every_trial_has_and_the_others_stand_apart():
    (line,) = figures.parallel(COURSES, ["optimizer", "rate"], "s", "max").data
    optimizer, rate, score = line.dimensions
    assert (list(optimizer.ticktext), list(optimizer.values)) == (["adam", "sgd"], [1, 0, 1, 1, 0])
    assert list(rate.values) == pytest.approx([-1, -2, -4, -5, -3])  # by the logarithm, as they span ten thousand times
    assert list(rate.ticktext) == ["1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert list(score.values) == [0.9, 0.8, 0.2, 0.1, 0.7]
    assert list(line.line.color) == [1.0, 0.75, 0.25, 0.0, 0.5]
    (points,) = figures.conditional(COURSES, ["momentum"], "s").data
    assert (list(points.x), list(points.y)) == (["0.9", "0.5", "0.6"], [0.9, 0.2, 0.1])
    kinds = [(f["data"][0]["type"], len(f["data"])) for f in shown(page(Results(COURSES, "s", "max")))]
    assert kinds[-2:] == [("parcoords", 1), ("scatter", 1)]


def test_a_symptom_is_named_with_the_values_that_mostly_have_it():
    text = page(Results(COURSES, "s", "max"))
    part = text.partition("<h2>What the monitor found</h2>")[2].partition("<h2>")[0]
    rows = re.findall(r"<td[^>]*>(.*?)</td>", part)
    assert rows[:2] == ["dead relu", "2 of 5"]
    assert "optimizer sgd: 2 of 3" in rows[2]
    assert "adam" not in rows[2]
    assert "What the monitor found" not in page(Results(COURSES[:2], "s", "max"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_draws_every_figure_and_sorts_and_filters_the_table(tmp_path):
    Results(COURSES, "s", "max").report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    act = """<script>setTimeout(() => {
      const table = document.querySelector("table.sortable"), input = document.querySelector("input");
      table.querySelectorAll("th button")[1].click(); input.value = "sgd"; input.dispatchEvent(new Event("input"));
    }, 8000);</script>"""
    (tmp_path / "report.html").write_text(text.replace("</body>", f"{act}</body>"))
    options = ["--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    command = ["chromium", *options, "--virtual-time-budget=20000", "--dump-dom", (tmp_path / "report.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert len(re.findall(r'class="figure[^"]*js-plotly-plot', dom)) == len(shown(text))
    body = dom.partition('<table class="sortable">')[2].partition("</table>")[0]
    assert re.findall(r'<th scope="col"[^>]*aria-sort="(\w+)"[^>]*><button type="button">(\w+)', body) == [("ascending", "trial")]
    rows = [(re.findall(r"<td[^>]*>(.*?)</td>", row)[1], "hidden" in row.partition(">")[0]) for row in body.split("<tr")[2:]]
    assert rows == [("1", True), ("2", False), ("3", False), ("4", False), ("5", True)]
    assert re.search(r"<output[^>]*>3 of 5 trials</output>", dom)
