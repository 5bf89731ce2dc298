"""The tuners by their names on the command line."""

import contextlib
import functools
import io
import math
import tempfile
from typing import Any

import keras_tuner

from keras_ext._checks import BadInput, one_of
from keras_ext.search.tuners import samplers
from keras_ext.search.tuners.genetic import GeneticTuner
from keras_ext.search.tuners.grid_search import GridSearch
from keras_ext.search.tuners.optuna_tuner import OptunaTuner

TUNERS: dict[str, Any] = {
    **{name: functools.partial(OptunaTuner, sampler=name) for name in ("random", "tpe", "gp", "cmaes", "qmc")},
    "hyperband": keras_tuner.Hyperband,
    "grid": GridSearch,
    "genetic": GeneticTuner,
}
PROJECT = "trials"


def checked(tuner: str) -> None:
    """Raise ValueError, with the fix, where no tuner has this name, or it needs what is not installed."""
    one_of("tuner", tuner, TUNERS, fix="'tpe' and 'gp' have taken its place." if tuner == "bayesian" else "")
    if tuner in samplers.SAMPLERS:
        samplers.checked(tuner, "tuner")


def make_tuner(
    folder: str,
    *,
    kind: str,
    space: keras_tuner.HyperModel,
    objective: Any,
    trials: int,
    epochs: int,
    seed: int,
    values: dict[str, Any] | None = None,
    repeats: int = 1,
    trials_per_structure: int = 1,
) -> Any:
    """Return a tuner of this kind whose project is `trials` in `folder`; one that is there already is continued.

    KerasTuner takes a seed of 0 for none, so the tuner's is one higher. `values` are those of the grid.
    """
    arguments: dict[str, Any] = {"max_epochs": epochs} if kind == "hyperband" else {"max_trials": trials}
    if kind in samplers.SAMPLERS:
        arguments["trials_per_structure"] = trials_per_structure
    if kind == "grid":
        arguments["values"] = values
    with contextlib.redirect_stdout(io.StringIO()):  # KerasTuner prints that it reloads
        arguments |= {"executions_per_trial": repeats, "directory": folder, "project_name": PROJECT}
        return TUNERS[kind](space, objective=objective, seed=seed + 1, **arguments)


def grid_size(space: keras_tuner.HyperModel, values: dict[str, Any]) -> int:
    """Return how many combinations the grid of a search has.

    Raises:
        BadInput: it has values that the space does not know, or more than a million combinations.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            return GridSearch(space, "val_loss", values=values, directory=folder).oracle.grid.size
        except ValueError as error:
            raise BadInput(str(error)) from None


def hyperband_trials(max_epochs: int, factor: int = 3) -> int:
    """Return how many trials one iteration of KerasTuner's Hyperband runs (Li et al. 2018, algorithm 1, with KerasTuner's rounding).

    >>> hyperband_trials(20)
    30
    """
    brackets, epochs = 0, float(max_epochs)
    while epochs >= 1:
        epochs, brackets = epochs / factor, brackets + 1
    last = math.ceil(1 + math.log(max_epochs, factor))
    return sum(math.ceil(last / (b + 1) * factor ** (b - r)) for b in range(brackets) for r in range(b + 1))
