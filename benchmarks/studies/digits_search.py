"""What the README's first search of networks for scikit-learn's digits takes and finds, in one process and with two workers."""

import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.comparison import interleave
from benchmarks.figure import Spread, ratios
from benchmarks.store import Table
from keras_ext.automl import Settings, run
from keras_ext.parallel import Placement
from keras_ext.tables import load_digits

HERE = "in this process"
WORKERS = {
    "one worker on Ray": Placement(ray="local", isolate=20),
    "two workers on Ray, a process for each trial": Placement(workers=2),
    "two workers on Ray, processes kept": Placement(workers=2, isolate=20),
}


def measure(rounds: int, workers: int = 1, **settings: Any) -> dict[str, Any]:
    """Search in each place in turn, with every other setting by default, and return the seconds and the last accuracies."""
    accuracies: dict[str, Any] = {}

    def searched(place: Placement) -> float:
        with tempfile.TemporaryDirectory() as folder:
            began, console = time.perf_counter(), Console(quiet=True)
            found = run(load_digits(), Path(folder) / "search", Settings(**settings), placement=place, console=console)
            accuracies.update({"validation accuracy": found.results[0].score, "test accuracy": found.test_score})
            return time.perf_counter() - began

    places = {HERE: Placement(), **(WORKERS if workers > 1 else {})}
    samples = {name: lambda place=place: searched(place) for name, place in places.items()}
    return {**settings, "seconds": interleave(samples, rounds, rounds, 0.0), "accuracies": accuracies}


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each place, and one of the best network."""
    seconds = kept["seconds"]
    rows: Table = {n: {"seconds": Spread.of(s), "rounds": len(s), "over one process": ratios(s, seconds[HERE])} for n, s in seconds.items()}
    return {**rows, **({"the best network": kept["accuracies"]} if kept.get("accuracies") else {})}
