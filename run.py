"""Set up and run, in one line: `python3 run.py search` or `python3 run.py test`.

Uses the virtual environment that is active, or makes one in `.venv` beside this file; the second time it reuses what is there. Whatever
follows goes on to the command: `python3 run.py search --trials 5`, `python3 run.py test -k dropout`. It needs Python and nothing else.

The tests run on TensorFlow, and of each test some cases. `--backend jax` and `--backend torch` run them on the others, in
`.venv-no-tensorflow`, and `--all` runs every case and the slow tests, on all three unless one is named. With files, `-k` or `-m` every case
of those runs. `--set-up` makes the environment alone.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List

HERE = Path(__file__).resolve().parent
PYTHONS = ((3, 11), (3, 12), (3, 13))
BACKENDS = ("tensorflow", "jax", "torch")
# Of the environment of JAX and PyTorch. These versions first: a range would bring PyTorch's build for CUDA, of several gigabytes.
PINNED = ["torch==2.13.0", "jax==0.10.2"]
NO_TENSORFLOW = """
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
needed = [each for each in project["dependencies"] if not each.startswith("tensorflow")]
print("\\n".join(needed + [each for name in ("ray", "test", "docs", "export") for each in extras[name]]))
"""


def fail(message: str) -> None:
    """End with one line."""
    sys.exit("run.py: " + message)


def fitting_python() -> str:
    """Return this Python, or another one on the PATH if this one does not fit."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in reversed(PYTHONS):
        other = shutil.which("python%d.%d" % (major, minor))
        if other:
            return other
    fail(
        "needs Python 3.11, 3.12 or 3.13, this is %s. Install one of them and call it by name: python3.12 run.py ..."
        % sys.version.split()[0]
    )
    raise AssertionError


def environment(name: str = ".venv") -> Path:
    """Return the Python of the virtual environment `name` beside this file, which is made if it is missing.

    In place of `.venv` it is the environment that is active.
    """
    if name == ".venv" and sys.prefix != sys.base_prefix and sys.version_info[:2] in PYTHONS:
        return Path(sys.executable)
    folder = HERE / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print("making a virtual environment in %s" % name, flush=True)
        made = subprocess.run([fitting_python(), "-m", "venv", str(folder)], capture_output=True, text=True)
        if made.returncode != 0:
            shutil.rmtree(str(folder), ignore_errors=True)
            fail("cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv\n" + made.stdout + made.stderr)
    return python


def install(python: Path, what: str) -> None:
    """Install the package into the environment, unless this version of pyproject.toml is there already.

    `what` is the extras to install, or "no-tensorflow" for JAX, PyTorch and all that the tests need, without TensorFlow.
    """
    stamp = python.parent.parent / ("keras_ext%s.installed" % what)
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes() + " ".join(PINNED + [str(HERE)]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("installing this clone's keras_ext%s into %s, editable, and what it needs (once)" % (what, python.parent.parent), flush=True)
    if what == "no-tensorflow":
        needed = subprocess.run([str(python), "-c", NO_TENSORFLOW], cwd=str(HERE), capture_output=True, text=True, check=True)
        steps = [PINNED, needed.stdout.split("\n")[:-1], ["--no-deps", "--editable", str(HERE)]]
    else:
        steps = [["--editable", str(HERE) + what]]
    for packages in steps:
        if subprocess.run([str(python), "-m", "pip", "install", "--quiet"] + packages).returncode != 0:
            fail("pip could not install the packages; its messages are above.")
    stamp.write_text(wanted)


def set_up(name: str, what: str) -> Path:
    """Make the environment if it is missing, say how long that took, and return its Python."""
    began = time.monotonic()
    python = environment(name)
    install(python, what)
    print("set-up: %.0f s" % (time.monotonic() - began), flush=True)
    return python


def search(words: List[str]) -> int:
    """Search."""
    return subprocess.call([str(set_up(".venv", "")), "-m", "keras_ext", "search"] + words)


def test(words: List[str]) -> int:
    """Run the tests, with pytest's own options."""
    parser = argparse.ArgumentParser(prog="run.py test", allow_abbrev=False, add_help=False)
    parser.add_argument("--backend", choices=BACKENDS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--set-up", action="store_true")
    asked, words = parser.parse_known_args(words)
    named = [word for word in words if (HERE / word.partition("::")[0]).exists()]
    if asked.all:
        words.append("--slow")
    elif not named and not {"-k", "-m"} & set(words):
        words.append("--short")
    # One process a core, which takes what is next from the other when it has nothing left; none for a single test.
    workers = ["-n", "0"] if named and all("::" in word for word in named) else ["-n", "auto", "--dist", "worksteal"]
    default = BACKENDS if asked.all else [os.environ.get("KERAS_BACKEND", "tensorflow")]
    failed = []
    for backend in [asked.backend] if asked.backend else default:
        python = set_up(".venv", "[test]") if backend == "tensorflow" else set_up(".venv-no-tensorflow", "no-tensorflow")
        if asked.set_up:
            continue
        command = [str(python), "-m", "pytest"] + workers + words
        failed.append(subprocess.call(command, cwd=str(HERE), env=dict(os.environ, KERAS_BACKEND=backend)))
    return max(failed, default=0)


def main(words: List[str]) -> int:
    """Run the command that the words name."""
    commands = {"search": search, "test": test}
    if not words or words[0] not in commands:
        fail("say what to run: python3 run.py search, or python3 run.py test")
    return commands[words[0]](words[1:])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
