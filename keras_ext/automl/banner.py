"""The lines before the first trial of a search: the data, where it runs, and where its results go."""

from pathlib import Path

import keras
from rich.console import Console
from rich.text import Text

from keras_ext import _backend
from keras_ext.automl.settings import Settings
from keras_ext.tables.data import Table


def print_banner(console: Console, table: Table, output: Path, settings: Settings) -> None:
    """Show what is searched, once nothing about it can be refused any more."""
    kinds = f"{len(table.classes)} classes" if table.classes else "a number to predict"
    console.print(Text(f"{table.name}: {len(table)} samples, {table.inputs}, {kinds} ({table.task})", style="bold"), soft_wrap=True)
    device = _backend.device_name()
    console.print(f"keras {keras.__version__} on {_backend.framework_version()}, {device}; results in {output}", soft_wrap=True)
    if device != "CPU" and settings.batch_sizes == Settings.batch_sizes:
        console.print("larger batches fill a GPU better: --batch-sizes 128,512,2048", style="dim")
