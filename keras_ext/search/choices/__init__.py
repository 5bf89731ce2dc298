"""Hyperparameters that choose among the package's parts, each for use inside a `build(hp)` of one's own.

Every function takes KerasTuner's `hp` and returns what Keras takes. Choices that only make sense together stand in a conditional scope, so
that no trial is spent on a value that nothing reads. The scopes of the options that were not chosen are entered too: that is how KerasTuner
learns of them before the first trial.
"""

from keras_ext.search.choices.activations import ACTIVATIONS, ALL_ACTIVATIONS, activation, activation_layer, checked_activations
from keras_ext.search.choices.batch_sizes import batch_size
from keras_ext.search.choices.blocks import dropout, normalization, regularizer
from keras_ext.search.choices.initializers import INITIALIZERS, initializer
from keras_ext.search.choices.optimizers import (
    ALL_CLIPPINGS,
    CLIPPINGS,
    LEARNING_RATES,
    SCHEDULES,
    THRESHOLDS,
    clipping,
    learning_rate,
    optimizer,
    schedule,
)
from keras_ext.search.choices.sizes import WIDTHS, layers, units, widths

# How the names begin of the hyperparameters that leave the program of a training step as it is.
NUISANCE = (
    "learning_rate", "momentum", "beta_", "rho", "clipping_threshold", "dropout", "spatial_dropout", "initializer", "regularizer_",
)  # fmt: skip

__all__ = [
    "ACTIVATIONS",
    "ALL_ACTIVATIONS",
    "ALL_CLIPPINGS",
    "CLIPPINGS",
    "INITIALIZERS",
    "LEARNING_RATES",
    "NUISANCE",
    "SCHEDULES",
    "THRESHOLDS",
    "WIDTHS",
    "activation",
    "activation_layer",
    "batch_size",
    "checked_activations",
    "clipping",
    "dropout",
    "initializer",
    "layers",
    "learning_rate",
    "normalization",
    "optimizer",
    "regularizer",
    "schedule",
    "units",
    "widths",
]
