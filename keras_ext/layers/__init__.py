"""Layers: drop-in replacements for the Keras classes of the same name.

>>> from keras_ext.layers import BatchNormalization, Dropout
"""

from keras_ext.layers.batch_normalization import BatchNormalization
from keras_ext.layers.dropout import Dropout
from keras_ext.layers.spatial_dropout import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

__all__ = ["BatchNormalization", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"]
