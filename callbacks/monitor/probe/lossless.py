"""A snapshot of a model without its loss: where it has none, or where its loss cannot be computed."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from keras_ext.callbacks.monitor.probe.probe import Probe
from keras_ext.callbacks.monitor.snapshot import Snapshot


def without_loss(
    model: keras.Model, data: tuple[Any, Any, Any], rank: bool, layers: Sequence[str] | None, step: int, epoch: int = 0
) -> Snapshot:
    """Return a snapshot whose loss is 0 and whose gradients are NaN; arguments as of `Probe` and its `snapshot`."""
    snapshot = Probe(_WithoutLoss(model), (data[0], None, None), rank, layers).snapshot(step, epoch)
    return replace(snapshot, weights=tuple(replace(w, gradient_norm=math.nan, zero_gradients=math.nan) for w in snapshot.weights))


def not_finite(
    model: keras.Model, data: tuple[Any, Any, Any], rank: bool, layers: Sequence[str] | None, step: int, epoch: int = 0
) -> Snapshot | None:
    """Return a snapshot if something in it is not finite: PyTorch's cross entropies raise for a prediction of NaN."""
    try:
        snapshot = without_loss(model, data, rank, layers, step, epoch)
    except Exception:
        return None
    return None if snapshot.finite else replace(snapshot, loss=math.nan)


class _WithoutLoss:
    """Stands for a model whose loss is 0, whatever it puts out."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._model(*args, **kwargs)

    def compute_loss(self, **kwargs: Any) -> Any:
        return ops.zeros(())
