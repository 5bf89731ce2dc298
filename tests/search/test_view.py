"""What a search shows while it runs: every trial under way, counts, time left."""

import io
import signal

import pytest
from rich.console import Console

from keras_ext.search.records import Record
from keras_ext.search.report.view import View

pytestmark = pytest.mark.backend_free


def record(number, score=0.5, ended="", status="COMPLETED"):
    return Record(number, str(number - 1), status, score, 3, 1.5, ended or "nothing found", {"layers": 2}, 3, ended)


class Clock:
    """Seconds that the test sets."""

    now = 100.0

    def __call__(self):
        return self.now


def plain(total=10):
    text, clock = io.StringIO(), Clock()
    return View(Console(file=text, width=200), "val_accuracy", total, clock), text, clock


def picture(view):
    console = Console(file=io.StringIO(), width=100)
    console.print(view._picture())
    return console.file.getvalue()


def test_each_trial_under_way_has_its_line():
    view, _, _ = plain()
    view.trial_begins(3, {"layers": 2, "rate": 0.1}, 5)
    view.trial_begins(4, {"layers": 7}, 5)
    view.epoch_ends(3, 2, 0.91234)
    view.finds(4, "critical: dead relu")
    shown = picture(view)
    assert "trial 3  epoch 2/5  val_accuracy 0.9123  nothing found so far" in shown
    assert "  layers 2, rate 0.1" in shown
    assert "trial 4  epoch 0/5  critical: dead relu" in shown
    view.trial_ends(record(3), record(3, 0.75))
    shown = picture(view)
    assert "trial 3 " not in shown
    assert "trial 4 " in shown
    assert "best val_accuracy so far: 0.7500 (trial 3)" in shown


def test_counts_and_time_left():
    view, text, clock = plain()
    view.knows([record(1), record(2, ended="critical: non finite")])
    clock.now = 130.0
    view.trial_ends(record(3), None)
    assert text.getvalue().endswith("layers 2 [2 to their end, 1 stopped, 0 failed; about 4 min left]\n")  # 30 s each, 7 left
    clock.now = 140.0
    view.trial_ends(record(4, None, "failed: ValueError", "FAILED"), record(3))
    last = text.getvalue().splitlines()[-1]
    assert last.startswith("trial 4 of 10: failed (best 0.5000), 3 epochs, 1.5 s, failed: ValueError; layers 2 ")
    assert last.endswith("[2 to their end, 1 stopped, 1 failed; about 2 min left]")  # 20 s each, 6 left


@pytest.mark.parametrize(("seconds", "left"), [(9.6, "19 s"), (49.0, "98 s"), (60.0, "2 min"), (2000.0, "67 min"), (4000.0, "2 h")])
def test_time_is_reported_in_words_of_its_size(seconds, left):
    view, text, clock = plain(3)
    clock.now += seconds
    view.trial_ends(record(1), None)
    assert f"about {left} left" in text.getvalue()


def test_where_the_end_is_not_known_no_time_is_reported():
    view, text, clock = plain(None)
    clock.now += 5
    view.trial_ends(record(1), None)
    assert "left" not in text.getvalue()
    view, text, clock = plain(1)
    view.trial_ends(record(1), None)
    assert "left" not in text.getvalue()


def test_the_first_ctrl_c_waits_for_the_batch_and_the_second_does_not():
    view, _, _ = plain()
    kept = signal.getsignal(signal.SIGINT)
    try:
        view.check()
        view.interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt):
            view.check()
    finally:
        signal.signal(signal.SIGINT, kept)
