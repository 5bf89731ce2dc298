"""The loss in inference, where batch normalization uses its moving statistics."""

import contextlib
import math
from typing import Any

from keras import ops, tree

from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.untouched import untouched
from keras_ext.callbacks.monitor.snapshot import Snapshot


def may_differ_in_inference(snapshot: Snapshot, limits: Limits, baseline: float) -> bool:
    """Return whether the network has learned, and a moving variance is far from the data's; a constant prediction costs `baseline`."""
    return snapshot.loss <= limits.learned * baseline and any(n.ratio > limits.statistics_ratio for n in snapshot.normalizations)


def loss_in_inference(model: Any, data: tuple[Any, Any, Any]) -> float:
    """Return the loss of samples in inference; NaN where it cannot be computed."""
    with contextlib.suppress(Exception), untouched(model):  # a monitor must not end a training
        x, y, sample_weight = tree.map_structure(lambda a: None if a is None else ops.convert_to_tensor(a), data)
        loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=False), sample_weight=sample_weight, training=False)
        return float(ops.convert_to_numpy(ops.stop_gradient(ops.cast(loss, "float32"))))
    return math.nan
