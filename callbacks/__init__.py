"""Callbacks, imported as `keras_ext.callbacks`."""

from keras_ext.callbacks.clipping_log import ClippingLog
from keras_ext.callbacks.finding import Finding
from keras_ext.callbacks.limits import Limits
from keras_ext.callbacks.saturation_monitor import SaturationMonitor

__all__ = ["ClippingLog", "Finding", "Limits", "SaturationMonitor"]
