"""The base of the package's schedules: how they count steps, their config, and their picture."""

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ext._atomic import saved
from keras_ext._checks import integer
from keras_ext._html import shown

# More points than a line of the figure's width has dots are not seen.
_POINTS = 500
_TURNS = 1000


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A Keras `LearningRateSchedule` that draws itself.

    A subclass gives `__call__(step)`, which the optimizer calls with its count of steps, and keeps each argument of its constructor as an
    attribute of that name, or gives `get_config()`.

    Examples:
        >>> class Halving(Schedule):
        ...     def __call__(self, step):
        ...         return 0.1 / 2 ** ops.cast(step, "float32")
        >>> figure = Halving().plot(5)
        >>> figure.axes[0].lines[0].get_ydata().round(5).tolist()
        [0.1, 0.05, 0.025, 0.0125, 0.00625]
    """

    def plot(self, steps: int, path: str | Path | None = None) -> Any:
        """Return a matplotlib Figure of the rates of steps 0 to `steps - 1`; with `path`, save it too.

        The line goes through at most 500 even steps, and through those at which the course bends.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        turns = np.fromiter(self.turns(integer("steps", steps)), int)
        if len(turns) > _TURNS:
            # Two by two, a low one and a high one: every other turn of a zigzag is a straight line.
            turns = turns[np.arange(len(turns)) // 2 % math.ceil(len(turns) / _TURNS) == 0]
        at = np.unique([*np.linspace(0, steps - 1, min(steps, _POINTS)).round().astype(int), *turns])
        # One by one: Keras's own schedules do not all take several steps at once.
        rates = [float(ops.convert_to_numpy(self(int(step)))) for step in at]
        figure = Figure(figsize=(7.0, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(at, np.array(rates), color="#1f77b4", marker="o" if len(at) == 1 else "")
        axes.set_title(type(self).__name__, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylabel("learning rate")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        return saved(figure, path)

    @property
    def _picture_steps(self) -> int:
        """Steps that show the whole course."""
        return 1000

    def _repr_html_(self) -> str:
        return shown(None, self.plot(self._picture_steps), f"Learning rate of {type(self).__name__} by step")

    def turns(self, steps: int) -> Iterator[int]:
        """Yield the steps below `steps`, in ascending order, at which the course bends: a picture must not miss them."""
        yield from ()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        arguments = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        base = keras.optimizers.schedules.LearningRateSchedule
        return {name: keras.saving.serialize_keras_object(v) if isinstance(v, base) else v for name, v in arguments.items()}


def exact_steps(step: Any) -> Any:
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
