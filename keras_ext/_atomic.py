"""Writes of files: atomic ones, which after a crash at any moment are complete or as they were before, and pictures."""

import json
import os
from pathlib import Path
from typing import Any


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file, flushed to the disk; missing folders are made. After an OSError a file that was there is as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file, as `write_bytes` does."""
    write_text(path, json.dumps(content, indent=1))


def save_model(model: Any, path: Path) -> None:
    """Save a Keras model as a `.keras` file."""
    partial = path.with_name(f".partial.{path.name}")
    try:
        model.save(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def saved(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Return a matplotlib Figure, saved to `path` unless that is None; missing folders are made."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure
