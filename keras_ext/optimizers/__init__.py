"""Optimizers: drop-in replacements for the Keras classes of the same name, and gradient clipping around any optimizer."""

from keras_ext.optimizers.adagrad import Adagrad
from keras_ext.optimizers.adam import Adam
from keras_ext.optimizers.exchange import from_keras, to_keras
from keras_ext.optimizers.gradient_clipping import GradientClipping
from keras_ext.optimizers.rmsprop import RMSprop
from keras_ext.optimizers.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "GradientClipping", "RMSprop", "from_keras", "to_keras"]
