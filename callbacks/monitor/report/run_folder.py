"""A folder for each fit that a monitor watches."""

import itertools
import re
from pathlib import Path

# Snapshots and findings of a run.
RUN_FILE = "run.json"


def new_run(log_dir: Path) -> tuple[int, Path]:
    """Make the folder of the next run in `log_dir`, and return its number and path; two processes never get the same.

    Raises:
        OSError: the folder cannot be written.

    Examples:
        >>> import tempfile
        >>> log_dir = Path(tempfile.mkdtemp())
        >>> [(number, path.name) for number, path in (new_run(log_dir), new_run(log_dir))]
        [(1, 'run_000001'), (2, 'run_000002')]
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    numbers = [int(match[1]) for path in log_dir.iterdir() if (match := re.fullmatch(r"run_(\d+)", path.name))]
    for number in itertools.count(max(numbers, default=0) + 1):
        try:
            run_path(log_dir, number).mkdir()
        except FileExistsError:
            continue
        return number, run_path(log_dir, number)
    raise AssertionError


def run_path(log_dir: Path, number: int) -> Path:
    """Return the folder of that run."""
    return log_dir / f"run_{number:06}"
