"""The loss in inference, where batch normalization uses its moving statistics."""

import contextlib
import math
from typing import Any

from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.probe.untouched import as_fit_does, as_float, untouched
from keras_ext.callbacks.monitor.snapshot import Snapshot


def may_differ_in_inference(snapshot: Snapshot, limits: Limits, training: Training, baseline: float) -> bool:
    """Return whether the network has learned, and a moving variance is far from the data's and will not follow.

    A constant prediction costs `baseline`.
    """
    slow = {layer for layer, momentum in training.moving if momentum**training.planned > limits.lost_statistics}
    is_far = any(n.layer in slow and n.ratio > limits.statistics_ratio for n in snapshot.normalizations)
    return is_far and snapshot.loss <= limits.learned * baseline


def loss_in_inference(model: Any, data: tuple[Any, Any, Any]) -> float:
    """Return the loss of samples in inference; NaN where it cannot be computed."""
    with contextlib.suppress(Exception), untouched(model):  # a monitor must not end a training
        x, y, sample_weight = as_fit_does(data)
        loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=False), sample_weight=sample_weight, training=False)
        return as_float(loss)
    return math.nan
