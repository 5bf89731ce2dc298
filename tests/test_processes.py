"""A forked process ends and prints as one that Python starts."""

import os
import subprocess
import sys

import processes
import pytest

pytestmark = pytest.mark.backend_free

SCRIPTS = {
    "prints": "import sys; print(__name__, sys.argv[1:]); print('late', file=sys.stderr)",
    "exits": "import sys; sys.exit(3)",
    "says why": "raise SystemExit('no such file')",
    "fails": "print(1); 1 / 0",
    "at its exit": "import atexit; atexit.register(print, 'bye'); print('first')",
    "its folder": "import os; print(os.listdir()); open('new', 'w').close()",
    "its environment": "import os; print(os.environ['ASKED'], 'TF_CPP_MIN_LOG_LEVEL' in os.environ)",
    "its classes": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
    "its signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_ends_and_prints_as_a_process_that_python_starts(name, tmp_path):
    words = ["-c", SCRIPTS[name], "a", "b c"]
    env = {**os.environ, "ASKED": "yes"}
    env.pop("TF_CPP_MIN_LOG_LEVEL", None)  # which the server has
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    forked = processes.run(*words, cwd=tmp_path / "here", env=env)
    real = subprocess.run([sys.executable, *words], cwd=tmp_path / "there", env=env, capture_output=True, text=True)
    assert (forked.returncode, forked.stdout) == (real.returncode, real.stdout)
    assert forked.stderr.splitlines()[-1:] == real.stderr.splitlines()[-1:]


def test_a_warning_can_be_an_error():
    done = processes.run("-W", "error::UserWarning", "-c", "import warnings; warnings.warn('careful')")
    assert done.returncode == 1
    assert done.stderr.endswith("UserWarning: careful\n")


def test_what_takes_too_long_is_killed_and_the_next_one_runs():
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run("-c", "import time; time.sleep(60)", timeout=1)
    assert processes.run("-c", "print(2)").stdout == "2\n"
