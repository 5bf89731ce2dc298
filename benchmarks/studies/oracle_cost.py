"""What a search's oracle costs for each trial, by the number of trials before it. Trials are asked for and scored; none is trained."""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import keras_tuner
import numpy as np

from benchmarks import searching
from benchmarks.figure import Spread
from benchmarks.store import Table
from keras_ext._backend import keras_private
from keras_ext.search import MLP
from keras_ext.search.project_folder import atomic_state_files

# Each number of trials is measured by so many rounds, or by fewer where they take longer than so many seconds.
ROUNDS, FEWEST, LIMIT = 10, 2, 40.0


def tuner_of(kind: str) -> Any:
    """Give a tuner of the space that `keras-ext search` gives the digits, for the block."""
    space = MLP((64,), classes=10, samples=1150)
    return searching.endless_tuner(kind, space, 81, objective=keras_tuner.Objective("score", "max"), seed=1)


def one_round(oracle: Any, rng: np.random.Generator) -> str:
    """Ask for a trial, score it by its hyperparameters with noise, and end it; return its name."""
    trial = oracle.create_trial("tuner0")
    assert trial.status == "RUNNING", trial.status
    values, space = trial.hyperparameters.values, trial.hyperparameters.space
    # Of noise alone an oracle that learns has nothing to climb.
    distances = [hp.value_to_prob(values[hp.name]) - 0.6 for hp in space if hp.name in values]
    oracle.update_trial(trial.trial_id, {"score": float(1 - np.mean(np.square(distances)) + 0.01 * rng.normal())})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    return trial.trial_id


def fill(oracle: Any, finished: int, rng: np.random.Generator) -> None:
    """Bring the oracle to so many trials, without files of KerasTuner's."""
    oracle.save = lambda: None
    with keras_private.keras_tuner_saves_json_with(lambda path, content: ""):
        while len(oracle.end_order) < finished:
            one_round(oracle, rng)
    del oracle.save


def cost(kind: str, tuner: Any, finished: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return what rounds cost after `finished` trials: seconds, those of the processor, those in files, and the files' sizes."""
    oracle, trial_class = tuner.oracle, keras_tuner.engine.trial.Trial
    fill(oracle, finished, rng)
    began = time.perf_counter()
    times: dict[str, list[float]] = {"seconds": [], "cpu_seconds": [], "in_files": []}

    def timed(save: Callable[..., None]) -> Callable[..., None]:
        def saving(*args: Any) -> None:
            begin = time.perf_counter()
            save(*args)
            times["in_files"][-1] += time.perf_counter() - begin

        return saving

    name, files = "", [patch.object(oracle, "save", timed(oracle.save)), patch.object(trial_class, "save", timed(trial_class.save))]
    with atomic_state_files(), files[0], files[1]:
        for i in range(ROUNDS):
            if i >= FEWEST and time.perf_counter() - began > LIMIT:
                break
            times["in_files"].append(0.0)
            begin, begin_cpu = time.perf_counter(), time.process_time()
            name = one_round(oracle, rng)
            times["seconds"].append(time.perf_counter() - begin)
            times["cpu_seconds"].append(time.process_time() - begin_cpu)
    sizes = [path.stat().st_size for path in (Path(tuner.project_dir, "oracle.json"), Path(tuner.get_trial_dir(name), "trial.json"))]
    return {"oracle": kind, "finished": finished, **times, "oracle_bytes": sizes[0], "trial_bytes": sizes[1]}


def measure(finished: Sequence[int], further: int) -> dict[str, Any]:
    """Return the costs of each oracle, of the random one also after `further` trials, and the bytes of main memory of a trial."""
    costs = []
    for kind in ("random", "hyperband", "grid", "tpe"):
        rng = np.random.default_rng(0)
        with tuner_of(kind) as tuner:
            costs += [cost(kind, tuner, number, rng) for number in (*finished, *([further] if kind == "random" else []))]
    with tuner_of("random") as tuner:
        fill(tuner.oracle, 1, rng)
        tracemalloc.start()
        fill(tuner.oracle, 201, rng)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return {"bytes in memory of a trial": round(kept / 200), "costs": costs}


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each oracle and number of trials, and one of what a trial keeps."""
    rows: Table = {}
    for c in kept["costs"]:
        names = {"seconds": "ms a trial", "cpu_seconds": "ms of the processor", "in_files": "ms in files"}
        times = {text: 1e3 * Spread.of(c[name]).median for name, text in names.items()}
        kilobytes = {"KB of `oracle.json`": c["oracle_bytes"] / 1e3, "KB of `trial.json`": c["trial_bytes"] / 1e3}
        rows[f"{c['oracle']}, {c['finished']:,} trials before"] = {"rounds": len(c["seconds"]), **times, **kilobytes}
    sizes = {c["finished"] + len(c["seconds"]): c["oracle_bytes"] for c in kept["costs"] if c["oracle"] == "random"}
    bytes_of_a_trial = (sizes[max(sizes)] - sizes[min(sizes)]) / (max(sizes) - min(sizes))
    rows["a trial"] = {"KB in memory": kept["bytes in memory of a trial"] / 1e3, "bytes in `oracle.json`": bytes_of_a_trial}
    return rows
