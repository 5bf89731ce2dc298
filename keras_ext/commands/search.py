"""`keras-ext search`: from its options to the lines that it prints."""

import shlex
import sys
from dataclasses import asdict, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from keras_ext import _backend
from keras_ext._checks import BadInput
from keras_ext.automl.run import REPORT, SearchResult, run
from keras_ext.automl.search_file import settings_of, stored_settings
from keras_ext.automl.settings import Settings
from keras_ext.commands.named import mistakes_named_as_options, named_as_options
from keras_ext.commands.source import Source
from keras_ext.parallel.on_ray import need_ray
from keras_ext.parallel.placement import Placement

# Sentences about hyperparameters that the last lines have room for.
_PARTS = 3


def search(output: str | None, resume: bool, batch_sizes: str | None, values: tuple[str, ...], **options: Any) -> None:
    """Run the command with its options, as `keras_ext_cli.search` declares them."""
    given = {name: value for name, value in options.items() if name in asdict(Settings())}
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
        with mistakes_named_as_options((*asdict(Settings()), "output", "resume")):
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
    folds = f"the mean of {result.results.folds} folds" if result.results.folds else ""
    parts = "all folds" if folds else "training and validation"
    again = f"trained again on the {result.trained_again} samples of {parts}, " if result.trained_again else ""
    trial = f"trial {best.number}, {folds}" if folds else f"trial {best.number}"
    console.print(
        f"best {result.results.score_name} {best.score:.4f} ({trial}), {again}saved as {result.model_path}", soft_wrap=True, markup=False
    )
    if result.test_score is not None:
        console.print(f"{result.metric} {result.test_score:.4f} on the {result.test_samples} samples of the test, which no trial saw")
    for each in result.baselines:
        tested = "" if each.test_score is None else f", {each.test_score:.4f} on the test"
        where = f"in {folds}" if folds else "on the validation"
        console.print(f"baseline {each.name}: {result.metric} {each.score:.4f} {where}{tested}", soft_wrap=True)
    for part in [part for part in result.parts if part.is_distinct][:_PARTS]:
        console.print(part.sentence, soft_wrap=True, markup=False)
    console.print(f"leaderboard in {folder / 'leaderboard.csv'}, with pictures in {folder / REPORT}", soft_wrap=True, markup=False)
    if result.verdict:
        console.print(result.verdict, style="yellow" if "beats the best network" in result.verdict else "", soft_wrap=True)
