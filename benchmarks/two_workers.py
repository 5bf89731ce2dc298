"""What a search takes with two trials at once, against one at a time.

python -m benchmarks.two_workers --json two_workers.json
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from benchmarks import machine
from keras_ext.search import Placement, Settings, load_digits, run

PLACES = {
    "in this process": Placement(),
    "one worker on Ray": Placement(ray="local", isolate=20),
    "two workers on Ray, a process for each trial": Placement(workers=2),
    "two workers on Ray, processes kept": Placement(workers=2, isolate=20),
}


def seconds_of(place: Placement, trials: int, epochs: int, seed: int) -> tuple[float, float]:
    """Return how long a search takes there, and its best score."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        settings = Settings(trials=trials, epochs=epochs, seed=seed, test=0.0)
        found = run(load_digits(), Path(folder) / "search", settings, placement=place, console=Console(quiet=True))
        return time.perf_counter() - began, found.results[0].score or 0.0


@click.command()
@click.option("--trials", default=16, show_default=True, help="Of each search.")
@click.option("--epochs", default=30, show_default=True, help="Of each trial.")
@click.option("--rounds", default=3, show_default=True, help="Searches in each place, in turn.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the figures.")
def main(trials: int, epochs: int, rounds: int, out: Path | None) -> None:
    """Compare the time of one search in several places."""
    header = machine.header(f"python -m benchmarks.two_workers --trials {trials} --epochs {epochs} --rounds {rounds}")
    seconds: dict[str, list[float]] = {name: [] for name in PLACES}
    for i in range(rounds):
        for name in sorted(seconds, reverse=bool(i % 2)):
            took, score = seconds_of(PLACES[name], trials, epochs, i)
            seconds[name].append(took)
            click.echo(f"round {i + 1}, {name}: {took:.0f} s, best score {score:.4f}")
    click.echo("\n".join(f"{key}: {value}" for key, value in header.items()))
    here = seconds["in this process"]
    for name, values in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(here, values, strict=True))
        click.echo(f"{name}: {statistics.median(values):.0f} s, {ratio:.2f} of the time in one process (median of {rounds})")
    if out is not None:
        out.write_text(json.dumps({"header": header, "trials": trials, "epochs": epochs, "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.two_workers")
