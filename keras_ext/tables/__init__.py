"""Data of one's own: reading it, and the layers that keep its columns and classes in a model's file.

>>> from keras_ext.tables import load_digits
>>> load_digits().x.shape
(1797, 64)
"""

from keras_ext.tables.balanced_accuracy import BalancedAccuracy
from keras_ext.tables.class_names import ClassNames
from keras_ext.tables.data import Table, load_csv, load_digits, load_frame, load_images, load_npz, make_table
from keras_ext.tables.prediction_interval import PredictionInterval, conformal_radii
from keras_ext.tables.table_features import TableFeatures
from keras_ext.tables.target_metric import TargetMetric

__all__ = [
    "BalancedAccuracy",
    "ClassNames",
    "PredictionInterval",
    "Table",
    "TableFeatures",
    "TargetMetric",
    "conformal_radii",
    "load_csv",
    "load_digits",
    "load_frame",
    "load_images",
    "load_npz",
    "make_table",
]
