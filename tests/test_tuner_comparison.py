"""The comparison of searches: what it reads from their courses."""

import math

import pytest

from benchmarks.studies import time_to_score

pytestmark = pytest.mark.backend_free

COURSES = {
    time_to_score.RANDOM: [(1.0, 0.5), (9.0, 0.8)],
    time_to_score.HYPERBAND: [(2.0, 0.6), (10.0, 0.75)],
    time_to_score.OPTUNA: [(3.0, 0.7), (4.0, 0.8)],
    time_to_score.OURS: [(0.5, 0.4), (1.0, 0.9)],
}
KEPT = {"searches": {"wine": [{"seconds": 10.0, **COURSES}] * 2 + [{"seconds": 20.0, **COURSES}]}}


def test_the_table_has_medians_of_times_and_scores():
    rows = time_to_score.table(KEPT)
    share, score = "share of the time to the score of the random search", "best score after its time"
    assert {way: rows[f"wine, {way}"][share] for way in COURSES} == dict(zip(COURSES, (0.9, math.inf, 0.4, 0.1), strict=True))
    assert {way: rows[f"wine, {way}"][score] for way in COURSES} == dict(zip(COURSES, (0.8, 0.75, 0.8, 0.9), strict=True))
    assert [rows[f"wine, {way}"]["after 10%"] for way in COURSES] == [0.5, 0.0, 0.0, 0.9]
    assert [rows[f"wine, {way}"]["after 25%"] for way in COURSES] == [0.5, 0.6, 0.0, 0.9]


def test_the_picture_is_drawn(tmp_path):
    time_to_score.draw(KEPT, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000
