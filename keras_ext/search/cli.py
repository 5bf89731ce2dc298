"""The command line, `keras-ext`."""

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import keras
from rich.console import Console
from rich.text import Text

import keras_ext
from keras_ext import _backend
from keras_ext._checks import BadInput
from keras_ext._standard_error import redirect
from keras_ext.callbacks import diagnose as look_at
from keras_ext.search import data, model_file
from keras_ext.search.run import REPORT, SearchResult, Settings, run, stored_settings
from keras_ext.search.tuners import TUNERS

_DEFAULTS = Settings()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(keras_ext.__version__, prog_name="keras-ext")
def cli() -> None:
    """Search for networks that learn, with a monitor that says why the others do not.

    The backend is Keras's: KERAS_BACKEND=jax keras-ext search ...
    """


@cli.command()
@click.option(
    "--data", "data_path", metavar="FILE",
    help="NPZ or CSV file to learn from; scikit-learn's bundled digits if left out. Example: --data houses.csv",
)  # fmt: skip
@click.option(
    "--target", metavar="NAME",
    help="CSV column or NPZ array to predict; the last column, or y. Example: --target price",
)  # fmt: skip
@click.option(
    "--task", metavar="auto|classification|regression",
    help="What to predict: text and few whole numbers are classes, else numbers. Example: --task regression  [default: auto]",
)  # fmt: skip
@click.option(
    "--tuner", metavar="|".join(TUNERS),
    help=f"How the next trial is chosen. Example: --tuner bayesian  [default: {_DEFAULTS.tuner}]",
)  # fmt: skip
@click.option(
    "--trials",
    type=int,
    metavar="N",
    help=f"Most trials; Hyperband sets its own number. Example: --trials 50  [default: {_DEFAULTS.trials}]",
)
@click.option("--epochs", type=int, metavar="N", help=f"Most epochs of a trial. Example: --epochs 30  [default: {_DEFAULTS.epochs}]")
@click.option(
    "--seed", type=int, metavar="N",
    help=f"Of the tuner, the validation split and each trial's weights. Example: --seed 7  [default: {_DEFAULTS.seed}]",
)  # fmt: skip
@click.option(
    "--output", metavar="FOLDER",
    help="Where results go; a new folder under results/ if left out. Example: --output runs/houses",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with the search in --output. Example: --output runs/houses --resume")
def search(
    data_path: str | None,
    target: str | None,
    task: str | None,
    tuner: str | None,
    trials: int | None,
    epochs: int | None,
    seed: int | None,
    output: str | None,
    resume: bool,
) -> None:
    """Search for the best multilayer perceptron for a table of data.

    Shows each trial as it trains, stops those that the monitor finds hopeless, and ends with a leaderboard. The folder then holds
    best_model.keras, leaderboard.csv, report.html, results.json and all trials.

    \b
    Examples:
      keras-ext search
      keras-ext search --data houses.csv --target price --trials 40 --output runs/houses
      keras-ext search --output runs/houses --resume
    """
    given = {"tuner": tuner, "trials": trials, "epochs": epochs, "seed": seed}
    chosen = {"data_path": data_path, "target": target, "task": task}
    stored: dict[str, Any] = {}
    if resume:
        if output is None:
            raise BadInput("--resume needs the folder of the search. Give it with --output FOLDER.")
        stored = stored_settings(output)
    settings = _settings({k: stored[k] for k in given if k in stored}, given)
    if settings.tuner == "hyperband" and trials is not None:
        raise BadInput(
            f"--trials {trials} has no effect with --tuner hyperband, which sets the number itself. Leave it out; --epochs steers it."
        )
    source = {k: v if v is not None else stored.get(k) for k, v in chosen.items()}
    table = _table(**source)
    folder = Path(output or f"results/{Path(table.name).stem}-{datetime.now():%Y%m%d-%H%M%S}")
    console = Console()
    _backend.prepare_devices()
    kinds = f"{len(table.classes)} classes" if table.classes else "a number to predict"
    console.print(Text(f"{table.name}: {len(table.x)} samples, {table.x.shape[1]} inputs, {kinds} ({table.task})", style="bold"))
    console.print(
        f"keras {keras.__version__} on {_backend.framework_version()}, {_backend.device_name()}; results in {folder}", soft_wrap=True
    )
    try:
        result = run(table, folder, settings, resume=resume, console=console, source=source)
    except KeyboardInterrupt:
        console.print(f"\nstopped; go on with: keras-ext search --output {folder} --resume", soft_wrap=True)
        sys.exit(130)
    _report(console, result, folder)


@cli.command()
@click.argument("model_path", metavar="MODEL.keras")
@click.option(
    "--data", "data_path", metavar="FILE",
    help="NPZ or CSV file with inputs and targets; that of the search if the model lies in its folder. Example: --data houses.csv",
)  # fmt: skip
@click.option(
    "--target", metavar="NAME",
    help="CSV column or NPZ array that the model predicts; the last column, or y. Example: --target price",
)  # fmt: skip
@click.option("--layers", metavar="A,B", help="Names of the layers to look at; all if left out. Example: --layers hidden_1,hidden_2")
@click.option("--probe-size", type=int, default=256, metavar="N", help="Samples to look at. Example: --probe-size 1024  [default: 256]")
@click.option("--report", metavar="FILE", help="Page to write: HTML that needs nothing else. Example: --report page.html")
@click.option("--json", "json_path", metavar="FILE", help="File to write the numbers and findings to. Example: --json out.json")
def diagnose(
    model_path: str,
    data_path: str | None,
    target: str | None,
    layers: str | None,
    probe_size: int,
    report: str | None,
    json_path: str | None,
) -> None:
    """Say which layers of a saved model are saturated, dead, exploding or starved of gradient, and what mends them.

    Looks at the model as it stands and trains nothing. Ends with exit code 1 if a value is NaN or infinite.

    \b
    Examples:
      keras-ext diagnose runs/houses/best_model.keras
      keras-ext diagnose model.keras --data houses.csv --target price --report page.html
    """
    _backend.prepare_devices()
    model = model_file.load(model_path)
    source = model_file.source_beside(model_path, data_path, target)
    table = _table(**source, task=model_file.task_of(model))
    x, y = model_file.samples(table, source, model, model_path)
    model, y = model_file.in_training_unit(model, y)
    console = Console()
    console.print(f"{model_path} on {table.name}, keras {keras.__version__} on {_backend.framework_version()}", soft_wrap=True)
    try:
        found = look_at(model, x, y, layers=layers and [name.strip() for name in layers.split(",")], probe_size=probe_size)
    except ValueError as error:
        raise BadInput(str(error).replace("`probe_size`", "--probe-size").replace("`layers`", "--layers")) from None
    console.print(found.table())
    for path, write in ((report, found.report), (json_path, found.to_json)):
        if path is None:
            continue
        try:
            write(path)
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror}). Give another path.") from None
        console.print(f"written: {path}", soft_wrap=True)
    if any(f.severity == "critical" for f in found.findings):
        sys.exit(1)


def _settings(stored: dict[str, Any], given: dict[str, Any]) -> Settings:
    try:
        return replace(Settings(**stored), **{k: v for k, v in given.items() if v is not None})
    except ValueError as error:
        text = str(error)
        for name in given:
            text = text.replace(f"`{name}`", f"--{name}")
        raise BadInput(text) from None


def _table(data_path: str | None, target: str | None, task: str | None) -> data.Table:
    task = task or "auto"
    if task not in ("auto", "classification", "regression"):
        raise BadInput(f"--task must be auto, classification or regression, got {task}.")
    if data_path is None:
        if target is not None or task == "regression":
            raise BadInput("--target and --task go with --data. Name the file, or leave them out to search on the digits.")
        return data.load_digits()
    loaders = {".npz": data.load_npz, ".csv": data.load_csv}
    suffix = Path(data_path).suffix.lower()
    if suffix not in loaders:
        raise BadInput(f"{data_path}: is neither .npz nor .csv. Save the data as one of them.")
    return loaders[suffix](data_path, target, task)


def _report(console: Console, result: SearchResult, folder: Path) -> None:
    console.print(result.results.table())
    minutes, seconds = divmod(round(result.seconds), 60)
    console.print(f"search time {minutes} min {seconds} s" if minutes else f"search time {seconds} s")
    if result.model_path is None:
        console.print("every trial failed; the reasons are in the leaderboard, and what the frameworks said in search.log", style="red")
        sys.exit(1)
    best = result.results[0]
    console.print(f"best {result.results.score_name} {best.score:.4f} (trial {best.number}), saved as {result.model_path}", soft_wrap=True)
    console.print(f"leaderboard in {folder / 'leaderboard.csv'}, with pictures in {folder / REPORT}", soft_wrap=True)


def main() -> None:
    """Run the command line; a mistake of the user's ends in one line and exit code 2."""
    try:
        code = cli(standalone_mode=False) or 0
    except SystemExit as error:
        code = error.code
    except (BadInput, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        if isinstance(error, click.NoSuchOption):
            text = f"no such option {error.option_name}."  # click's wording differs between versions
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "keras-ext"
        hint = f" See {command.replace('python -m keras_ext', 'keras-ext')} --help." if isinstance(error, click.UsageError) else ""
        _tell(f"keras-ext: {' '.join(text.split())}{hint}")
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    if redirect is not None:
        redirect.forget()
    sys.exit(code)


def _tell(line: str) -> None:
    if redirect is None:
        print(line, file=sys.stderr)
    else:
        redirect.say(line)
