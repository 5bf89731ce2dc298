"""Initializers: first weights at the scale that keeps the signal alive.

`XavierNormal` and `XavierUniform` are other names of `GlorotNormal` and `GlorotUniform`, after the first author's given name.
"""

from keras_ext.initializers.gains import calculate_gain
from keras_ext.initializers.orthogonal import Orthogonal
from keras_ext.initializers.report import InitializationReport, InitializedWeight
from keras_ext.initializers.variance_scaling import (
    FanInUniform,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
)
from keras_ext.initializers.whole_model import initialize

XavierNormal = GlorotNormal
XavierUniform = GlorotUniform

__all__ = [
    "FanInUniform",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "InitializationReport",
    "InitializedWeight",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "calculate_gain",
    "initialize",
]
