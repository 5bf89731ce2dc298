"""Callbacks, imported as `keras_ext.callbacks`, and a snapshot of a model without training."""

from keras_ext.callbacks.clipping_log import ClippingLog
from keras_ext.callbacks.learning_rate_finder import LearningRateFinder
from keras_ext.callbacks.monitor.diagnose import Diagnosis, diagnose
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.saturation_monitor import SaturationMonitor
from keras_ext.callbacks.one_cycle_momentum import OneCycleMomentum
from keras_ext.callbacks.rate_curve import RateCurve
from keras_ext.callbacks.stop_at import StopAt

__all__ = [
    "ClippingLog", "Diagnosis", "Finding", "LearningRateFinder", "Limits", "OneCycleMomentum", "RateCurve", "SaturationMonitor", "StopAt",
    "diagnose",
]  # fmt: skip
