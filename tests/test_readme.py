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
    # The first one shows a warning.
    strict = [] if block is BLOCKS[0] else ["-W", "error::UserWarning"]
    return processes.run(*strict, "-c", block, cwd=folder)


def test_there_are_blocks():
    assert len(BLOCKS) == 4


def test_the_first_block_prints_what_stands_below_it(ran):
    shown = " ".join(" ".join(re.findall(r"^    (.*)$", README.partition("```\n")[2], re.MULTILINE)[:2]).split())
    assert shown.startswith('UserWarning: critical: vanishing gradient in layer "hidden_1", epoch 3.')
    # The first weights are drawn: other runs have other digits.
    pattern = re.escape(shown).replace(re.escape("1e-06"), r"\de-\d\d")
    assert re.search(pattern, " ".join(ran[0].stderr.split()))


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
