"""Results as HTML: what a notebook's cell shows, and the picture of a search that runs."""

import re

import keras
import keras_tuner
import numpy as np
import pytest
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from keras_ext import _html, schedules
from keras_ext.callbacks import LearningRateFinder, SaturationMonitor, diagnose
from keras_ext.initializers import initialize
from keras_ext.remedies.change import Change
from keras_ext.repair.repaired import Repair
from keras_ext.search import results, watch
from keras_ext.search import watch as watch_module
from keras_ext.search.records import Record
from keras_ext.search.report import notebook_view, view

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 4)).astype("float32"), RNG.integers(0, 2, 64)


CHANGE = Change("thaw", 'Let "hidden" train.', "frozen", "No weight can change.", ("hidden",))


def network(hp=None):
    units = hp.Int("units", 2, 9) if hp else 4
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, "relu", name="hidden>1"), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def test_a_table_keeps_its_cells_its_alignment_and_its_colours_and_escapes_what_they_hold():
    table = Table("name", title=Text("a < b", "bold"))
    table.add_column("size", justify="right")
    table.add_row(Text.assemble(("critical", "bold red"), " dense\n", ("small", "dim")), "<1>")
    html = _html.shown(Group(table, Text(), Text("done")))
    assert re.findall(r"<th scope=.*?text-align: (\w+).*?>(.*?)</th>", html) == [("left", "name"), ("right", "size")]
    critical, small = '<span style="color: #d1242f;font-weight: 600">critical</span>', '<span style="color: #6e7781">small</span>'
    assert re.findall(r"<td[^>]*>(.*?)</td>", html) == [f"{critical} dense<br>{small}", "&lt;1&gt;"]
    assert '<span style="font-weight: 600">a &lt; b</span>' in html
    assert re.findall(r"<p[^>]*>(\w+)</p>", html) == ["done"]  # and none for the empty line


def of_a_monitor():
    monitor = SaturationMonitor(X, Y)
    network().fit(X, Y, verbose=0, callbacks=[monitor])
    return monitor


def of_a_search():
    build = keras_tuner.RandomSearch(network, "loss", max_trials=1, directory="search", overwrite=True)
    build.search(X, Y, verbose=0)
    return results(build)


@pytest.mark.parametrize(
    ("make", "words", "has_picture"),
    [
        (lambda: SaturationMonitor(X, Y), "has not observed the model yet", False),
        (of_a_monitor, "hidden&gt;1", True),
        (lambda: diagnose(network(), X, Y), "hidden&gt;1", True),
        (lambda: initialize(network(), "he_normal"), "std given", False),
        (of_a_search, "Leaderboard", True),
        (lambda: Repair(network(), (CHANGE,), (), (0.7, 0.1)), "Let &quot;hidden&quot; train.</td>", False),
        (lambda: LearningRateFinder(X, Y, steps=20).find(network()), "RateCurve", True),
        (lambda: schedules.OneCycle(0.1, total_steps=10), "Learning rate of OneCycle", True),
        (lambda: schedules.Warmup(keras.optimizers.schedules.CosineDecay(0.1, 50), steps=10), "Learning rate of Warmup", True),
    ],
)
@pytest.mark.filterwarnings("ignore:LearningRateFinder suggests no rate")
def test_results_show_themselves_as_html(make, words, has_picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    html = make()._repr_html_()
    assert words in html
    assert ('src="data:image/png;base64,' in html) == has_picture


def test_a_schedule_shows_its_whole_course():
    assert schedules.OneCycle(0.1, total_steps=10)._picture_steps == 10
    assert schedules.CyclicalLearningRate(0.1, 1.0, step_size=5)._picture_steps == 31  # three cycles
    assert schedules.Warmup(0.1, steps=10)._picture_steps == 21
    assert schedules.Warmup(keras.optimizers.schedules.CosineDecay(0.1, 50), steps=10)._picture_steps == 61
    assert schedules.Warmup(schedules.OneCycle(0.1, total_steps=30), steps=10)._picture_steps == 41


class Picture:
    """Keeps what the notebook would show."""

    shown: list = []

    def __init__(self, html, clock):
        self._html = html

    def start(self):
        self.shown.append(self._html())

    def refresh(self):
        self.shown.append(self._html())

    stop = refresh


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.setattr(view, "NotebookPicture", Picture)
    monkeypatch.setattr(watch_module_of(), "is_notebook", lambda: True)
    monkeypatch.setattr(watch_module_of(), "Console", lambda: Console(force_jupyter=True))
    Picture.shown = []
    return Picture


def watch_module_of():
    import sys

    return sys.modules[watch_module.__module__]


def test_a_watched_search_shows_one_table_in_a_notebook_and_nothing_if_it_is_to_be_silent(tmp_path, pictures, capsys):
    tuner = watch(
        keras_tuner.RandomSearch(network, "val_loss", max_trials=2, directory=tmp_path), SaturationMonitor(X, Y, on_critical="stop")
    )
    tuner.search(X, Y, validation_data=(X, Y), epochs=2)
    assert "0 of 2 trials done" in pictures.shown[0]
    assert any("<td" in html and "1 of 2</td>" in html and "units" in html for html in pictures.shown)
    assert "2 of 2 trials done: 2 to their end, 0 stopped, 0 failed" in pictures.shown[-1]
    assert "best val_loss so far: 0" in pictures.shown[-1] or "best val_loss so far: 1" in pictures.shown[-1]
    assert "Trial 1 Complete" not in capsys.readouterr().out  # of KerasTuner
    tuner = watch(
        keras_tuner.RandomSearch(network, "val_loss", max_trials=1, directory=tmp_path / "2"), SaturationMonitor(X, Y, on_critical="stop")
    )
    before = len(pictures.shown)
    tuner.search(X, Y, validation_data=(X, Y), verbose=0)
    assert len(pictures.shown) == before


def test_a_picture_in_a_notebook_is_replaced_twice_a_second_at_most(monkeypatch):
    now, updates = [0.0], []

    class Handle:
        def update(self, html):
            updates.append(html.data)

    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "display", lambda html, display_id: Handle())
    picture = notebook_view.NotebookPicture(lambda: f"at {now[0]}", lambda: now[0])
    picture.refresh()  # before it has begun
    picture.start()
    for now[0] in (0.1, 0.4, 0.6, 0.7, 1.2):
        picture.refresh()
    now[0] = 1.3
    picture.stop()
    assert updates == ["at 0.6", "at 1.2", "at 1.3"]


def test_in_a_notebook_no_line_is_printed_for_a_trial(pictures):
    console = Console(force_jupyter=True, record=True)
    record = Record(1, "00", "COMPLETED", 0.5, 1, 1.0, "nothing found", {}, 1, "", ())
    with view.View(console, "loss", 1) as shown:
        shown.trial_begins(1, {"units": 3}, 1)
        shown.trial_ends(record, record)
    assert console.export_text() == ""
    assert "1 of 1 trials done" in pictures.shown[-1]
