"""Drop-in Keras 3 parts, a monitor and searches for networks that stop learning.

Importing the package registers its classes with Keras, so that `keras.models.load_model` finds them.
"""

from keras_ext import callbacks, initializers, layers, optimizers, schedules, tables
from keras_ext.repair.repair import repair
from keras_ext.upgrade import downgrade, upgrade

__version__ = "0.1.0"

__all__ = ["__version__", "callbacks", "downgrade", "initializers", "layers", "optimizers", "repair", "schedules", "tables", "upgrade"]
