"""A schedule as a picture."""

import math
from typing import Any

import numpy as np
from keras import ops
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# More points than a line of the figure's width has dots are not seen.
_POINTS = 500
_TURNS = 1000


def picture(schedule: Any, steps: int) -> Figure:
    """Return the rates of steps 0 to `steps - 1` as a line through at most 500 even steps, and through those at which the course bends."""
    turns = np.fromiter(schedule.turns(steps), int)
    if len(turns) > _TURNS:
        # Two by two, a low one and a high one: every other turn of a zigzag is a straight line.
        turns = turns[np.arange(len(turns)) // 2 % math.ceil(len(turns) / _TURNS) == 0]
    at = np.unique([*np.linspace(0, steps - 1, min(steps, _POINTS)).round().astype(int), *turns])
    # One by one: Keras's own schedules do not all take several steps at once.
    rates = [float(ops.convert_to_numpy(schedule(int(step)))) for step in at]
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(at, np.array(rates), color="#1f77b4", marker="o" if len(at) == 1 else "")
    axes.set_title(type(schedule).__name__, fontsize=10)
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
