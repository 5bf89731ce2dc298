"""Scripts as users have them, run here or in processes of their own."""

import os
import runpy
import subprocess
import sys

import processes
import pytest


@pytest.fixture
def run_here(monkeypatch):
    """A function that runs a script in this process, in a folder, and returns its names.

    It saves the seconds that a process needs to start; what must outlive a process is for `run_alone`.
    """

    def run(script, folder, *arguments):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "script.py"
        path.write_text(script)
        with monkeypatch.context() as changed:
            changed.chdir(folder)
            changed.setattr(sys, "argv", [str(path), *map(str, arguments)])
            return runpy.run_path(str(path), run_name="__main__")

    return run


@pytest.fixture
def run_alone():
    """A function that runs a script in a process of its own, in a folder, and returns the process once it has ended.

    `first_path` is a folder whose modules come before all others.
    """

    def run(script, folder, *arguments, first_path=None):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "script.py"
        path.write_text(script)
        paths = [str(each) for each in (first_path, os.environ.get("PYTHONPATH")) if each]
        env = {**os.environ, **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}
        if not first_path:
            return processes.run(path, *arguments, cwd=folder, env=env)
        words = [sys.executable, path, *map(str, arguments)]
        return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=300)

    return run
