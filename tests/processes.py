"""Python in a process of its own, without the seconds that each import of TensorFlow takes.

`run` is `subprocess.run` for a Python command line. A server, one for each process of tests, has imported the package and computed nothing;
a process is a fork of it, which starts with the command line, folder and environment that it is given and ends as Python ends. What is
about starting, being killed or importing needs a real process, and so does a system without `fork`.
"""

import builtins
import gc
import importlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import types
import warnings
from pathlib import Path

_server = []


def run(*words, cwd=None, env=None, timeout=300):
    """Run `python *words` and return the ended process, with what it printed."""
    words = [str(word) for word in words]
    if not hasattr(os, "fork"):
        return subprocess.run([sys.executable, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    if not _server or _server[0].poll() is not None:
        _server[:] = [_start()]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        asked = {
            "words": words,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "timeout": timeout,
            "out": str(out),
            "err": str(err),
        }
        print(json.dumps(asked), file=_server[0].stdin, flush=True)
        code = json.loads(_server[0].stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(words, timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


def _start():
    # TensorFlow says at its first operation, which is the fork's, what it says at import in a real process.
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def _serve():
    """Fork for each line that is read; return in the fork, with what it is to be."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if not pid:
            answers.close()
            return asked
        print(json.dumps(_wait(pid, asked["timeout"])), file=answers, flush=True)
    return None


def _wait(pid, timeout):
    """Return the exit code of a fork, or None if it had to be killed."""

    class TooLong(Exception):
        pass

    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(timeout))
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except TooLong:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _become(asked):
    """Turn this fork into the process that was asked for, up to its first line."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    for descriptor, name in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, mode, buffering=1) for i, mode in ((0, "r"), (1, "w"), (2, "w")))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    words = asked["words"]
    while words[0] == "-W":
        action, category = words[1].split("::")
        warnings.filterwarnings(action, category=getattr(builtins, category))
        words = words[2:]
    del sys.path[0]  # of the server
    paths = [path for path in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path[:0] = ["", *paths]
        return lambda: _run_code(words[1])
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path[:0] = [asked["cwd"], *paths]
        return lambda: runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    sys.argv = words
    sys.path[:0] = [str(Path(words[0]).parent.resolve()), *paths]
    return lambda: runpy.run_path(words[0], run_name="__main__")


def _run_code(code):
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)


# What nearly every test imports. Nothing is computed: threads that ran would be missing in a fork.
IMPORTED = ("matplotlib.pyplot", "sklearn.datasets", "keras_tuner", "keras_ext.callbacks", "keras_ext.commands.search", "keras_ext.search")


def own_lines(stderr):
    """Return the lines of standard error that the command wrote; TensorFlow writes others from C++ at its import."""
    is_other = re.compile(r"(WARNING: All log messages before absl|[IWE]0000 00:00:|To enable the following instructions)")
    return "".join(line for line in stderr.splitlines(keepends=True) if not is_other.match(line))


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # else each fork goes through all of it when it ends
    request = _serve()
    if request is not None:
        body = _become(request)
        # Its end is that of a process: `SystemExit`, an exception and what is registered for the exit go on from here.
        body()
