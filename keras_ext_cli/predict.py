"""The options of `keras-ext predict`."""

from typing import Any

import click

from keras_ext_cli.options import check_data, check_model


@click.command()
@click.argument("model_path", metavar="MODEL.keras")
@click.argument("data_path", metavar="FILE")
@click.option(
    "--target", metavar="NAME",
    help="CSV column or NPZ array to leave out, where the model does not name its columns itself. Example: --target price",
)  # fmt: skip
@click.option("--probabilities", is_flag=True, help="Give a column for each class. Example: --probabilities --output out.csv")
@click.option(
    "--interval", type=float, metavar="LEVEL",
    help="Of numbers: give the bounds between which at least this share of new targets is. Example: --interval 0.9",
)  # fmt: skip
@click.option("--output", metavar="FILE", help="CSV file to write; standard output if left out. Example: --output predictions.csv")
def predict(**options: Any) -> None:
    """Predict with a saved model, one line for each sample of a file.

    FILE is a CSV, Parquet, Excel or NPZ file, an image, or a folder of images. A model of a search finds its columns by their names,
    whatever their order, and gives the names of classes, with the probability of the likeliest, or numbers in the target's own unit.
    --probabilities and --interval say how sure they are.

    \b
    Examples:
      keras-ext predict runs/houses/best_model.keras new_houses.csv
      keras-ext predict model.keras images/ --output predictions.csv
    """
    check_model(options["model_path"])
    check_data(options["data_path"])
    from keras_ext.commands.predict import predict

    predict(**options)
