"""Initializers: first weights at the scale that keeps the signal alive.

`XavierNormal` and `XavierUniform` are other names of `GlorotNormal` and `GlorotUniform`, after the first author's given name.
"""

from keras_ext.initializers.orthogonal import Orthogonal
from keras_ext.initializers.variance_scaling import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    VarianceScaling,
)

XavierNormal = GlorotNormal
XavierUniform = GlorotUniform

__all__ = [
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
]
