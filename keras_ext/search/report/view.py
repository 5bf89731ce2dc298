"""The view of a search while it runs: a live picture on a terminal and in a notebook, one line a trial elsewhere."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from keras_ext._html import shown
from keras_ext.search.records import Record, in_words
from keras_ext.search.report.notebook_view import NotebookPicture


@dataclass
class _Running:
    values: str
    epochs: int
    epoch: int = 0
    score: float | None = None
    found: str = ""


class View:
    """Shows how many trials are done, stopped and failed, a line for each that runs, the best score so far and about how long it will take.

    Args:
        console: where to show it; a live picture if it is a terminal or a notebook, else a line for each trial that ends.
        score_name: what the score is called.
        total: trials of the whole search; None where the tuner decides.
        clock: seconds.
    """

    def __init__(self, console: Console, score_name: str, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._score_name, self._total, self._clock = console, score_name, total, clock
        self._best: Record | None = None
        self._running: dict[int, _Running] = {}
        self._done = self._stopped = self._failed = self._ended_here = 0
        self._began = clock()
        self.interrupted = False
        self._trials = Progress(TextColumn("trials done"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), console=console)
        self._trial_task = self._trials.add_task("trial", total=total)
        self._notebook = NotebookPicture(self._html, clock) if console.is_jupyter else None
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
        elif self._notebook is not None:
            self._notebook.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._live.stop()
        if self._notebook is not None:
            self._notebook.stop()

    def _html(self) -> str:
        of = f" of {self._total}" if self._total else ""
        rows = Table("trial", "epoch", self._score_name, "found", "hyperparameters")
        for number, trial in list(self._running.items()):
            score = "" if trial.score is None else f"{trial.score:.4f}"
            rows.add_row(str(number), f"{trial.epoch} of {trial.epochs}", score, Text(trial.found or "nothing so far"), Text(trial.values))
        running = [rows] if self._running else []
        return shown(Group(Text(f"{self._done}{of} trials done: {self._counts()}"), *running, Text(self._best_so_far(), style="bold")))

    def _best_so_far(self) -> str:
        best = "none yet" if self._best is None else f"{self._best.score:.4f} (trial {self._best.number})"
        return f"best {self._score_name} so far: {best}"

    def _changed(self) -> None:
        if self._notebook is not None:
            self._notebook.refresh()

    def _picture(self) -> Group:
        # A trial may begin or end in another thread than the one that draws.
        running = [line for number, trial in list(self._running.items()) for line in self._lines(number, trial)]
        return Group(self._trials, Text(self._counts()), *running, Text(self._best_so_far(), style="bold"))

    def _lines(self, number: int, trial: _Running) -> list[Text]:
        score = "" if trial.score is None else f"  {self._score_name} {trial.score:.4f}"
        reported = (f"  {trial.found}", "yellow") if trial.found else ("  nothing found so far", "dim")
        line = Text.assemble(f"trial {number}  epoch {trial.epoch}/{trial.epochs}{score}", reported, no_wrap=True, overflow="ellipsis")
        return [line, Text(f"  {trial.values}", style="cyan", no_wrap=True, overflow="ellipsis")]

    def _counts(self) -> str:
        counts = f"{self._done - self._stopped - self._failed} to their end, {self._stopped} stopped, {self._failed} failed"
        left = self._time_left()
        return counts if left is None else f"{counts}; about {left} left"

    def _time_left(self) -> str | None:
        """Return how long the trials that are left take, if they take as long as those that this process has seen; None if it saw none."""
        if self._total is None or not self._ended_here or self._done >= self._total:
            return None
        seconds = (self._clock() - self._began) / self._ended_here * (self._total - self._done)
        return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"

    def knows(self, records: Sequence[Record]) -> None:
        """Count the trials that ended before."""
        for record in records:
            self._count(record)
        self._began = self._clock()

    def trial_begins(self, number: int, values: dict[str, Any], epochs: int) -> None:
        """Show the trial with this number, counted from 1."""
        self._running[number] = _Running(in_words(values), epochs)
        self._changed()

    def epoch_ends(self, number: int, epoch: int, score: float | None) -> None:
        """Show that `epoch` epochs of this trial are done, and the score after the last."""
        trial = self._running[number]
        trial.epoch, trial.score = epoch, score
        self._changed()

    def finds(self, number: int, finding: Any) -> None:
        """Show what the monitor found in this trial."""
        self._running[number].found = str(finding)

    def trial_ends(self, record: Record, best: Record | None) -> None:
        """Show how the trial ended and who leads."""
        self._best = best
        self._running.pop(record.number, None)
        self._ended_here += 1
        self._count(record)
        self._changed()
        if self._console.is_terminal or self._notebook is not None:
            return
        score = "failed" if record.score is None else f"{self._score_name} {record.score:.4f}"
        leads = "" if best is None else f" (best {best.score:.4f})"
        of = f" of {self._total}" if self._total else ""
        epochs = f"{record.epochs} epoch{'s' * (record.epochs != 1)}"
        line = f"trial {record.number}{of}: {score}{leads}, {epochs}, {record.seconds:.1f} s, {record.diagnosis}; "
        self._console.print(Text(f"{line}{in_words(record.hyperparameters)} [{self._counts()}]"), soft_wrap=True)

    def _count(self, record: Record) -> None:
        self._done += 1
        failed = record.status != "COMPLETED"
        self._failed += failed
        self._stopped += bool(record.ended) and not failed
        self._trials.update(self._trial_task, completed=self._done)
