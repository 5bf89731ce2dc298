"""Layers: drop-in replacements for the Keras classes of the same name, and what a model's file needs to be used on its own.

>>> from keras_ext.layers import BatchNormalization, ClassNames, Dropout, TableFeatures
"""

from keras_ext.layers.batch_normalization import BatchNormalization
from keras_ext.layers.class_names import ClassNames
from keras_ext.layers.dropout import Dropout
from keras_ext.layers.spatial_dropout import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from keras_ext.layers.table_features import TableFeatures

__all__ = ["BatchNormalization", "ClassNames", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "TableFeatures"]
