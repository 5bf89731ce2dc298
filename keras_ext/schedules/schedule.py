"""The base of the package's schedules: how they count steps, and their picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_ext._checks import MOST_STEPS, integer
from keras_ext._figures import saved


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A Keras `LearningRateSchedule` that draws itself.

    A subclass gives `__call__(step)`, which the optimizer calls with its count of steps, and `get_config()`.

    Examples:
        >>> class Halving(Schedule):
        ...     def __call__(self, step):
        ...         return 0.1 / 2 ** ops.cast(step, "float32")
        >>> figure = Halving().plot(5)
        >>> figure.axes[0].lines[0].get_ydata().round(5).tolist()
        [0.1, 0.05, 0.025, 0.0125, 0.00625]
    """

    def plot(self, steps: int, path: str | Path | None = None) -> Any:
        """Return a matplotlib Figure of the rates of steps 0 to `steps - 1`; with `path`, save it too."""
        from keras_ext.schedules.picture import picture

        return saved(picture(self, integer("steps", steps)), path)

    def turns(self, steps: int) -> Iterator[int]:
        """Yield the steps below `steps`, in ascending order, at which the course bends: a picture must not miss them."""
        yield from ()


def checked_steps(name: str, value: Any, low: int = 1) -> int:
    """Return a number of steps."""
    return integer(name, value, low, MOST_STEPS)


def whole_steps(step: Any) -> Any:
    """Return `step` as a tensor in which steps are exact: float32 knows no odd number above 16,777,216."""
    step = ops.convert_to_tensor(step)
    kind = keras.backend.standardize_dtype(step.dtype)
    return step if "float" in kind else ops.cast(step, "int")


def rate_dtype() -> str:
    """Return the dtype of a rate: `floatx`, but float32 at least."""
    return keras.backend.result_type(keras.config.floatx(), "float32")


def between(low: Any, high: Any, share: Any, rest: Any) -> Any:
    """Return the number that lies `share` of the way from `low` to `high`, exact at both ends; `rest` is `1 - share`."""
    return low * rest + high * share
