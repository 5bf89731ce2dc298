"""What the README shows runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import processes
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run the blocks one after the other in one folder, each in a new process."""
    folder = tmp_path_factory.mktemp("readme")
    return [run(block, folder) for block in BLOCKS]


def run(block, folder):
    return processes.run("-W", "error::UserWarning", "-c", block, cwd=folder)


def test_there_are_blocks():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("i", range(len(BLOCKS)))
def test_a_block_runs(ran, i):
    assert ran[i].returncode == 0, ran[i].stderr[-2000:]


def test_pictures_and_scripts_that_it_names_exist():
    for name in [*re.findall(r"\((docs/[^)]+)\)", README), *re.findall(r"(?:examples|benchmarks)/[\w/]+\.\w+", README), "run.py"]:
        assert (ROOT / name).is_file(), name


def test_run_says_what_it_can_run():
    done = subprocess.run([sys.executable, ROOT / "run.py", "serach"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "run.py: say what to run: python3 run.py search, or python3 run.py test\n"
