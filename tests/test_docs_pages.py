"""What docs/training.md and docs/tuners.md show runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


def run(page, count, folder):
    """Run the blocks of a page in one process."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == count
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", "\n".join(blocks)], cwd=folder, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_blocks_of_the_training_page_run(tmp_path):
    assert "reached after epoch" in run("training.md", 9, tmp_path)
    assert (tmp_path / "rates.png").is_file()


def test_the_block_of_the_tuners_page_runs(tmp_path):
    assert "Leaderboard" in run("tuners.md", 1, tmp_path)
