"""The comparison of tuners: what it counts as time and score, on a table whose results are known."""

import pytest

from benchmarks.studies import recorded, tuners
from benchmarks.studies.recorded import EPOCHS

pytestmark = pytest.mark.backend_free

TABLE = {
    recorded.key(values): {
        "scores": [min(1.0, (i + 1) / EPOCHS) * (0.5 + 0.1 * (values["activation"] == "tanh")) for i in range(EPOCHS)],
        "seconds": 2.0,
        "stops": 3 if values["activation"] == "sigmoid" else None,
        "symptoms": ["vanishing_gradient"] if values["activation"] == "sigmoid" else [],
    }
    for values in recorded.configurations()
}


def test_the_space_has_every_configuration_once():
    assert len(TABLE) == len(list(recorded.configurations())) == 3 * 3 * 4 * 2 * 2 * 4


@pytest.mark.parametrize("kind", tuners.KINDS)
def test_time_is_that_of_the_epochs_that_were_run(kind):
    """Of 2 seconds for ten epochs, a trial that the monitor stops after three takes .6; Hyperband counts what a promotion adds."""
    course = tuners.replayed(kind, TABLE, seed=1, budget=20.0)
    spent = [b - a for a, b in zip([0.0, *(t for t, _ in course)], (t for t, _ in course), strict=False)]
    if kind == "hyperband":
        assert all(0 < s <= 2 + 1e-9 for s in spent)
    else:
        assert {round(s, 6) for s in spent} <= {2.0, 0.6}
    assert course[-2][0] < 20 <= course[-1][0]
    assert [s for _, s in course] == sorted(s for _, s in course)
    if kind != "grid":  # which does not come to tanh in that time
        assert course[-1][1] == pytest.approx(0.6)


def test_the_table_and_the_picture_show_the_medians(tmp_path):
    courses = {kind: [[(1.0, 0.5), (9.0, 0.7)], [(2.0, 0.6), (8.0, 0.8)], [(3.0, 0.4)]] for kind in tuners.KINDS}
    kept = {"searches": {"replayed, 3 seeds": {"budget": 10.0, "courses": courses}}}
    row = {"10% of the time": 0.0, "25% of the time": 0.5, "50% of the time": 0.5, "100% of the time": 0.7, "trials": 2}
    assert tuners.table(kept)["replayed, random"] == row
    tuners.draw(kept, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000
