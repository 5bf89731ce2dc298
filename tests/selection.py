"""Which tests run, and how one that failed runs again alone.

    pytest            every case of every test that is not slow
    pytest --slow     slow tests too
    pytest --short    every case of a quick test, one of a longer one, and as many of the long tests as some minutes hold; what is
                      the same on every backend on TensorFlow alone

`--short` draws by the commit, so that every case runs after some commits; `--draw WORD` repeats a draw. The seconds of each test lie in
`tests/seconds.json`; `--time` measures them again. A test named in full, `file.py::test[case]`, always runs.
"""

import collections
import json
import math
import os
import random
import subprocess
from pathlib import Path

import keras
import pytest

TESTS = Path(__file__).resolve().parent
SECONDS = TESTS / "seconds.json"
BACKEND = keras.backend.backend()
# Seconds of a case from which on a test is not quick, and from which on it is long.
QUICK, LONG = 0.1, 0.5
# Seconds of all long tests that are drawn, as `tests/seconds.json` has them: a set that grows takes no longer.
LONG_SECONDS = {"tensorflow": 150, "jax": 150, "torch": 100}[BACKEND]
# Of the short set on two cores of an Intel Xeon; `docs/CONTRIBUTING.md` says when that was measured.
MINUTES = {"tensorflow": 4, "jax": 4, "torch": 3}


def pytest_addoption(parser):
    group = parser.getgroup("keras_ext")
    group.addoption("--short", action="store_true", help="some of all cases, drawn by the commit")
    group.addoption("--draw", metavar="WORD", help="with --short: draw what was drawn for WORD (default: the commit's hash)")
    group.addoption("--slow", action="store_true", help="run tests that are marked slow, too")
    group.addoption("--time", action="store_true", help=f"write the seconds of each test to {SECONDS.name}")


@pytest.hookimpl(tryfirst=True)  # Workers get the options that the controller has by then.
def pytest_configure(config):
    config.option.draw = config.option.draw or _commit()
    if config.option.time and not _is_worker():
        config.pluginmanager.register(_Clock())


def _commit():
    done = subprocess.run(["git", "rev-parse", "--short=8", "HEAD"], cwd=TESTS, capture_output=True, text=True)
    return done.stdout.strip() or "no-commit"


def _is_worker():
    return "PYTEST_XDIST_WORKER" in os.environ


def pytest_report_header(config):
    if not config.option.short:
        return f"{BACKEND}: every case of every test{'' if config.option.slow else ' that is not slow'}"
    return (
        f"{BACKEND}: the short set, drawn by {config.option.draw} "
        f"(to repeat: --draw {config.option.draw}); about {MINUTES[BACKEND]} minutes on two cores"
    )


@pytest.hookimpl(trylast=True)  # what -k and -m leave
def pytest_collection_modifyitems(config, items):
    seconds = json.loads(SECONDS.read_text()).get(BACKEND, {}) if SECONDS.exists() else {}
    _put_long_files_first(items, seconds)
    if BACKEND != "tensorflow":
        skip = pytest.mark.skip(reason="uses TensorFlow itself")
        for item in items:
            if item.get_closest_marker("needs_tensorflow"):
                item.add_marker(skip)
    if any("::" in argument for argument in config.args):
        return
    if not config.option.slow and "slow" not in config.option.markexpr:
        _deselect(config, items, {item for item in items if item.get_closest_marker("slow")})
    if config.option.short:
        if BACKEND != "tensorflow":
            _deselect(config, items, {item for item in items if item.get_closest_marker("backend_free")})
        drawn = short_set([item.nodeid for item in items], seconds, f"{config.option.draw} {BACKEND}")
        _deselect(config, items, {item for item in items if item.nodeid not in drawn})


def _deselect(config, items, unwanted):
    items[:] = [item for item in items if item not in unwanted]
    config.hook.pytest_deselected(items=list(unwanted))


def _put_long_files_first(items, seconds):
    """Workers that take what is next end together only if the long files do not come last."""
    of_file = collections.Counter()
    for item in items:
        of_file[item.path] += seconds.get(test_of(item.nodeid), 0)
    items.sort(key=lambda item: -of_file[item.path])


def test_of(nodeid):
    """Return the test of a case."""
    return nodeid.partition("[")[0]


test_of.__test__ = False


def short_set(cases, seconds, word, budget=LONG_SECONDS):
    """Draw by `word` from the cases of all tests, of which one case takes `seconds`; a test without any is quick. Long ones for `budget`.

    Long tests of about the same length draw against each other, so that every draw takes about as long.
    """
    draw = random.Random(word)
    tests = collections.defaultdict(list)
    for case in cases:
        tests[test_of(case)].append(case)
    long_tests = sorted((test for test in tests if seconds.get(test, 0) >= LONG), key=lambda test: (-seconds[test], test))
    share = max(1, math.ceil(sum(seconds[test] for test in long_tests) / budget))
    drawn = {draw.choice(long_tests[i : i + share]) for i in range(0, len(long_tests), share)}
    for test in set(long_tests) - drawn:
        del tests[test]
    return {case for test, its in tests.items() for case in ([draw.choice(its)] if seconds.get(test, 0) >= QUICK else its)}


def pytest_terminal_summary(terminalreporter, config):
    failed = dict.fromkeys(r.nodeid for kind in ("failed", "error") for r in terminalreporter.getreports(kind) if "::" in r.nodeid)
    if failed:
        terminalreporter.section("to run one of them again alone")
    for nodeid in failed:
        terminalreporter.line(f"python3 run.py test --backend {BACKEND} '{nodeid}'")


class _Clock:
    """Measures the cases of each test, set-up included, and writes the means of those that are not quick."""

    def __init__(self):
        self.cases = collections.Counter()

    def pytest_runtest_logreport(self, report):
        self.cases[report.nodeid] += report.duration

    def pytest_sessionfinish(self):
        by_test = collections.defaultdict(list)
        for case, seconds in self.cases.items():
            by_test[test_of(case)].append(seconds)
        means = {test: round(sum(cases) / len(cases), 1) for test, cases in by_test.items()}
        known = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
        known[BACKEND] = {test: mean for test, mean in sorted({**known.get(BACKEND, {}), **means}.items()) if mean >= QUICK}
        SECONDS.write_text(json.dumps(known, indent=0) + "\n")
