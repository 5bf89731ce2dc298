"""The benchmarks: their arithmetic on a clock of its own, their goals, and the command on tiny cases. No time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from click.testing import CliRunner

from benchmarks import BACKENDS, __main__, check, comparison, machine, store
from benchmarks.comparison import Comparison
from benchmarks.figure import Figure, Spread, ratios
from benchmarks.registry import BENCHMARKS, GROUPS
from benchmarks.studies import unpromising_trials

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).parents[1]
BACKEND = keras.backend.backend()


class FakeClock:
    """A clock that moves only when work is done on it."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def __call__(self):
        return self.now

    def step(self, name, seconds):
        """Return what builds a step that takes so long."""

        def work():
            self.now += seconds
            self.log.append(name)
            return name

        return lambda: work


def test_rounds_take_turns_in_who_goes_first():
    clock = FakeClock()
    steps = {name: clock.step(name, 1.0)() for name in "ab"}
    costs = comparison.interleave({name: lambda step=step: len(step()) for name, step in steps.items()}, 1, 4, 1e9, clock)
    assert "".join(clock.log) == "abbaabba"
    assert costs == {"a": [1] * 4, "b": [1] * 4}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (5.0, 5), (1e9, 8)])
def test_rounds_end_with_the_time_but_within_their_limits(seconds, rounds):
    clock = FakeClock()
    assert len(comparison.interleave({"a": clock.step("a", 1.0)()}, 3, 8, seconds, clock)["a"]) == rounds


def test_ratios_are_taken_round_by_round():
    assert ratios([1.0, 4.0, 30.0], [1.0, 2.0, 10.0]) == Spread(2.0, 1.5, 2.5)


def test_a_sample_warms_up_repeats_both_steps_as_often_as_the_fastest_needs_and_waits_once(monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLE_SECONDS", 0.75)
    clock, waited = FakeClock(), []
    samples = comparison.timed({"fast": clock.step("fast", 0.25)(), "slow": clock.step("slow", 1.0)()}, False, waited.append, clock)
    assert clock.log == ["fast"] * 3 + ["slow"] * 3 + ["fast", "slow"]
    clock.log.clear()
    waited.clear()
    assert (samples["fast"](), samples["slow"]()) == (0.25, 1.0)
    assert clock.log == ["fast"] * 3 + ["slow"] * 3
    assert waited == ["fast", "slow"]


def test_waiting_counts_and_what_both_steps_share_does_not():
    clock = FakeClock()

    def wait(_):
        clock.now += 0.5

    steps = {name: clock.step(name, seconds) for name, seconds in {"ours": 2.0, "keras": 5.0, "without": 1.0}.items()}
    whole = Comparison("P", "c", "m", steps["ours"], steps["keras"], rounds=2, seconds=0.0).measure(False, wait, clock)
    assert (whole.ours, whole.keras, whole.ratio.median) == (2500.0, 5500.0, 2.5 / 5.5)
    own = Comparison("P", "c", "m", **steps, rounds=2, seconds=0.0).measure(False, wait, clock)
    assert (own.ours, own.keras, own.ratio) == (1000.0, 4000.0, Spread(0.25, 0.25, 0.25))
    assert own.detail == {"step without": 1500.0}


def test_a_cost_that_is_not_timed_is_the_number_of_the_step_and_what_is_added_comes_on_top():
    added = Comparison("P", "c", "m", lambda: lambda: 3.0, lambda: lambda: 100.0, added=True, timed=False, unit="MB")
    figure = added.measure(True, None, FakeClock())
    assert (figure.ours, figure.keras, figure.unit, figure.rounds) == (103.0, 100.0, "MB", 2)
    assert figure.ratio.median == 1.03


def test_a_cost_within_the_noise_gets_no_ratio_and_the_whole_steps_are_compared():
    own = Comparison("P", "c", "m", None, None, lambda: None)

    def figure(keras):
        return own.figure({"ours": [2.0] * 10, "keras": keras, "without": [1.0] * 10})

    assert figure([3.0] * 9 + [0.0]).ratio == Spread(0.5, 0.5, 0.5)
    unsure = figure([3.0] * 8 + [1.0, 0.0])
    assert unsure.ratio is None
    assert unsure.row["whole steps"] == pytest.approx(2.0 / 3.0)


def saved(folder, name, *figures, backend="jax"):
    records = [{**vars(f), "ratio": f.ratio and vars(f.ratio)} for f in figures]
    return store.save(folder, BENCHMARKS[name], backend, {"header": {"command": "run it", "date": "2026-01-01"}, "figures": records})


def test_the_page_holds_every_backend_that_was_saved(tmp_path):
    figure = Figure("Part", "case", "mode", 2.0000004, 1.0, Spread(0.5, 0.25, 0.75), 3, detail={"step without": 7.0})
    hidden = Figure("Other", "case", "mode", 2.0, 1.0, None, 3)
    assert [saved(tmp_path, "layers", figure, hidden, backend=b).name for b in ("jax", "torch")] == ["layers-jax.json", "layers-torch.json"]
    page = (tmp_path / "results.md").read_text()
    assert page.count("| Part, case [mode] | 2 | 1 | ms | -1 | 0.50 (0.25 to 0.75) | 3 | 7 |  |") == 2
    assert page.count("| Other, case [mode] | 2 | 1 | ms | -1 | within the noise | 3 |  | 0.5 |") == 2
    assert "- date: 2026-01-01" in page
    assert json.loads((tmp_path / "layers-jax.json").read_text())["figures"][0]["keras"] == 2.0


def test_the_kept_page_is_that_of_the_kept_files():
    assert (__main__.RESULTS / "results.md").read_text(encoding="utf-8") == store.page(__main__.RESULTS)


def test_every_kept_file_is_a_benchmark_s():
    names = {f"{name}-{backend}.json" for name in BENCHMARKS for backend in BACKENDS}
    assert {path.name for path in __main__.RESULTS.glob("*.json")} <= names


# Goals.


def test_every_goal_quotes_its_page():
    texts = {page: " ".join((ROOT / page).read_text(encoding="utf-8").split()) for page in {goal.page for goal in check.GOALS}}
    assert {(goal.page, goal.quoted) for goal in check.GOALS if goal.quoted not in texts[goal.page]} == set()


def test_every_goal_finds_its_figure_among_those_that_the_project_keeps():
    """A goal whose row is misspelled would never be missed. Of what no file is kept nothing is found."""
    found = check.verdicts(__main__.RESULTS, BACKENDS)
    missing = {(v.goal.benchmark, v.goal.row) for v in found} - {(v.goal.benchmark, v.goal.row) for v in found if v.value is not None}
    rows = {row for benchmark, row in missing if benchmark != "digits_search"}
    assert all(row.endswith("8 of 2,048 x 2,048, peak memory of the process") for row in rows)


BN = "BatchNormalization", "16 x 56 x 56 x 32", "jit"


@pytest.fixture
def run(monkeypatch):
    """A function that runs `python -m benchmarks` in this process and returns its exit code and what it printed."""
    for name in ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "XLA_PYTHON_CLIENT_PREALLOCATE", machine.ASKED, *machine.HIDDEN):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words):
        done = CliRunner().invoke(__main__.main, [str(word) for word in words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    return command


@pytest.mark.parametrize(
    ("ratio", "says"),
    [(Spread(0.6, 0.5, 0.8), "held"), (Spread(0.8, 0.6, 0.9), "held within the noise"), (Spread(0.8, 0.75, 0.9), "missed")],
)
def test_a_goal_is_missed_where_even_the_lower_quartile_is_over_its_bound(run, tmp_path, ratio, says):
    """Of the page's row, .7 for batch normalization."""
    saved(tmp_path, "layers", Figure(*BN, 2.0, 1.0, ratio, 9))
    (verdict,) = [v for v in check.verdicts(tmp_path, BACKENDS) if v.value is not None]
    assert (verdict.says, verdict.where, verdict.bound) == (says, "jax [jit]", 0.7)
    code, output = run("--check", "--output", tmp_path)
    assert code == (says == "missed")
    assert f"1 {says}" in output
    assert run("--check", "--backend", "torch", "--output", tmp_path)[0] == 0


@pytest.mark.parametrize(("ours", "says"), [(0.9, "held"), (3.0, "missed")])
def test_where_keras_s_part_is_within_the_noise_the_whole_step_counts(tmp_path, ours, says):
    part = "GradientClipping global_norm", "4 of 2,048 x 2,048", "jit"
    saved(tmp_path, "clipping", Figure(*part, -0.1, ours, None, 9, detail={"step without": 10.0}))
    (verdict,) = [v for v in check.verdicts(tmp_path, BACKENDS) if v.value is not None]
    assert (verdict.says, verdict.value.median) == (says, 1 + ours / 10)


def test_a_goal_of_what_is_to_be_large_is_missed_below_its_bound(tmp_path):
    def says(score):
        accuracies = {"validation accuracy": score, "test accuracy": 0.99}
        kept = {"header": {}, "seconds": {"in this process": [1.0]}, "accuracies": accuracies}
        store.save(tmp_path, BENCHMARKS["digits_search"], "tensorflow", kept)
        return sorted(v.says for v in check.verdicts(tmp_path, BACKENDS) if v.value is not None)

    assert says(0.9750) == ["held", "held"]
    assert says(0.9744) == ["held", "missed"]


# The command.


@pytest.fixture
def ran(monkeypatch):
    """What other processes were asked to run; nothing is measured, and every one on PyTorch fails."""
    ran = []

    def fake(command, check):
        ran.append(command[3:])
        return subprocess.CompletedProcess(command, returncode="torch" in command)

    monkeypatch.setattr(subprocess, "run", fake)
    return ran


def test_groups_are_measured_by_default_and_studies_where_they_are_named(run, ran, tmp_path):
    assert run("--output", tmp_path)[0] == 0
    assert [words[1] for words in ran] == GROUPS
    assert ran[0] == ["--only", "layers", "--output", str(tmp_path)]
    ran.clear()
    assert run("--output", tmp_path, "--only", "oracle_cost, clipping,layers", "--quick")[0] == 0
    assert [words[1] for words in ran] == ["layers", "clipping", "oracle_cost"]
    assert ran[0][-1] == "--quick"
    ran.clear()
    run("--output", tmp_path, "--only", "search")
    assert [words[1] for words in ran] == [name for name, b in BENCHMARKS.items() if b.is_study]


def test_all_backends_have_processes_each_and_a_study_of_one_backend_runs_there(run, ran, monkeypatch, tmp_path):
    monkeypatch.setattr(__main__.importlib.util, "find_spec", lambda name: None if name == "tensorflow" else name)
    words = ["--output", str(tmp_path), "--device", "cpu"]
    code, output = run("--backend", "all", "--only", "oracle_cost,layers", *words)
    each = [("jax", "layers"), ("jax", "oracle_cost"), ("torch", "layers")]
    assert ran == [["--only", name, "--backend", backend, *words] for backend, name in each]
    assert code == 1
    assert "tensorflow: not installed, left out." in output
    assert "No figures of layers on torch: see above." in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "layer"], "must be some of layers, memory, initializers, optimizers, clipping, monitor, trial_overhead,"),
        (["--only", " , "], "with commas, got ' , '."),
        (["--quick"], "--quick needs --output"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused(run, ran, words, message):
    code, output = run(*words)
    assert code == 2
    assert message in " ".join(output.replace("│", " ").split())
    assert ran == []


def test_a_gpu_that_is_not_there_is_an_error_before_anything_is_measured(run, tmp_path):
    if machine.device() != "CPU":
        pytest.skip("has a GPU")
    code, output = run("--device", "gpu", "--quick", "--only", "initializers", "--output", tmp_path)
    assert code == 1
    assert f"--device gpu: {BACKEND} sees no GPU here" in output
    assert list(tmp_path.iterdir()) == []


def test_the_cpu_alone_is_left_to_this_process_and_its_children(run, ran, tmp_path):
    run("--device", "cpu", "--output", tmp_path)
    assert {name: os.environ[name] for name in machine.HIDDEN} == machine.HIDDEN
    assert machine.header("measure")["command"] == "measure --device cpu"


def test_commands_that_the_pages_name_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), __main__.RESULTS / "results.md"]
    words = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in pages).split("python -m benchmarks")[1:]
    commands = [text.partition("`")[0].split() for text in words]
    only = {name for command in commands if "--only" in command for name in command[command.index("--only") + 1].split(",")}
    assert len(only) > 10
    assert only <= set(BENCHMARKS) | {"search"}
    modules = {command[0] for command in commands if command and command[0].startswith(".")}
    assert modules == {".studies.shared_programs", ".studies.time_to_score"}
    options = {option for parameter in __main__.main.params for option in parameter.opts}
    assert {word for command in commands for word in command if word.startswith("--")} <= options


def measured(tmp_path, *names):
    words = ["--quick", "--device", "cpu", "--only", ",".join(names), "--output", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "results.md").read_text()
    assert str(ROOT) not in page
    return {name: json.loads((tmp_path / f"{name}-{BACKEND}.json").read_text()) for name in names}, page


SLOW = [name for name in GROUPS if name != "initializers"]


@pytest.mark.parametrize("names", [["initializers"], pytest.param(SLOW, marks=pytest.mark.slow)], ids=",".join)
def test_the_command_writes_json_and_markdown(names, tmp_path):
    results, page = measured(tmp_path, *names)
    for name, kept in results.items():
        assert {(f["rounds"], f["part"] == "") for f in kept["figures"]} == {(2, False)}
        assert kept["header"]["command"] == f"python -m benchmarks --backend {BACKEND} --only {name} --quick --device cpu"
        assert kept["header"]["device"] == "CPU"
    assert page.count("\n| ") == sum(len(kept["figures"]) + 2 for kept in results.values())


@pytest.mark.slow
def test_the_command_runs_studies_and_puts_them_on_the_page(tmp_path):
    names = ["unpromising_digits", "oracle_cost", "time_to_score"]
    results, page = measured(tmp_path, *names)
    assert all(f"\n## {name}\n" in page for name in names)
    assert results["time_to_score"]["searches"].keys() == {"wine"}
    assert {cost["oracle"] for cost in results["oracle_cost"]["costs"]} == {"random", "hyperband", "grid", "tpe"}
    assert list(results["unpromising_digits"]["searches"][0]) == ["data", "seed", "alone", "monitor"]


def test_a_watched_search_is_compared_with_the_same_trials_alone():
    def trial(score, seconds, stopped=""):
        return dict(zip(unpromising_trials.FIELDS, (score, seconds, seconds, 30, stopped, {}), strict=True))

    searches = {
        "alone": {"0": trial(0.9, 10.0), "1": trial(0.1, 10.0)},
        "monitor": {"0": trial(0.8, 5.0, "critical: dead relu"), "1": trial(0.1, 10.0)},
    }
    rows = unpromising_trials.table({"searches": [{"data": "digits", "seed": 0, **searches}]})
    assert rows["monitor, seed 0"]["time"] == 0.75
    assert rows["monitor, seed 0"]["with foresight"] == 0.5
    assert rows["monitor, seed 0"]["best alone"] == 0.9
    assert rows["monitor, all seeds"]["of the best tenth stopped"] == 1
    assert rows["monitor, all seeds"]["samples lost"] == 36
