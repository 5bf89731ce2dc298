"""How far the loss on a few samples may be from that on all of them."""

import math
from collections.abc import Sequence

from keras_ext.callbacks.monitor.probe.targets import Aim
from keras_ext.callbacks.monitor.snapshot import Snapshot

_STANDARD_ERRORS = 2


def sampling_error(snapshot: Snapshot, aims: Sequence[Aim | None], samples: int) -> float:
    """Return two standard errors of a mean squared error less that of the best constant, both on so many samples; 0 for other losses.

    For targets y and predictions p the difference is the mean of (p - c) (p + c - 2 y), whose standard deviation is about twice the
    product of those of y and p. So a weak signal in noisy targets is not told from none by 256 samples.
    """
    if len(aims) != 1 or len(snapshot.outputs) != 1 or samples < 1:
        return 0.0
    (aim,), (output,) = aims, snapshot.outputs
    if aim is None or aim.loss != "mean_squared_error":
        return 0.0
    error = _STANDARD_ERRORS * aim.weight * 2 * aim.deviation * output.deviation / math.sqrt(samples * output.units)
    return error if math.isfinite(error) else 0.0
