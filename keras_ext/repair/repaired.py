"""The result of a repair: the model, its changes and their reasons."""

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from keras_ext._html import shown
from keras_ext.callbacks import Finding
from keras_ext.remedies.change import Change


@dataclass(frozen=True)
class Repair:
    """A repaired model, and what was done for which reason; `print` shows it in plain lines, a notebook as a table.

    Args:
        model: a new model, compiled as the given one but for the changes, and not trained.
        changes: what was changed, in this order; empty for a healthy model, whose copy `model` is.
        remaining: what the monitor still finds in a trial training of `model`, with its advice.
        losses: the losses at the end of the trials before the first change and after the last.

    Examples:
        >>> import keras
        >>> print(Repair(keras.Sequential(name="digits"), (), (), (0.7, 0.7)))
        digits: nothing to repair, loss 0.7 in a trial
    """

    model: Any
    changes: tuple[Change, ...]
    remaining: tuple[Finding, ...]
    losses: tuple[float, float]

    def __str__(self) -> str:
        """Return the changes with their reasons, and what remains, a line each."""
        return "\n".join([self._heading, *map(str, self.changes), *(f"remains: {f}" for f in self.remaining)])

    def _repr_html_(self) -> str:
        return shown(self.table())

    def table(self) -> Group:
        """Return a row for each change, and below them what remains, for `rich.print`."""
        rows = Table("change", "reason", title=Text(self._heading, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for change in self.changes:
            rows.add_row(Text(change.what), Text(change.reason))
        return Group(rows if self.changes else Text(self._heading, "bold"), *(Text(f"remains: {f}") for f in self.remaining))

    @property
    def _heading(self) -> str:
        before, after = self.losses
        if not self.changes:
            return f"{self.model.name}: nothing {'to repair' if not self.remaining else 'repaired'}, loss {before:.3g} in a trial"
        many = f"{len(self.changes)} change{'s' if len(self.changes) > 1 else ''}"
        return f"{self.model.name}: {many}, loss {after:.3g} in place of {before:.3g} in a trial"
