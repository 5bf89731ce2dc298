"""A finding of the monitor: one symptom of one layer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One symptom of one layer, when it was first seen at this severity.

    `layer` is None where the network is meant. `value` is the number that was measured, `limit` the one that it crossed.
    `severity` is `"warning"`, or `"critical"`: this run will not learn as it is.
    """

    symptom: str
    severity: str
    layer: str | None
    step: int
    epoch: int
    value: float
    limit: float
    advice: str

    def __str__(self) -> str:
        where = f'layer "{self.layer}"' if self.layer else "the network"
        when = f"epoch {self.epoch}" if self.epoch else f"step {self.step}" if self.step else "before the first step"
        return f"{self.severity}: {self.symptom.replace('_', ' ')} in {where}, {when}. {self.advice}"


@dataclass(frozen=True)
class State:
    """A symptom that a rule sees in one snapshot, before persistence and the loss are weighed; `fatal` needs neither.

    One that `needs_others` is critical only beside another that lasts: alone it may only take time. A `quiet` one is no finding before it
    is critical, as healthy networks pass through it. One that `ignores_loss` is critical even while the loss falls, or is not known. One
    that is a `root` causes whatever else is seen. One that is `late` was seen over most of the training, and need not last longer.
    """

    symptom: str
    layer: str | None
    value: float
    limit: float
    advice: str
    can_be_critical: bool = True
    fatal: bool = False
    needs_others: bool = False
    quiet: bool = False
    ignores_loss: bool = False
    root: bool = False
    late: bool = False
