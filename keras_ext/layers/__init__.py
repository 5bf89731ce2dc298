"""Layers: drop-in replacements for the Keras classes of the same name.

>>> from keras_ext.layers import BatchNormalization, Dropout
"""

from keras_ext.layers.batch_normalization import BatchNormalization
from keras_ext.layers.dropout import Dropout

__all__ = ["BatchNormalization", "Dropout"]
