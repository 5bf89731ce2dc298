"""The result of growing a network."""

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from keras_ext.callbacks import Finding
from keras_ext.search.records import NOTHING_FOUND, diagnosis_of
from keras_ext.search.trial_report import as_json


@dataclass(frozen=True)
class Stage:
    """One network on the way.

    Args:
        layers: as many as it was built with.
        score: its best on the validation data; None where it had no finite one.
        epochs: that it was trained for.
        seconds: that it took.
        parameters: that its training moved.
        is_best: whether it was the best up to then.
        findings: what the monitor found in it.
    """

    layers: int
    score: float | None
    epochs: int
    seconds: float
    parameters: int
    is_best: bool
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Grown:
    """The result of `grow`.

    Args:
        model: the best network, compiled again, with the weights of its best epoch; all of it can be trained.
        stages: of all networks, in their order.
        score_name: what the scores are.
    """

    model: Any
    stages: tuple[Stage, ...]
    score_name: str

    @property
    def best(self) -> Stage:
        """The stage of the best network."""
        return [stage for stage in self.stages if stage.is_best][-1]

    def table(self) -> Table:
        """Return a row for each stage, for `rich.print`."""
        table = Table(title="Growth", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("layers", self.score_name, "epochs", "time", "trained weights"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("diagnosis")
        for stage in self.stages:
            score = "not finite" if stage.score is None else f"{stage.score:.4f}"
            mark = "bold green" if stage is self.best else ""
            reported = diagnosis_of([as_json(f) for f in stage.findings]) if stage.findings else NOTHING_FOUND
            table.add_row(
                str(stage.layers), score, str(stage.epochs), f"{stage.seconds:.1f} s", f"{stage.parameters:,}", reported, style=mark
            )
        return table
