"""Snapshots and findings as a JSON file, and back, and the folder of each fit that has one."""

import dataclasses
import itertools
import json
import math
import os
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import keras_ext
from keras_ext._atomic import write_text
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.snapshot import Snapshot

# Snapshots and findings of a run.
RUN_FILE = "run.json"


def to_json(path: str | os.PathLike[str], snapshots: Sequence[Snapshot], findings: Sequence[Finding], **header: Any) -> None:
    """Write `snapshots` and `findings` as one strict JSON file, all of it or nothing.

    JSON has no NaN and no infinity: NaN is written as null, infinity as the text "Infinity" or "-Infinity". Missing folders are made.
    `header` is more to keep, such as the model's name: texts, numbers, lists and dicts; anything else is kept as its text.

    Raises:
        OSError: the path cannot be written.
    """
    content = {
        "keras_ext": keras_ext.__version__,
        "header": header,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "snapshots": [dataclasses.asdict(snapshot) for snapshot in snapshots],
    }
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def from_json(path: str | os.PathLike[str]) -> tuple[list[Snapshot], list[Finding]]:
    """Return the snapshots and findings that `to_json` wrote, without fields that this version does not know.

    Raises:
        ValueError: the file is no report of `to_json`.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return [_record(Snapshot, s) for s in content["snapshots"]], [_record(Finding, f) for f in content["findings"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a report of keras_ext: {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value).replace("inf", "Infinity")
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _record(cls: type, stored: dict[str, Any]) -> Any:
    kinds = typing.get_type_hints(cls)
    return cls(**{name: _field(kinds[name], value) for name, value in stored.items() if name in kinds})


def _field(kind: Any, value: Any) -> Any:
    if kind is float:
        return math.nan if value is None else float(value)
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        is_record = isinstance(item, type) and dataclasses.is_dataclass(item)
        return tuple(_record(item, each) if is_record else _field(item, each) for each in value)
    return value


def new_run(log_dir: Path) -> tuple[int, Path]:
    """Make the folder of the next run in `log_dir`, and return its number and path; two processes never get the same."""
    log_dir.mkdir(parents=True, exist_ok=True)
    numbers = [int(match[1]) for path in log_dir.iterdir() if (match := re.fullmatch(r"run_(\d+)", path.name))]
    for number in itertools.count(max(numbers, default=0) + 1):
        try:
            run_path(log_dir, number).mkdir()
        except FileExistsError:
            continue
        return number, run_path(log_dir, number)
    raise AssertionError


def run_path(log_dir: Path, number: int) -> Path:
    """Return the folder of that run."""
    return log_dir / f"run_{number:06}"
