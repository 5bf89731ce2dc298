"""The figures of each backend and group as JSON, written and read."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import BACKENDS
from benchmarks.measuring.figure import Figure
from benchmarks.measuring.measure import Spread


def save(directory: Path, backend: str, group: str, header: dict[str, str], figures: Sequence[Figure]) -> Path:
    """Write `results-<backend>-<group>.json`; return the path."""
    directory.mkdir(parents=True, exist_ok=True)
    own = directory / f"results-{backend}-{group}.json"
    own.write_text(
        json.dumps({"backend": backend, "group": group, "header": header, "figures": [_rounded(asdict(f)) for f in figures]}, indent=1)
        + "\n"
    )
    return own


def results(directory: Path, group: str) -> list[dict[str, Any]]:
    """Return the contents of a group's files, in the order of the backends."""
    paths = [directory / f"results-{backend}-{group}.json" for backend in BACKENDS]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def figures_of(result: dict[str, Any]) -> list[Figure]:
    """Return the figures of a group's file."""
    return [figure_of(record) for record in result["figures"]]


def figure_of(record: dict[str, Any]) -> Figure:
    ratio = record["ratio"]
    return Figure(**{**record, "ratio": None if ratio is None else Spread(**ratio)})


def _rounded(value: Any) -> Any:
    """Return `value` with its floats at six significant digits: what follows is noise, and the file is kept."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
