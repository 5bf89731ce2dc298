"""The options of `keras-ext diagnose`."""

from typing import Any

import click

from keras_ext_cli.options import check_data, check_model


@click.command()
@click.argument("model_path", metavar="MODEL.keras")
@click.option(
    "--data", "data_path", metavar="FILE",
    help="CSV, Parquet, Excel or NPZ file, or folder of images, with inputs and targets; that of the search if the model lies in its "
    "folder. Example: --data houses.csv",
)  # fmt: skip
@click.option(
    "--target", metavar="NAME",
    help="CSV column or NPZ array that the model predicts; the last column, or y. Example: --target price",
)  # fmt: skip
@click.option("--layers", metavar="A,B", help="Names of the layers to observe; all if left out. Example: --layers hidden_1,hidden_2")
@click.option("--probe-size", type=int, default=256, metavar="N", help="Samples to observe. Example: --probe-size 1024  [default: 256]")
@click.option(
    "--repair", "repaired_path", metavar="FILE.keras",
    help="Train copies for some steps, change what was found, and write the repaired model, which is not trained. Example: --repair "
    "better.keras",
)  # fmt: skip
@click.option("--report", metavar="FILE", help="Page to write: HTML that needs nothing else. Example: --report page.html")
@click.option("--json", "json_path", metavar="FILE", help="File to write the numbers and findings to. Example: --json out.json")
def diagnose(**options: Any) -> None:
    """Say which layers of a saved model are saturated, dead, exploding or starved of gradient, and what fixes them.

    Observes the model as it is and trains nothing, but for copies with --repair. Ends with exit code 1 if a finding is
    critical, such as NaN, and no --repair is asked for.

    \b
    Examples:
      keras-ext diagnose runs/houses/best_model.keras
      keras-ext diagnose model.keras --data houses.csv --target price --report page.html
      keras-ext diagnose model.keras --data houses.csv --target price --repair better.keras
    """
    check_model(options["model_path"])
    check_data(options["data_path"])
    from keras_ext.commands.diagnose import diagnose

    diagnose(**options)
