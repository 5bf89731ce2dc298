"""What the default search of the command takes, and finds, against few random trials that train to their end and share nothing."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import searching
from benchmarks.figure import Spread, ratios
from benchmarks.store import Table
from keras_ext.automl import Settings, run
from keras_ext.parallel import Placement
from keras_ext.tables import make_table

RANDOM, DEFAULT = "random trials on their own", "the command's default"


def searched(way: str, data: str, seed: int, **settings: Any) -> dict[str, float]:
    """Search one way, and return the seconds and the best score in validation."""
    table, placement = make_table(*searching.samples(data), data), Placement()
    if way == RANDOM:
        settings |= {"tuner": "random", "trials_per_structure": 1, "pruner": "none", "patience": searching.NEVER}
        placement = Placement(together="off")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        result = run(table, Path(folder, "search"), Settings(seed=seed, **settings), placement=placement, console=Console(quiet=True))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "trials": len(result.results), "best": max(r.score for r in result.results if r.score is not None)}


def measure(data: Sequence[str], seeds: int, trials: int, random_trials: int, epochs: int | None = None) -> dict[str, Any]:
    """Search each way in turn, on each data set with each seed."""
    trials_of = {RANDOM: random_trials, DEFAULT: trials}
    kept: dict[str, Any] = {name: {way: [] for way in trials_of} for name in data}
    for seed in range(seeds):
        for name, ways in kept.items():
            for way, runs in ways.items():
                runs.append(searched(way, name, seed, trials=trials_of[way], epochs=epochs))
    return {"searches": kept}


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each data set and way."""
    return {
        f"{name}, {way}": {
            "searches": len(runs),
            "trials": runs[0]["trials"],
            "seconds": Spread.of([each["seconds"] for each in runs]),
            "over random trials": ratios([each["seconds"] for each in runs], [each["seconds"] for each in ways[RANDOM]]),
            "best score": statistics.median(each["best"] for each in runs),
        }
        for name, ways in kept["searches"].items()
        for way, runs in ways.items()
    }
