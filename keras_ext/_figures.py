"""Pictures on disk."""

from pathlib import Path
from typing import Any


def saved(figure: Any, path: str | Path | None) -> Any:
    """Return a matplotlib Figure, saved to `path` unless that is None; missing folders are made."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return figure
