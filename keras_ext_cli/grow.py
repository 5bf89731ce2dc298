"""The options of `keras-ext grow`."""

from typing import Any

import click

from keras_ext_cli.options import ACTIVATIONS, EARLIER, NEW, check_data, with_data


@click.command()
@with_data
@click.option(
    "--units", type=int, metavar="N",
    help="Width of the hidden layers; by the rule of thumb, between inputs and outputs, if left out. Example: --units 64",
)  # fmt: skip
@click.option(
    "--activation", default="relu", metavar="|".join(ACTIVATIONS), help="Of the hidden layers. Example: --activation tanh  [default: relu]"
)
@click.option("--learning-rate", type=float, default=1e-3, metavar="R", help="Of Adam. Example: --learning-rate 0.0003  [default: 0.001]")
@click.option("--epochs", type=int, default=20, metavar="N", help="Of each network. Example: --epochs 50  [default: 20]")
@click.option("--max-layers", type=int, default=10, metavar="N", help="Of the deepest network. Example: --max-layers 20  [default: 10]")
@click.option(
    "--earlier", default="keep", metavar="|".join(EARLIER),
    help="What becomes of the weights of the network before: trained on, left as they are, or drawn again. Example: --earlier freeze  "
    "[default: keep]",
)  # fmt: skip
@click.option(
    "--new", default="drawn", metavar="|".join(NEW),
    help="How an added layer begins: drawn at random, or passing its input on. Example: --new identity  [default: drawn]",
)  # fmt: skip
@click.option(
    "--patience", type=int, default=1, metavar="N",
    help="Networks in a row without a better score that end the growth. Example: --patience 2  [default: 1]",
)  # fmt: skip
@click.option("--seed", type=int, default=0, metavar="N", help="Of the split and the weights. Example: --seed 7  [default: 0]")
@click.option(
    "--test", type=float, default=0.2, metavar="SHARE",
    help="Share of the samples on which the best network is tried once, at the end; 0 for none. Example: --test 0.1  [default: 0.2]",
)  # fmt: skip
@click.option(
    "--output", metavar="MODEL.keras",
    help="File for the best network; a new one under results/ if left out. Example: --output runs/grown.keras",
)  # fmt: skip
def grow(**options: Any) -> None:
    """Grow a multilayer perceptron: one hidden layer, then one more at a time, until validation gets no better.

    Each network begins with the weights of the one before it. The best is saved, with what prepares its inputs.

    \b
    Examples:
      keras-ext grow
      keras-ext grow --data houses.csv --target price --earlier freeze --output runs/grown.keras
    """
    check_data(options["data_path"])
    from keras_ext.commands.grow import grow

    grow(**options)
