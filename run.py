"""Set up and run, in one line: `python3 run.py search` or `python3 run.py test`.

Uses the virtual environment that is active, or makes one in `.venv` beside this file; the second time it reuses what is there. Whatever
follows goes on to the command: `python3 run.py search --trials 5`, `python3 run.py test -k dropout`. It needs Python and nothing else.
"""

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
EXTRAS = {"search": "", "test": "[test]"}


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


def environment() -> Path:
    """Return the Python of the active virtual environment, or of `.venv`, which is made if it is missing."""
    if sys.prefix != sys.base_prefix and sys.version_info[:2] in PYTHONS:
        return Path(sys.executable)
    folder = HERE / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print("making a virtual environment in .venv", flush=True)
        made = subprocess.run([fitting_python(), "-m", "venv", str(folder)], capture_output=True, text=True)
        if made.returncode != 0:
            shutil.rmtree(str(folder), ignore_errors=True)
            fail("cannot make a virtual environment. On Debian and Ubuntu: sudo apt install python3-venv\n" + made.stdout + made.stderr)
    return python


def install(python: Path, extras: str) -> None:
    """Install the package into the environment, unless this version of pyproject.toml is there already."""
    stamp = python.parent.parent / ("keras_ext%s.installed" % extras)
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes() + str(HERE).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    where = "into %s, editable" % python.parent.parent
    print("installing this clone's keras_ext%s %s, and what it needs (once; TensorFlow is large)" % (extras, where), flush=True)
    done = subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--editable", str(HERE) + extras])
    if done.returncode != 0:
        fail("pip could not install the packages; its messages are above.")
    stamp.write_text(wanted)


def main(words: List[str]) -> int:
    """Set up, say how long that took, and run the command."""
    if not words or words[0] not in EXTRAS:
        fail("say what to run: python3 run.py search, or python3 run.py test")
    began = time.monotonic()
    python = environment()
    install(python, EXTRAS[words[0]])
    print("set-up: %.0f s" % (time.monotonic() - began), flush=True)
    if words[0] == "search":
        command = [str(python), "-m", "keras_ext", "search"] + words[1:]
        return subprocess.call(command)
    # One process a core; a file's tests stay together, since they share what they have made.
    command = [str(python), "-m", "pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"] + words[1:]
    return subprocess.call(command, cwd=str(HERE))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
