"""Searches: choices among the package's parts for a KerasTuner search of one's own, and the whole search behind `keras-ext search`.

>>> from keras_ext.search import MLP
>>> MLP(input_shape=(64,), classes=10).name
'mlp'
"""

from keras_ext.search import choices
from keras_ext.search.data import Table, load_csv, load_digits, load_images, load_npz, make_table
from keras_ext.search.genetic import GeneticOracle, GeneticTuner
from keras_ext.search.grow import grow
from keras_ext.search.grown import Grown, Stage
from keras_ext.search.records import Record
from keras_ext.search.results import Results, results
from keras_ext.search.run import SearchResult, run
from keras_ext.search.settings import Settings
from keras_ext.search.spaces import CNN, LSTM, MLP, ResidualMLP, ResNet, Space
from keras_ext.search.watch import watch
from keras_ext.search.workers.on_ray import run_on_ray
from keras_ext.search.workers.placement import Placement

__all__ = [
    "CNN",
    "LSTM",
    "MLP",
    "GeneticOracle",
    "GeneticTuner",
    "Grown",
    "Placement",
    "Record",
    "ResNet",
    "ResidualMLP",
    "Results",
    "SearchResult",
    "Settings",
    "Space",
    "Stage",
    "Table",
    "choices",
    "grow",
    "load_csv",
    "load_digits",
    "load_images",
    "load_npz",
    "make_table",
    "results",
    "run",
    "run_on_ray",
    "watch",
]
