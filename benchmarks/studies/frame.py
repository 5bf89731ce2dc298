"""What the studies share: the option for their file, and how their figures are shown and kept."""

import json
from pathlib import Path
from typing import Any

import click

json_option = click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="File for the figures.")


def finish(kept: dict[str, Any], section: str, out: Path | None, indent: int | None = 1) -> None:
    """Print a study's header and its figures, and keep all of it in `out`.

    Args:
        kept: what the file holds: the header, under that name, and the figures.
        section: the figures as a person reads them.
        out: a JSON file, or None.
        indent: of the file; None for long lists of numbers.
    """
    click.echo("\n".join(f"{name}: {value}" for name, value in kept["header"].items()))
    click.echo(section)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(kept, indent=indent) + "\n", encoding="utf-8")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; all but its first column are numbers.

    >>> print(markdown(["way", "MiB"], [["alone", "4.8"]]))
    | way | MiB |
    | --- | ---: |
    | alone | 4.8 |
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
