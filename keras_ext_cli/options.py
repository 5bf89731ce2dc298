"""Options and checks that several commands share, and the names that options choose from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# The names and defaults of `keras_ext`, whose import takes seconds; a test compares them.
TUNERS = ("random", "tpe", "gp", "cmaes", "qmc", "hyperband", "grid", "genetic")
PRUNERS = ("none", "median", "patient", "halving", "hyperband", "wilcoxon")
NETWORKS = ("auto", "mlp", "residual", "cnn", "resnet", "lstm")
WIDTHS = ("same", "pyramid", "free")
ACTIVATIONS = ("relu", "leaky_relu", "selu", "tanh", "sigmoid")
EARLIER, NEW = ("keep", "freeze", "draw"), ("drawn", "identity")
_OPTIONS = (
    click.option(
        "--data", "data_path", metavar="FILE",
        help="CSV, Parquet, Excel or NPZ file, or folder with a folder of images for each class; scikit-learn's bundled digits if left "
        "out. Example: --data houses.csv",
    ),
    click.option("--target", metavar="NAME", help="CSV column or NPZ array to predict; the last column, or y. Example: --target price"),
    click.option(
        "--task", metavar="auto|classification|regression",
        help="What to predict: text and few whole numbers are classes, else numbers. Example: --task regression  [default: auto]",
    ),
    click.option(
        "--categories", metavar="A,B",
        help="CSV columns of numbers that name categories, as text does by itself. Example: --categories postcode,month",
    ),
    click.option(
        "--columns", metavar="A,B",
        help="Columns that are inputs, also if they hold names or an ID; by default all that say something of new samples. "
        "Example: --columns age,town",
    ),
    click.option(
        "--group", metavar="NAME",
        help="Column, such as that of a patient, of which the lines of one value stay together in every split; no input. "
        "Example: --group patient",
    ),
    click.option("--image-size", metavar="HxW", help="Size that images are brought to. Example: --image-size 28x28  [default: 32x32]"),
)  # fmt: skip


def with_data(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `Source.of` takes, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_data(path: str | None) -> None:
    """Refuse a file or folder of data that is not there, before anything takes time."""
    if path is not None and not Path(path).exists():
        raise click.ClickException(f"{path}: no such file. Check the path.")


def check_model(path: str) -> None:
    """Refuse what is no file of a model, before anything takes time."""
    if not Path(path).is_file():
        raise click.ClickException(f"{path}: {'is a folder' if Path(path).is_dir() else 'no such file'}. Give a model saved as .keras.")
    if Path(path).suffix.lower() != ".keras":
        raise click.ClickException(f"{path}: is no .keras file. Save the model with model.save('model.keras').")
