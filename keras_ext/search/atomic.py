"""KerasTuner's project folder, readable after a kill at any moment.

KerasTuner writes its files in place, so that a kill leaves half of one, and writes a new trial before the oracle that knows of it. Here
every file is there whole or not at all, and a trial that no oracle knows is taken away before the search goes on.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner

from keras_ext._backend import keras_private


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is there whole or not at all, also after a kill."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextlib.contextmanager
def whole_files() -> Iterator[None]:
    """Let KerasTuner write its state files with `write_json` while the block runs."""

    def save(path: str, content: Any) -> str:
        write_json(Path(path), content)
        return json.dumps(content)

    with keras_private.keras_tuner_saves_json_with(save):
        yield


def mend(tuner: Any) -> None:
    """Take away the trials of a `tuner` that began, but of which its oracle was not told before the process was killed.

    KerasTuner reads them back all the same, counts them, and never runs them.
    """
    oracle = tuner.oracle
    if not isinstance(oracle, keras_tuner.Oracle):
        return  # a worker's, whose chief keeps the trials
    for name in set(oracle.trials) - set(oracle.start_order):
        del oracle.trials[name]
        shutil.rmtree(tuner.get_trial_dir(name), ignore_errors=True)
