"""The short set of tests, and the command that a failed test ends with."""

import ast
import json
import os
import runpy
from pathlib import Path

import keras
import processes
import pytest
import selection

ROOT = Path(__file__).resolve().parent.parent
CASES = [f"a.py::quick[{i}]" for i in range(9)] + [f"a.py::middling[{i}]" for i in range(9)]
CASES += [f"{file}.py::long_{test}[{i}]" for file in "ab" for test in range(4) for i in range(3)]
TAKES = {"a.py::middling": 0.2, **{f"{file}.py::long_{test}": 4.0 for file in "ab" for test in range(4)}}


def drawn(word):
    return selection.short_set(CASES, TAKES, word, budget=12)


def test_the_short_set_has_every_quick_case_one_of_the_others_and_long_tests_for_some_seconds():
    for word in "abcdefgh":
        found = drawn(word)
        assert sum("quick" in case for case in found) == 9
        assert sum("middling" in case for case in found) == 1
        # Of eight long tests of 4 seconds each, by threes.
        assert len([case for case in found if "long" in case]) == 3


def test_one_word_draws_the_same_and_all_words_draw_every_case():
    assert drawn("a") == drawn("a")
    assert set().union(*(drawn(str(i)) for i in range(200))) == set(CASES)


SUITE = """
import pytest

@pytest.mark.parametrize("name", ["a b", "c"])
def test_one(name):
    assert name == "c"

@pytest.mark.slow
def test_two():
    pass

@pytest.mark.backend_free
def test_three():
    pass
"""


def ran(folder, *words):
    (folder / "test_it.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    backend_free\n    needs_tensorflow\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        env.pop(name, None)
    return processes.run("-m", "pytest", "-p", "selection", "-p", "no:cacheprovider", *words, cwd=folder, env=env).stdout


SHORT = 2 if keras.backend.backend() == "tensorflow" else 1


@pytest.mark.parametrize(
    ("words", "passed"), [((), 2), (("--slow",), 3), (("--short", "--draw", "b"), SHORT), (("test_it.py::test_two",), 1)]
)
def test_what_runs(tmp_path, words, passed):
    printed = ran(tmp_path, *words)
    assert f"{passed} passed" in printed
    assert ("to repeat: --draw b" in printed) == ("--short" in words)


def test_a_failed_test_ends_with_the_command_that_repeats_it_alone(tmp_path):
    last = f"python3 run.py test --backend {keras.backend.backend()} 'test_it.py::test_one[a b]'"
    assert last in ran(tmp_path).splitlines()


def test_run_gives_every_case_of_what_is_named_and_else_the_short_set(monkeypatch):
    run = runpy.run_path(str(ROOT / "run.py"))
    asked = []
    names = run["test"].__globals__
    monkeypatch.setitem(names, "set_up", lambda name, what: Path(name))
    monkeypatch.setattr(names["subprocess"], "call", lambda command, env, **_: asked.append((command[3:], env["KERAS_BACKEND"])) or 3)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    workers = ["-n", "auto", "--dist", "worksteal"]
    for words, expected in (
        ([], [([*workers, "--short"], "tensorflow")]),
        (["--backend", "jax", "--draw", "a"], [([*workers, "--draw", "a", "--short"], "jax")]),
        (["tests/layers"], [([*workers, "tests/layers"], "tensorflow")]),
        (["-k", "dropout"], [([*workers, "-k", "dropout"], "tensorflow")]),
        (["tests/conftest.py::test[a b]"], [(["-n", "0", "tests/conftest.py::test[a b]"], "tensorflow")]),
        (["--all"], [([*workers, "--slow"], backend) for backend in ("tensorflow", "jax", "torch")]),
    ):
        del asked[:]
        assert run["test"](words) == 3
        assert asked == expected


def test_every_test_that_has_seconds_exists():
    """A test that was renamed would count as quick."""
    timed = {name for tests in json.loads(selection.SECONDS.read_text()).values() for name in tests}
    files = {name.partition("::")[0] for name in timed}
    there = {
        f"{file}::{node.name}"
        for file in files
        if (ROOT / file).exists()
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert timed - there == set()
