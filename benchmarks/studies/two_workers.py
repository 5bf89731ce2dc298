"""What a search takes with two trials at once, against one at a time.

python -m benchmarks.studies.two_workers --json two_workers.json
"""

import os
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.measuring import machine, measure
from benchmarks.studies import frame
from benchmarks.studies.digits_search import searched
from keras_ext.search import Placement, Settings

PLACES = {
    "in this process": Placement(),
    "one worker on Ray": Placement(ray="local", isolate=20),
    "two workers on Ray, a process for each trial": Placement(workers=2),
    "two workers on Ray, processes kept": Placement(workers=2, isolate=20),
}


def seconds_of(place: Placement, trials: int, epochs: int, seed: int) -> tuple[float, float]:
    """Return how long a search takes there, and its best score."""
    took, found = searched(Settings(trials=trials, epochs=epochs, seed=seed, test=0.0), place)
    return took, found.results[0].score or 0.0


def ratios(kept: dict[str, Any]) -> dict[str, list[float]]:
    """Return, by what is compared, the ratio of each round."""
    here, *others = kept["seconds"]
    pairs = {name: zip(kept["seconds"][name], kept["seconds"][here], strict=True) for name in others}
    return {f"a search with {name}, over one process": [a / b for a, b in pair] for name, pair in pairs.items()}


def section(kept: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    head = ["a search", "seconds", "lowest", "highest", "rounds", "over one process"]
    found = ["", *(str(measure.spread(values)) for values in ratios(kept).values())]
    rows = []
    for (name, seconds), ratio in zip(kept["seconds"].items(), found, strict=True):
        shown = (measure.spread(seconds).median, min(seconds), max(seconds))
        rows.append([name, *(f"{s:,.0f}" for s in shown), str(len(seconds)), ratio])
    return f"{kept['trials']} trials of {kept['epochs']} epochs on the digits.\n\n{frame.markdown(head, rows)}"


@click.command()
@click.option("--trials", default=16, show_default=True, help="Of each search.")
@click.option("--epochs", default=30, show_default=True, help="Of each trial.")
@click.option("--rounds", default=3, show_default=True, help="Searches in each place, in turn.")
@frame.json_option
def main(trials: int, epochs: int, rounds: int, out: Path | None) -> None:
    """Compare the time of one search in several places."""
    header = machine.header(f"python -m benchmarks.studies.two_workers --trials {trials} --epochs {epochs} --rounds {rounds}")
    seconds: dict[str, list[float]] = {name: [] for name in PLACES}
    for i in range(rounds):
        for name in sorted(seconds, reverse=bool(i % 2)):
            took, score = seconds_of(PLACES[name], trials, epochs, i)
            seconds[name].append(took)
            click.echo(f"round {i + 1}, {name}: {took:.0f} s, best score {score:.4f}")
    kept = {"header": header, "trials": trials, "epochs": epochs, "seconds": seconds}
    frame.finish(kept, section(kept), out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.two_workers")
