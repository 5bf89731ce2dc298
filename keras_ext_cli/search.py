"""The options of `keras-ext search`."""

from typing import Any

import click

from keras_ext_cli.options import NETWORKS, PRUNERS, TUNERS, WIDTHS, check_data, with_data


@click.command()
@with_data
@click.option(
    "--tuner", metavar="|".join(TUNERS),
    help="How the next trial is chosen. Example: --tuner random  [default: tpe]",
)  # fmt: skip
@click.option(
    "--pruner", metavar="|".join(PRUNERS),
    help="End trials that do worse than the others. Example: --pruner none  [default: median, none for hyperband and grid]",
)  # fmt: skip
@click.option(
    "--trials", type=int, metavar="N",
    help="Most trials; Hyperband sets its own number. Example: --trials 50  [default: 80]",
)  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Most epochs of a trial. Example: --epochs 30  [default: 20, more for few samples]")
@click.option(
    "--repeats", type=int, metavar="N",
    help="Train each trial so often; its score is the mean. Example: --repeats 3  [default: 1]",
)  # fmt: skip
@click.option(
    "--folds", type=int, metavar="K",
    help="Cross-validation: train each trial K times, each time validated on another part of the samples; its score is the mean. "
    "Example: --folds 5  [default: one validation]",
)  # fmt: skip
@click.option(
    "--trials-per-structure", type=int, metavar="N",
    help="Trials of each structure, which differ in rates and strengths and share a program. "
    "Example: --trials 80 --trials-per-structure 4  [default: a tenth of the trials, at most 8]",
)  # fmt: skip
@click.option(
    "--seed", type=int, metavar="N",
    help="Of the tuner, the split of the samples and each trial's weights. Example: --seed 7  [default: 0]",
)  # fmt: skip
@click.option(
    "--test", type=float, metavar="SHARE",
    help="Share of the samples that no trial sees, on which the best model is tried once, at the end; 0 for none. "
    "Example: --test 0.1  [default: 0.2]",
)  # fmt: skip
@click.option(
    "--refit/--no-refit", default=None,
    help="Train the best network again on all samples but those of the test. Example: --output runs/houses --resume --refit  "
    "[default: no, yes with --folds]",
)  # fmt: skip
@click.option(
    "--batch-sizes", metavar="A,B",
    help="Batch sizes to choose from; larger ones fill a GPU. Example: --batch-sizes 256,1024  "
    "[default: 16,32,64,128]",
)  # fmt: skip
@click.option(
    "--network", metavar="|".join(NETWORKS),
    help="Kind of networks; auto takes CNNs and ResNets for images, LSTMs for arrays of time and features, residual networks for more than "
    "6 layers, else MLPs. Example: --network residual  [default: auto]",
)  # fmt: skip
@click.option(
    "--max-layers", type=int, metavar="N",
    help="Most hidden layers, LSTM layers or blocks of convolutions. Example: --max-layers 20  [default: 4 in an MLP]",
)  # fmt: skip
@click.option(
    "--widths", metavar="|".join(WIDTHS),
    help="Widths of an MLP's layers: all alike, falling to the outputs, or each by itself. Example: --widths pyramid  "
    "[default: same]",
)  # fmt: skip
@click.option(
    "--wide", is_flag=True, default=None,
    help="Choose among all parts: every activation, clipping rule, schedule, penalty. Example: --wide --trials 100",
)  # fmt: skip
@click.option(
    "--patience", type=int, metavar="N",
    help="End a trial after so many epochs without a better score. Example: --epochs 100 --patience 10  "
    "[default: a quarter of the epochs where these are not given and more than 40]",
)  # fmt: skip
@click.option(
    "--objective", metavar="METRIC",
    help="Keras metric that is searched for, by its name. Example: --objective roc_auc  [default: accuracy, r2_score for numbers, "
    "balanced_accuracy where a class is rare]",
)  # fmt: skip
@click.option(
    "--baseline/--no-baseline", default=None,
    help="Train scikit-learn's gradient-boosted trees and a linear model on the same samples, to compare. "
    "Example: --output runs/houses --resume --baseline  [default: yes]",
)  # fmt: skip
@click.option(
    "--values", multiple=True, metavar="NAME=A,B",
    help="Values of a hyperparameter in the grid; others have a few each. Example: --tuner grid --values layers=1,2 "
    "--values activation=relu,tanh",
)  # fmt: skip
@click.option(
    "--mixed-precision", metavar="float16|bfloat16",
    help="Compute in half precision, which GPUs do faster; weights stay float32. Example: --mixed-precision bfloat16",
)  # fmt: skip
@click.option("--workers", type=int, metavar="N", help="Trials at once, each in a process of its own, on Ray. Example: --workers 4")
@click.option("--ray", metavar="ADDRESS", help="Run the trials on this Ray cluster. Example: --ray auto --workers 16")
@click.option(
    "--gpus-per-trial", type=float, metavar="F",
    help="Share of a GPU that a trial gets, or number of them; equal shares if left out. Example: --workers 4 --gpus-per-trial 0.25",
)  # fmt: skip
@click.option(
    "--isolate", type=int, metavar="N",
    help="Run the trials in a process that is renewed every N trials; 0 runs all in this one. Example: --isolate 10  "
    "[default: 0; 20 where they need a process of their own, 1 on Ray]",
)  # fmt: skip
@click.option(
    "--max-retries", type=int, metavar="N",
    help="How often a trial whose process died runs again. Example: --max-retries 5  [default: 2]",
)  # fmt: skip
@click.option("--trial-timeout", type=float, metavar="SECONDS", help="Give a trial up after so long. Example: --trial-timeout 600")
@click.option("--memory-limit", type=float, metavar="MIB", help="Give a trial up that takes more main memory. Example: --memory-limit 8000")
@click.option(
    "--strategy", metavar="mirrored",
    help="Train each trial on all devices that it sees, with part of every batch on each (TensorFlow, JAX). Example: --strategy mirrored",
)  # fmt: skip
@click.option(
    "--together", default=None, metavar="N|auto|off", callback=lambda _, __, value: int(value) if value and value.isdecimal() else value,
    help="Trials of one structure that train at once in one program; 1: one after another, off: each in its own. "
    "Example: --together 8  [default: auto]",
)  # fmt: skip
@click.option(
    "--output", metavar="FOLDER",
    help="Where results go; a new folder under results/ if left out. Example: --output runs/houses",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the search in --output. Example: --output runs/houses --resume")
def search(**options: Any) -> None:
    """Search for the best network for a table of data, for images or for series.

    Shows each trial as it trains, stops those that the monitor finds unpromising, and ends with a leaderboard. The folder then holds
    best_model.keras, leaderboard.csv, report.html, results.json and all trials.

    \b
    Examples:
      keras-ext search
      keras-ext search --data houses.csv --target price --trials 40 --output runs/houses
      keras-ext search --output runs/houses --resume
      keras-ext search --data houses.csv --workers 4
    """
    check_data(options["data_path"])
    from keras_ext.commands.search import search

    search(**options)
