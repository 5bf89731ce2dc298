"""What a search shows while it runs: a live picture on a terminal, one line a trial elsewhere."""

import signal
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from keras_ext.search.records import Record, in_words


class View:
    """Shows trial i of n, its hyperparameters, an epoch bar, the best score so far and what the monitor found.

    Args:
        console: where to show it; a live picture if it is a terminal, else a line for each trial that ends.
        score_name: what the score is called.
        total: trials of the whole search; None where the tuner decides.
    """

    def __init__(self, console: Console, score_name: str, total: int | None) -> None:
        self._console, self._score_name, self._total = console, score_name, total
        self._best: Record | None = None
        self._values, self._found = "", ""
        self.interrupted = False
        self._trials = Progress(TextColumn("trials done"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), console=console)
        self._epochs = Progress(TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[score]}"), console=console)
        self._trial_task = self._trials.add_task("trial", total=total)
        self._epoch_task = self._epochs.add_task("epoch", total=1, score="")
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=8, transient=True)

    def interrupt(self, *_: Any) -> None:
        """Ask the search to end before its next batch; a second time it ends at once."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.interrupted = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if the user asked for the end."""
        if self.interrupted:
            raise KeyboardInterrupt

    def __enter__(self) -> "View":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._live.stop()

    def _picture(self) -> Group:
        best = "none yet" if self._best is None else f"{self._best.score:.4f} (trial {self._best.number})"
        lines = [
            Text(self._values, style="cyan"),
            self._epochs,
            Text(f"best {self._score_name} so far: {best}", style="bold"),
            Text(self._found or "the monitor found nothing so far", style="yellow" if self._found else "dim"),
        ]
        return Group(self._trials, *lines)

    def trial_begins(self, number: int, values: dict[str, Any], epochs: int) -> None:
        """Show the trial with this number, counted from 1."""
        self._values, self._found = in_words(values), ""
        self._trials.update(self._trial_task, completed=number - 1)
        self._epochs.reset(self._epoch_task, total=epochs, score="")

    def epoch_ends(self, epoch: int, score: float | None) -> None:
        """Show that `epoch` epochs are done, and the score after the last."""
        self._epochs.update(self._epoch_task, completed=epoch, score="" if score is None else f"{self._score_name} {score:.4f}")

    def finds(self, finding: Any) -> None:
        """Show what the monitor found."""
        self._found = str(finding)

    def trial_ends(self, record: Record, best: Record | None) -> None:
        """Show how the trial ended and who leads."""
        self._best = best
        self._trials.update(self._trial_task, completed=record.number)
        if self._console.is_terminal:
            return
        score = "failed" if record.score is None else f"{self._score_name} {record.score:.4f}"
        leads = "" if best is None else f" (best {best.score:.4f})"
        of = f" of {self._total}" if self._total else ""
        line = f"trial {record.number}{of}: {score}{leads}, {record.epochs} epochs, {record.seconds:.1f} s, {record.diagnosis}; "
        self._console.print(Text(line + in_words(record.hyperparameters)), soft_wrap=True)
