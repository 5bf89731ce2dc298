"""A snapshot, read layer by layer: what the table, the picture, the page and the scalars show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_ext.callbacks.monitor.probe.statistics import CHOOSING, RECTIFYING, SATURATING
from keras_ext.callbacks.monitor.snapshot import Activation, Snapshot, Weight, ratio


@dataclass(frozen=True)
class LayerState:
    """One layer in one snapshot: the worst of its activations, and its kernels taken together. A number that it does not have is NaN.

    `counts` is False for an output or a softmax, whose saturation is no symptom. `values_finite` speaks of the activations,
    `weights_finite` of the weights and their gradients.
    """

    layer: str
    saturated: float
    dead: float
    counts: bool
    gradient_norm: float
    gradient_ratio: float
    update_ratio: float
    has_kernel: bool
    values_finite: bool
    weights_finite: bool


def layer_states(snapshot: Snapshot) -> list[LayerState]:
    """Return the layers of `snapshot` that have an activation, a kernel or a weight that is not finite, in the network's order.

    >>> relu = Activation("relu", "relu", "", False, 0.0, 0.0, 0.25, 0.5, 1.0, True)
    >>> kernels = [Weight(name, f"{name}/kernel", True, 3.0, 6.0, 1.0, 0.0, True) for name in ("dense", "output")]
    >>> snapshot = Snapshot(0, 0, 1.0, 1.0, (relu,), tuple(kernels), layers=("dense", "relu", "output"))
    >>> [(state.layer, state.dead, state.gradient_ratio) for state in layer_states(snapshot)]
    [('dense', nan, 0.5), ('relu', 0.25, nan), ('output', nan, 0.5)]
    """
    shown = {w.layer: None for w in snapshot.weights if w.is_kernel or not w.finite} | {a.layer: None for a in snapshot.activations}
    return [
        _state(layer, [a for a in snapshot.activations if a.layer == layer], [w for w in snapshot.weights if w.layer == layer])
        for layer in dict.fromkeys((*snapshot.layers, *shown))
        if layer in shown
    ]


def layers_of(snapshots: Sequence[Snapshot]) -> list[str]:
    """Return the names of all layers in `snapshots`, in the network order of the last snapshot that has them."""
    orders = {tuple(state.layer for state in layer_states(snapshot)): None for snapshot in reversed(snapshots)}
    return list(dict.fromkeys(name for order in orders for name in order))


def _state(layer: str, activations: Sequence[Activation], weights: Sequence[Weight]) -> LayerState:
    hidden = [a for a in activations if a.counts]
    kernels = [w for w in weights if w.is_kernel]

    def together(field: str) -> float:
        return math.hypot(*(getattr(w, field) for w in kernels)) if kernels else math.nan

    def worst(field: str, kinds: Sequence[str]) -> float:
        """Return the largest share, NaN if no activation is of a kind that can saturate or die."""
        values = [getattr(a, field) for a in hidden or activations if a.kind in kinds or getattr(a, field) > 0]
        return max((v for v in values if not math.isnan(v)), default=math.nan)

    norm, size = together("gradient_norm"), together("weight_norm")
    return LayerState(
        layer,
        saturated=worst("saturated", (*SATURATING, *CHOOSING)),
        dead=worst("dead", RECTIFYING),
        counts=bool(hidden) or not activations,
        gradient_norm=norm,
        gradient_ratio=ratio(norm, size),
        update_ratio=ratio(together("update"), size),
        has_kernel=bool(kernels),
        values_finite=all(a.finite for a in activations),
        weights_finite=all(w.finite for w in weights),
    )
