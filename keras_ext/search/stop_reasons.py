"""Why Keras's EarlyStopping, or this package's StopAt, ended a trial."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_ext.callbacks import StopAt

# Function of the course of each log that returns the reason; empty where the callback did not end the training.
StopReason = Callable[[dict[str, list[float]]], str]


def stop_reasons(callbacks: Sequence[Any], objective: Any) -> list[StopReason]:
    """Return a function for each of `callbacks` that may end a training.

    It asks the course, as KerasTuner trains with copies of the callbacks. An EarlyStopping of a number of which it is not known whether
    less or more is better is left out.
    """
    known = {objective.name: objective.direction, "loss": "min", "val_loss": "min"}
    found: list[StopReason] = []
    for each in callbacks:
        if isinstance(each, keras.callbacks.EarlyStopping):
            direction = each.mode if each.mode in ("min", "max") else known.get(each.monitor, "max" if "acc" in each.monitor else None)
            if direction is not None:
                found.append(_of_patience(each.monitor, max(each.patience, 1), abs(each.min_delta), 1 if direction == "min" else -1))
        elif isinstance(each, StopAt):
            found.append(_of_target(each))
    return found


def _of_patience(name: str, patience: int, difference: float, sign: int) -> StopReason:
    def reason(history: dict[str, list[float]]) -> str:
        course = [sign * value for value in history.get(name, ())]
        before, last = course[: len(course) - patience], course[len(course) - patience :]
        has_waited = bool(before) and min(last) >= min(before) - difference
        return f"{name} no better for {patience} epoch{'s' * (patience != 1)}" if has_waited else ""

    return reason


def _of_target(stop: StopAt) -> StopReason:
    def reason(history: dict[str, list[float]]) -> str:
        course = history.get(stop.monitor)
        target = stop.above if stop.below is None else stop.below
        return f"{stop.monitor} reached {target:g}" if course and stop.is_reached(course[-1]) else ""

    return reason
