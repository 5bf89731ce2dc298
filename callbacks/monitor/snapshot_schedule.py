"""When a snapshot is due."""

from keras_ext._checks import bad_argument, is_integer

# A symptom of the first steps shows long before the first epoch ends, and each snapshot costs as much as a step.
EARLY = (1, 10, 100, 1000)


class SnapshotSchedule:
    """Says after which steps a snapshot is due, or at the first moment after these: `every` is `"epoch"`, or a number of steps."""

    def __init__(self, every: str | int, begin: int = 0) -> None:
        is_epoch = isinstance(every, str) and every == "epoch"
        if not is_epoch and not (is_integer(every) and int(every) >= 1):
            raise bad_argument("every", '"epoch" or a whole number of steps of at least 1', every)
        self._every = None if is_epoch else int(every)
        self._last = begin

    def is_due(self, step: int) -> bool:
        """Return whether a snapshot is due now, and take it for taken."""
        if self._every is None:
            due = any(self._last < early <= step for early in EARLY)
        else:
            due = step // self._every > self._last // self._every
        if due:
            self._last = step
        return due

    def next_due(self, step: int) -> int | None:
        """Return the next step after `step` with a snapshot in mid-epoch; None where there is none."""
        if self._every is not None:
            return (step // self._every + 1) * self._every
        return min((early for early in EARLY if early > max(step, self._last)), default=None)

    def end_early_snapshots(self) -> None:
        """Ask for none of the first epoch's snapshots any more."""
        if self._every is None:
            self._last = EARLY[-1]

    @property
    def is_regular(self) -> bool:
        """True where snapshots in mid-epoch are the rhythm itself; those of the first epoch come beside it."""
        return self._every is not None
