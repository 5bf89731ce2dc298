"""`keras-ext search`."""

import shlex
import sys
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from keras_ext import _backend
from keras_ext._checks import BadInput
from keras_ext.automl.networks import NETWORKS
from keras_ext.automl.run import REPORT, SearchResult, run
from keras_ext.automl.settings import Settings, settings_of, stored_settings
from keras_ext.automl.tuners import TUNERS
from keras_ext.commands.named import mistakes_named_as_options, named_as_options
from keras_ext.commands.source import Source, with_data
from keras_ext.parallel.on_ray import need_ray
from keras_ext.parallel.placement import TRIALS_OF_A_PROCESS, Placement
from keras_ext.search.choices import WIDTHS
from keras_ext.search.pruning import PRUNERS
from keras_ext.search.spaces.mlp import DEEP

_DEFAULTS = Settings()
_PLACE = Placement()
# Sentences about hyperparameters that the last lines have room for.
_PARTS = 3


@click.command()
@with_data
@click.option(
    "--tuner", metavar="|".join(TUNERS),
    help=f"How the next trial is chosen. Example: --tuner tpe  [default: {_DEFAULTS.tuner}]",
)  # fmt: skip
@click.option(
    "--pruner", metavar="|".join(PRUNERS),
    help=f"End trials that do worse than the others. Example: --pruner median  [default: {_DEFAULTS.pruner}]",
)  # fmt: skip
@click.option(
    "--trials", type=int, metavar="N",
    help=f"Most trials; Hyperband sets its own number. Example: --trials 50  [default: {_DEFAULTS.trials}]",
)  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Most epochs of a trial. Example: --epochs 30  [default: 20, more for few samples]")
@click.option(
    "--repeats", type=int, metavar="N",
    help=f"Train each trial so often; its score is the mean. Example: --repeats 3  [default: {_DEFAULTS.repeats}]",
)  # fmt: skip
@click.option(
    "--trials-per-structure", type=int, metavar="N",
    help="Trials of each structure, which differ in rates and strengths and share a program. "
    f"Example: --trials 80 --trials-per-structure 8  [default: {_DEFAULTS.trials_per_structure}]",
)  # fmt: skip
@click.option(
    "--seed", type=int, metavar="N",
    help=f"Of the tuner, the split of the samples and each trial's weights. Example: --seed 7  [default: {_DEFAULTS.seed}]",
)  # fmt: skip
@click.option(
    "--test", type=float, metavar="SHARE",
    help="Share of the samples that no trial sees, on which the best model is tried once, at the end; 0 for none. "
    f"Example: --test 0.1  [default: {_DEFAULTS.test}]",
)  # fmt: skip
@click.option(
    "--refit/--no-refit", default=None,
    help="Train the best network again on all samples but those of the test. Example: --output runs/houses --resume --refit  "
    "[default: no]",
)  # fmt: skip
@click.option(
    "--batch-sizes", metavar="A,B",
    help="Batch sizes to choose from; larger ones fill a GPU. Example: --batch-sizes 256,1024  "
    f"[default: {','.join(map(str, _DEFAULTS.batch_sizes))}]",
)  # fmt: skip
@click.option(
    "--network", metavar="|".join(NETWORKS),
    help="Kind of networks; auto takes CNNs and ResNets for images, LSTMs for arrays of time and features, residual networks for more than "
    f"{DEEP} layers, else MLPs. Example: --network residual  [default: {_DEFAULTS.network}]",
)  # fmt: skip
@click.option(
    "--max-layers", type=int, metavar="N",
    help="Most hidden layers, LSTM layers or blocks of convolutions. Example: --max-layers 20  [default: 4 in an MLP]",
)  # fmt: skip
@click.option(
    "--widths", metavar="|".join(WIDTHS),
    help="Widths of an MLP's layers: all alike, falling to the outputs, or each by itself. Example: --widths pyramid  "
    f"[default: {_DEFAULTS.widths}]",
)  # fmt: skip
@click.option(
    "--wide", is_flag=True, default=None,
    help="Choose among all parts: every activation, clipping rule, schedule, penalty. Example: --wide --trials 100",
)  # fmt: skip
@click.option(
    "--patience", type=int, metavar="N",
    help="End a trial after so many epochs without a better score. Example: --epochs 100 --patience 10",
)  # fmt: skip
@click.option(
    "--objective", metavar="METRIC",
    help="Keras metric that is searched for, by its name. Example: --objective roc_auc  [default: accuracy, r2_score for numbers, "
    "balanced_accuracy where a class is rare]",
)  # fmt: skip
@click.option(
    "--baseline/--no-baseline", default=None,
    help="Train scikit-learn's gradient-boosted trees and a linear model on the same samples, to compare. Example: --resume --baseline  "
    "[default: yes]",
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
    f"[default: 0; {TRIALS_OF_A_PROCESS} where they need a process of their own, 1 on Ray]",
)  # fmt: skip
@click.option(
    "--max-retries", type=int, metavar="N",
    help=f"How often a trial whose process died runs again. Example: --max-retries 5  [default: {_PLACE.max_retries}]",
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
def search(output: str | None, resume: bool, batch_sizes: str | None, values: tuple[str, ...], **options: Any) -> None:
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
    given = {name: value for name, value in options.items() if name in asdict(_DEFAULTS)}
    given["batch_sizes"] = None if batch_sizes is None else _whole_numbers("--batch-sizes", batch_sizes)
    given["values"] = _values(values) or None
    stored: dict[str, Any] = {}
    if resume:
        if output is None:
            raise BadInput("--resume needs the folder of the search. Give it with --output FOLDER.")
        with mistakes_named_as_options(("resume",)):
            stored = stored_settings(output)
    settings = _settings(stored, given)
    if settings.tuner == "hyperband" and options["trials"] is not None:
        raise BadInput(
            f"--trials {options['trials']} has no effect with --tuner hyperband, which sets the number itself. Leave it out; --epochs "
            "steers it."
        )
    placement = _placement({f.name: options[f.name] for f in fields(Placement)})
    source = Source.of(stored, **{name: options[name] for name in asdict(Source())})
    table = source.table()
    folder = Path(output or f"results/{Path(table.name).stem}-{datetime.now():%Y%m%d-%H%M%S}")
    console = Console()
    _backend.prepare_devices()
    try:
        with mistakes_named_as_options((*asdict(_DEFAULTS), "output", "resume")):
            result = run(
                table, folder, settings, placement=placement, resume=resume, console=console, source=asdict(source), as_command=True
            )
    except KeyboardInterrupt:
        words = ["--output", str(folder), "--resume", *_given_again(options)]
        console.print(f"\nstopped; go on with: keras-ext search {shlex.join(words)}", soft_wrap=True, markup=False)
        sys.exit(130)
    _report(console, result, folder)


def _settings(stored: dict[str, Any], given: dict[str, Any]) -> Settings:
    with named_as_options(given):
        return replace(settings_of(stored), **{k: v for k, v in given.items() if v is not None})


def _given_again(options: dict[str, Any]) -> list[str]:
    """Return the options about where trials run as they were given: a search's folder does not keep them."""
    given = {field.name: options[field.name] for field in fields(Placement) if options[field.name] is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value).removesuffix(".0"))]


def _placement(given: dict[str, Any]) -> Placement:
    with named_as_options(given):
        placement = Placement(**{k: v for k, v in given.items() if v is not None})
    if placement.on_ray:
        try:
            need_ray()
        except ImportError as error:
            raise BadInput(str(error)) from None
    return placement


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise BadInput(f"{option} must be whole numbers with commas between them, got {text}.") from None


def _values(texts: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of hyperparameters as they were given; what types they have the search space knows."""
    found = {}
    for text in texts:
        name, equals, listed = text.partition("=")
        values = [value.strip() for value in listed.split(",") if value.strip()]
        if not name.strip() or not equals or not values:
            raise BadInput(f"--values must be a name and its values, such as layers=1,2, got {text}.")
        found[name.strip()] = values
    return found


def _report(console: Console, result: SearchResult, folder: Path) -> None:
    console.print(result.results.table())
    minutes, seconds = divmod(round(result.seconds), 60)
    console.print(f"search time {minutes} min {seconds} s" if minutes else f"search time {seconds} s")
    if result.model_path is None:
        console.print("every trial failed; the reasons are in the leaderboard, and what the frameworks said in search.log", style="red")
        sys.exit(1)
    best = result.results[0]
    again = f"trained again on the {result.trained_again} samples of training and validation, " if result.trained_again else ""
    console.print(
        f"best {result.results.score_name} {best.score:.4f} (trial {best.number}), {again}saved as {result.model_path}", soft_wrap=True
    )
    if result.test_score is not None:
        console.print(f"{result.metric} {result.test_score:.4f} on the {result.test_samples} samples of the test, which no trial saw")
    for each in result.baselines:
        tested = "" if each.test_score is None else f", {each.test_score:.4f} on the test"
        console.print(f"baseline {each.name}: {result.metric} {each.score:.4f} on the validation{tested}", soft_wrap=True)
    for part in [part for part in result.parts if part.is_distinct][:_PARTS]:
        console.print(part.sentence, soft_wrap=True, markup=False)
    console.print(f"leaderboard in {folder / 'leaderboard.csv'}, with pictures in {folder / REPORT}", soft_wrap=True)
    if result.verdict:
        console.print(result.verdict, style="yellow" if "beats the best network" in result.verdict else "", soft_wrap=True)
