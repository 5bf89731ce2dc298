"""Additions to a KerasTuner search of your own: choices among the parts, spaces, tuners, and a monitor that reports why trials end.

>>> from keras_ext.search import MLP
>>> MLP(input_shape=(64,), classes=10).name
'mlp'
"""

from keras_ext.search import choices
from keras_ext.search.grow import grow
from keras_ext.search.grown import Grown, Stage
from keras_ext.search.records import Record
from keras_ext.search.report.results import Results, results
from keras_ext.search.spaces import CNN, LSTM, MLP, ImageNetworks, ResidualMLP, ResNet, Space
from keras_ext.search.tuners.genetic import GeneticOracle, GeneticTuner
from keras_ext.search.tuners.grid_search import GridSearch
from keras_ext.search.tuners.nuisance import NuisanceSearch
from keras_ext.search.tuners.optuna_tuner import OptunaTuner
from keras_ext.search.watch import watch

__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "GeneticOracle",
    "GeneticTuner",
    "GridSearch",
    "Grown",
    "ImageNetworks",
    "NuisanceSearch",
    "OptunaTuner",
    "Record",
    "ResNet",
    "ResidualMLP",
    "Results",
    "Space",
    "Stage",
    "choices",
    "grow",
    "results",
    "watch",
]
