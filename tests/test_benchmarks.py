"""The frame of the benchmarks: its arithmetic on a clock of its own, and the command in a process of its own. No time is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from benchmarks import measure, report
from benchmarks.figure import Figure
from benchmarks.measure import Effort, Spread

ROOT = Path(__file__).parents[1]


class FakeClock:
    """A clock that moves only when work is done on it."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def work(self, name, seconds):
        def step():
            self.now += seconds
            self.log.append(name)
            return name

        return step


def test_a_sample_repeats_all_steps_as_often_as_the_fastest_needs_and_waits_once():
    clock, waited = FakeClock(), []
    steps = {"fast": clock.work("fast", 0.25), "slow": clock.work("slow", 1.0)}
    samples = measure.samples(steps, waited.append, Effort(sample_seconds=0.75), clock)
    clock.log.clear()
    waited.clear()
    assert samples["fast"]() == 0.25
    assert samples["slow"]() == 1.0
    assert clock.log == ["fast"] * 3 + ["slow"] * 3
    assert waited == ["fast", "slow"]


def test_waiting_counts():
    clock = FakeClock()

    def wait(_):
        clock.now += 2.0

    sample = measure.samples({"a": clock.work("a", 0.0)}, wait, Effort(sample_seconds=0.0), clock)["a"]
    assert sample() == 2.0


def test_rounds_take_turns_in_who_goes_first():
    clock = FakeClock()
    a, b = clock.work("a", 1.0), clock.work("b", 1.0)
    variants = {"a": lambda: float(len(a())), "b": lambda: float(len(b()))}
    seconds = measure.interleave(variants, Effort(seconds=1e9, least=1, most=4), clock)
    assert "".join(clock.log) == "abbaabba"
    assert seconds == {"a": [1.0] * 4, "b": [1.0] * 4}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (5.0, 5), (1e9, 8)])
def test_rounds_end_with_the_time_but_within_their_limits(seconds, rounds):
    clock = FakeClock()
    variants = {"a": lambda: clock.work("a", 1.0)() and 1.0}
    assert len(measure.interleave(variants, Effort(seconds=seconds, least=3, most=8), clock)["a"]) == rounds


def test_ratios_are_taken_round_by_round():
    assert measure.ratios([1.0, 4.0, 30.0], [1.0, 2.0, 10.0]) == Spread(2.0, 1.5, 2.5)
    assert measure.added([3.0, 5.0], [1.0, 1.0]) == [2.0, 4.0]


def test_a_cost_within_the_noise_gets_no_ratio():
    sure, unsure = [2.0] * 9 + [-1.0], [2.0] * 8 + [-1.0, 0.0]
    assert measure.own_cost_ratios([1.0] * 10, sure) == Spread(0.5, 0.5, 0.5)
    assert measure.own_cost_ratios([1.0] * 10, unsure) is None


def test_figures_are_read_as_ratios_or_as_what_is_added():
    ratio = Figure("P", "c", "m", 2.0, 1.0, Spread(0.5, 0.25, 0.75), 3)
    assert str(ratio) == "0.50 (0.25 to 0.75)"
    assert str(Figure("P", "c", "m", 1.0, 1.02, Spread(1.02, 0.99, 1.05), 3, percent=True)) == "+2.0 % (-1.0 to +5.0)"
    assert str(Figure("P", "c", "m", 0.0, 0.0, None, 3)) == "within the noise"


def test_the_page_holds_every_backend_that_was_saved(tmp_path):
    figure = Figure("Part", "case", "mode", 2.0000004, 1.0, Spread(0.5, 0.25, 0.75), 3, detail={"start": 7.0})
    for backend in ("jax", "torch"):
        report.save(tmp_path, backend, "layers", {"command": f"run {backend}"}, [figure])
    page = (tmp_path / "results.md").read_text()
    assert page.count("| Part | case | mode | 2.00 ms | 1.00 ms | 0.50 (0.25 to 0.75) | 3 | start 7.0 ms |") == 2
    assert "- command: `run jax`" in page
    assert json.loads((tmp_path / "results-jax-layers.json").read_text())["figures"][0]["keras"] == 2.0


GROUPS = {
    "layers": {"BatchNormalization", "Dropout"},
    "memory": {"BatchNormalization", "Dropout"},
    "optimizers": {"SGD, momentum", "Adagrad", "RMSprop", "Adam", *(["Adam, lazy"] if keras.backend.backend() == "tensorflow" else [])},
    "clipping": {f"GradientClipping {rule}" for rule in ("global_norm", "norm", "value")},
    "monitor": {"SaturationMonitor"},
}


SLOW_GROUPS = pytest.param(["layers", "memory", "optimizers", "monitor"], marks=pytest.mark.slow)


@pytest.mark.parametrize("names", [["clipping"], SLOW_GROUPS], ids=",".join)
def test_the_command_writes_json_and_markdown(names, tmp_path):
    groups = {name: GROUPS[name] for name in names}
    words = ["--quick", "--only", ",".join(groups), "--output", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    paths = sorted(tmp_path.glob("results-*.json"))
    results = {result["group"]: result for result in (json.loads(path.read_text()) for path in paths)}
    assert {group: {f["part"] for f in result["figures"]} for group, result in results.items()} == groups
    assert all(f["rounds"] == 2 for result in results.values() for f in result["figures"])
    for group, result in results.items():
        assert result["header"]["command"] == f"python -m benchmarks --backend {result['backend']} --only {group} --quick"
    page = (tmp_path / "results.md").read_text()
    assert page.count("\n| ") == sum(len(result["figures"]) + 2 for result in results.values())
    texts = [page, *(path.read_text() for path in paths)]
    assert not any(str(folder) in text for folder in (tmp_path, ROOT) for text in texts)


def test_an_unknown_group_is_refused():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--only", "layer"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "must be some of layers, memory, initializers, optimizers, clipping, monitor, with commas, got 'layer'." in done.stderr
