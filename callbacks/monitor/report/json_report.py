"""Snapshots and findings as a JSON file, and back."""

import dataclasses
import json
import math
import os
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import keras_ext
from keras_ext._atomic import write_text
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.snapshot import Activation, Output, Snapshot, Weight


def to_json(path: str | os.PathLike[str], snapshots: Sequence[Snapshot], findings: Sequence[Finding], **header: Any) -> None:
    """Write `snapshots` and `findings` as one strict JSON file, whole or not at all.

    JSON has no NaN and no infinity: NaN is written as null, infinity as the text "Infinity" or "-Infinity".

    Args:
        path: of the file; missing folders are made.
        snapshots: what the monitor measured.
        findings: what it found.
        **header: more to keep, such as the model's name: texts, numbers, lists and dicts; anything else is kept as its text.

    Raises:
        OSError: the path cannot be written.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "report.json"
        >>> to_json(path, [Snapshot(0, 0, math.inf, 1.0, (), ())], [], model="digits")
        >>> json.loads(path.read_text())["snapshots"][0]["loss"]
        'Infinity'
        >>> from_json(path)[0][0].loss
        inf
    """
    content = {
        "keras_ext": keras_ext.__version__,
        "header": _plain(header),
        "findings": [_plain(dataclasses.asdict(f)) for f in findings],
        "snapshots": [_plain(dataclasses.asdict(snapshot)) for snapshot in snapshots],
    }
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def from_json(path: str | os.PathLike[str]) -> tuple[list[Snapshot], list[Finding]]:
    """Return the snapshots and findings that `to_json` wrote. A field that this version does not know is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no report of `to_json`.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        snapshots = [
            _record(
                Snapshot,
                {
                    **snapshot,
                    "activations": tuple(_record(Activation, a) for a in snapshot["activations"]),
                    "outputs": tuple(_record(Output, o) for o in snapshot.get("outputs", ())),
                    "weights": tuple(_record(Weight, w) for w in snapshot["weights"]),
                    "layers": tuple(snapshot.get("layers", ())),
                },
            )
            for snapshot in content["snapshots"]
        ]
        return snapshots, [_record(Finding, f) for f in content["findings"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a report of keras_ext: {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, str | int) else str(value)


def _record(cls: type, stored: dict[str, Any]) -> Any:
    types = typing.get_type_hints(cls)
    return cls(**{k: _number(v) if types[k] is float else v for k, v in stored.items() if k in types})


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
