"""A report of `initialize`, as records and as a table."""

import io
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from keras_ext._html import shown


@dataclass(frozen=True)
class InitializedWeight:
    """One weight of a model and its first scale.

    kind, fan_in and fan_out are None, and `std_given` is what was there, where the weight was left as it was; `note` says why.
    `std_wanted` is what the initializer's law asks for, None where it has no such law.

    >>> InitializedWeight("model/dense", "kernel", (4, 2), "dense", 4, 2, "LecunNormal", 0.5, 0.47).fan_in
    4
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    kind: str | None
    fan_in: float | None
    fan_out: float | None
    initializer: str | None
    std_wanted: float | None
    std_given: float
    note: str = ""


@dataclass(frozen=True)
class InitializationReport:
    """The weights of a model in the order of its layers; `print(report)` shows a table.

    >>> weight = InitializedWeight("model/dense", "kernel", (4, 2), "dense", 4, 2, "LecunNormal", 0.5, 0.47)
    >>> print(InitializationReport((weight,)))
    layer        weight  shape  kind   initializer  fan in  fan out  std wanted  std given
    model/dense  kernel  4 x 2  dense  LecunNormal       4        2         0.5       0.47
    """

    weights: tuple[InitializedWeight, ...]

    def __str__(self) -> str:
        """Return the table as text."""
        text = io.StringIO()
        Console(file=text, width=10_000, color_system=None, markup=False, emoji=False, highlight=False).print(self.table())
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def _repr_html_(self) -> str:
        return shown(self.table())

    def table(self) -> Table:
        """Return a row for each weight, for `rich.print`."""
        table = Table(box=None, pad_edge=False)
        notes = any(w.note for w in self.weights)
        for name in ("layer", "weight", "shape", "kind", "initializer"):
            table.add_column(name, no_wrap=True)
        for name in ("fan in", "fan out", "std wanted", "std given"):
            table.add_column(name, justify="right", no_wrap=True)
        if notes:
            table.add_column("note", no_wrap=True)
        for w in self.weights:
            table.add_row(
                *(w.layer, w.weight, " x ".join(map(str, w.shape)), w.kind or "", w.initializer or ""),
                *(_number(value) for value in (w.fan_in, w.fan_out, w.std_wanted, w.std_given)),
                *([w.note] if notes else []),
            )
        return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
