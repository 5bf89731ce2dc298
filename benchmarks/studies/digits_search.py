"""What the README's first search takes and finds: small networks for scikit-learn's digits, every setting by default.

python -m benchmarks.studies.digits_search --json digits_search.json
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from benchmarks.measuring import machine
from benchmarks.studies import frame
from keras_ext.search import Placement, Settings, load_digits, run

DEFAULT = Settings()


def searched(settings: Settings, placement: Placement | None = None) -> tuple[float, Any]:
    """Return the seconds that a search of the digits takes, and what it found."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        found = run(load_digits(), Path(folder) / "search", settings, placement=placement, console=Console(quiet=True))
        return time.perf_counter() - began, found


def figures(settings: Settings) -> dict[str, Any]:
    """Search once, and return the seconds and the scores."""
    seconds, found = searched(settings)
    return {
        "trials": settings.trials,
        "epochs": settings.epochs,
        "seed": settings.seed,
        "seconds": seconds,
        "validation accuracy": found.results[0].score,
        "test accuracy": found.test_score,
    }


def section(kept: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    accuracies = [f"{kept[name]:.1%}" for name in ("validation accuracy", "test accuracy")]
    row = [f"{kept['trials']} of {kept['epochs']} epochs, seed {kept['seed']}", f"{kept['seconds']:.0f}", *accuracies]
    return frame.markdown(["trials", "seconds", "validation accuracy of the best", "its test accuracy"], [row])


@click.command()
@click.option("--trials", default=DEFAULT.trials, show_default=True)
@click.option("--epochs", default=DEFAULT.epochs, show_default=True, help="Most of a trial.")
@click.option("--seed", default=DEFAULT.seed, show_default=True)
@frame.json_option
def main(trials: int, epochs: int, seed: int, out: Path | None) -> None:
    """Search once, as `python3 run.py search` does, and tell how long it took and what it found."""
    header = machine.header(f"python -m benchmarks.studies.digits_search --trials {trials} --epochs {epochs} --seed {seed}")
    kept = {"header": header, **figures(Settings(trials=trials, epochs=epochs, seed=seed))}
    frame.finish(kept, section(kept), out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.digits_search")
