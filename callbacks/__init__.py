"""Callbacks, imported as `keras_ext.callbacks`, and a look at a model without training."""

from keras_ext.callbacks.clipping_log import ClippingLog
from keras_ext.callbacks.diagnose import Diagnosis, diagnose
from keras_ext.callbacks.finding import Finding
from keras_ext.callbacks.limits import Limits
from keras_ext.callbacks.saturation_monitor import SaturationMonitor

__all__ = ["ClippingLog", "Diagnosis", "Finding", "Limits", "SaturationMonitor", "diagnose"]
