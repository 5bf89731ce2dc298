"""When the monitor takes a snapshot."""

import numbers

from keras_ext._checks import bad_argument

# A symptom of the first steps shows long before the first epoch ends, and each snapshot costs as much as a step.
EARLY = (1, 10, 100, 1000)


class Rhythm:
    """Says after which steps a snapshot is due: after 1, 10, 100 and 1000 of the first epoch, or after every n.

    At the ends of epochs snapshots are due by themselves. Where several steps run at once, a snapshot is due at the first moment at or
    after its step.

    Args:
        every: `"epoch"`, or a number of steps.

    Examples:
        >>> rhythm = Rhythm("epoch")
        >>> [step for step in range(200) if rhythm.is_due(step)]
        [1, 10, 100]
    """

    def __init__(self, every: str | int) -> None:
        is_number = isinstance(every, numbers.Integral) and not isinstance(every, bool) and int(every) >= 1
        if not is_number and not (isinstance(every, str) and every == "epoch"):
            raise bad_argument("every", '"epoch" or a whole number of steps of at least 1', every)
        self.every = every if isinstance(every, str) else int(every)
        self._last = 0

    def begin(self, step: int) -> None:
        """Begin to count at `step`."""
        self._last = step

    def is_due(self, step: int) -> bool:
        """Return whether a snapshot is due now, and take it for taken."""
        if isinstance(self.every, int):
            due = step // self.every > self._last // self.every
        else:
            due = any(self._last < early <= step for early in EARLY)
        if due:
            self._last = step
        return due

    def next_due(self, step: int) -> int | None:
        """Return the next step after `step` with a snapshot in mid-epoch; None where there is none."""
        if isinstance(self.every, int):
            return (step // self.every + 1) * self.every
        return min((early for early in EARLY if early > max(step, self._last)), default=None)

    def end_early_snapshots(self) -> None:
        """Ask for none of the first epoch's snapshots any more."""
        if self.every == "epoch":
            self._last = EARLY[-1]

    @property
    def is_regular(self) -> bool:
        """True where snapshots in mid-epoch are the rhythm itself; those of the first epoch come beside it."""
        return self.every != "epoch"
