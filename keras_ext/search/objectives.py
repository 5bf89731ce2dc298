"""The objective of a search: its parts, and whether the trainings have it."""

import difflib
from collections.abc import Iterable
from typing import Any

import keras_tuner

from keras_ext._checks import bad_argument


def parts(objective: Any) -> list[Any]:
    """Return the objectives that a KerasTuner objective is made of."""
    return list(getattr(objective, "objectives", [objective]))


def check_objective(objective: Any, known: Iterable[str]) -> None:
    """Raise an error, which ends the search, if a training has no value of an objective's name.

    KerasTuner trains each trial to its end before it misses the name.
    """
    known = sorted(known)
    for part in parts(objective):
        if part.name in known:
            continue
        near = difflib.get_close_matches(part.name, known, 1)
        is_missing = part.name.startswith("val_") and not any(name.startswith("val_") for name in known)
        fix = (
            "Give `validation_data` to `search`." if is_missing else f"Give {near[0]!r}." if near else "Compile the model with this metric."
        )
        rule = f"among what the trainings log, {', '.join(map(repr, known))}"
        raise bad_argument("objective", rule, part.name, fix, error=keras_tuner.errors.FatalValueError)
