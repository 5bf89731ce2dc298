"""The counters of `GradientClipping`."""

from collections.abc import Callable
from typing import Any

from keras import ops

# What is counted stands in one variable, and what is measured in another: at small weights each variable costs as much as its update.
_COUNTS = ("steps", "clipped_steps", "skipped_steps", "nonfinite_steps", "measured_steps", "skips_in_a_row", "halted")
_MEASURES = ("gradient_norm", "norm_total", "norm_rest")


class Counts:
    """The counters of steps and the norms of their gradients, as an optimizer's variables.

    Args:
        add_variable: makes one of a name, a shape and a dtype.
    """

    def __init__(self, add_variable: Callable[[str, tuple[int, ...], str], Any]) -> None:
        self._counts = add_variable("counts", (len(_COUNTS),), "int")
        self._measures = add_variable("measures", (len(_MEASURES),), "float32")

    @property
    def variables(self) -> list[Any]:
        """Both variables."""
        return [self._counts, self._measures]

    def of(self, name: str) -> Any:
        """Return a count as a tensor, for use within a step."""
        return ops.convert_to_tensor(self._counts)[_COUNTS.index(name)]

    def add(self, **more: Any) -> None:
        """Add to the counts of these names."""
        counts = ops.convert_to_tensor(self._counts)
        self._counts.assign(counts + ops.stack([ops.cast(more.get(name, 0), counts.dtype) for name in _COUNTS]))

    def measure(self, norm: Any) -> None:
        """Take in the joint norm of a step that is taken."""
        # Compensated (Kahan 1965), so that the mean over an epoch is right after a million steps too.
        _, total, rest = (ops.convert_to_tensor(self._measures)[i] for i in range(3))
        more = ops.where(ops.isfinite(norm), norm, 0.0) - rest
        longer = total + more
        self._measures.assign(ops.stack([norm, longer, (longer - total) - more]))

    def read(self, name: str) -> int | float:
        """Return a count or a measure as a number of Python."""
        names, numbers = (_COUNTS, self._counts) if name in _COUNTS else (_MEASURES, self._measures)
        return ops.convert_to_numpy(numbers)[names.index(name)].item()
