"""The lines before the first trial of a search: the data, where it runs, and where its results go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from rich.console import Console
from rich.text import Text

from keras_ext import _backend
from keras_ext.automl.settings import Settings
from keras_ext.tables.data import Table

_WORDS = {
    "residual_mlp": "residual networks of Dense layers",
    "cnn": "convolutional networks",
    "resnet": "residual convolutional networks",
    "images": "convolutional networks, with residual connections and without",
    "lstm": "LSTM networks",
}


def print_banner(
    console: Console, table: Table, output: Path, settings: Settings, space: Any, points: int | None, notes: Sequence[str]
) -> None:
    """Show what is searched, once nothing about it can be refused any more; `points` are those of a grid, `notes` more sentences."""
    kinds = f"{len(table.classes)} classes" if table.classes else "a number to predict"
    console.print(Text(f"{table.name}: {len(table)} samples, {table.inputs}, {kinds} ({table.task})", style="bold"), soft_wrap=True)
    device = _backend.device_name()
    console.print(
        f"keras {keras.__version__} on {_backend.framework_version()}, {device}; results in {output}", soft_wrap=True, markup=False
    )
    for note in [*table.notes, *notes]:
        console.print(note, soft_wrap=True, markup=False, highlight=False)
    if space.name != "mlp":
        console.print(f"networks: {_WORDS[space.name]}")
    if points is not None:
        tried = "all of which are tried" if points <= settings.trials else f"of which the first {settings.trials} are tried"
        console.print(f"grid: {points:,} combinations, {tried}")
    if device != "CPU" and settings.batch_sizes == Settings.batch_sizes:
        console.print("larger batches fill a GPU better: --batch-sizes 128,512,2048", style="dim")
