"""KerasTuner's project folder, readable after a kill at any moment.

KerasTuner writes its files in place, so a kill leaves half a file. It writes a new trial before the oracle that knows of it. Here every
write is atomic, and `recover` removes a trial that no oracle knows.
"""

import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner

from keras_ext._atomic import write_bytes
from keras_ext._backend import keras_private
from keras_ext._warnings import warn


@contextlib.contextmanager
def atomic_state_files() -> Iterator[None]:
    """Make KerasTuner's writes of its state files atomic while the block runs.

    What cannot be written, as on a full disk, is tried again with each file that follows, and at the end.

    Raises:
        OSError: at the end something still cannot be written.
    """
    waiting: dict[Path, str] = {}
    lock = threading.Lock()

    def write_what_waits() -> OSError | None:
        for path in list(waiting):
            try:
                write_bytes(path, waiting[path].encode())
            except OSError as error:
                return error
            del waiting[path]
        return None

    def save(path: str, content: Any) -> str:
        text = json.dumps(content)
        with lock:
            was_well = not waiting
            waiting[Path(path)] = text
            error = write_what_waits()
        if error is not None and was_well:
            warn(f"{path}: cannot be written ({error.strerror}). The search goes on, and tries again. Make room.")
        return text

    with keras_private.keras_tuner_saves_json_with(save):
        yield
    with lock:
        error = write_what_waits()
    if error is not None:
        raise OSError(error.errno, f"{len(waiting)} files of the search could not be written: {error.strerror}", str(next(iter(waiting))))


def recover(tuner: Any) -> None:
    """Make a `tuner` whose process was killed able to go on, also with more or fewer trials at once.

    Trials that began, and that its oracle does not know, are taken away: KerasTuner reads them back all the same, counts them, and
    never runs them. Those that were running wait to run again: KerasTuner gives each to the process of the same name alone, and to none if
    there is no such process any more.
    """
    oracle = tuner.oracle
    if not isinstance(oracle, keras_tuner.Oracle):
        return  # a worker's, whose chief keeps the trials
    for name in set(oracle.trials) - set(oracle.start_order):
        del oracle.trials[name]
        shutil.rmtree(tuner.get_trial_dir(name), ignore_errors=True)
    if oracle.ongoing_trials:
        state = oracle.get_state()
        # It takes the last first.
        again = sorted((trial.trial_id for trial in oracle.ongoing_trials.values()), key=oracle.start_order.index, reverse=True)
        oracle.set_state({**state, "ongoing_trials": {}, "retry_queue": [*state["retry_queue"], *again]})
