"""A look, read layer by layer: what the table, the picture, the page and the scalars show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from keras_ext.callbacks.look import Activation, Look, Weight
from keras_ext.callbacks.looking.statistics import CHOOSING, RECTIFYING, SATURATING


@dataclass(frozen=True)
class LayerState:
    """One layer in one look: the worst of its activations, and its kernels taken together. A number that it does not have is NaN.

    `counts` is False for an output or a softmax, whose saturation is no illness. `values_finite` speaks of the activations,
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


def layer_states(look: Look) -> list[LayerState]:
    """Return the layers of `look` that have an activation, a kernel or a weight that is not finite, in network order.

    A look knows the order of its activations and that of its kernels. Where no layer is in both, as with convolutions followed by ReLU
    layers, the two are dealt out evenly.

    >>> relu = Activation("relu", "relu", "", False, 0.0, 0.0, 0.25, 0.5, 1.0, True)
    >>> kernels = [Weight(name, f"{name}/kernel", True, 3.0, 6.0, 1.0, 0.0, True) for name in ("dense", "output")]
    >>> look = Look(0, 0, 1.0, 1.0, (relu,), tuple(kernels))
    >>> [(state.layer, state.dead, state.gradient_ratio) for state in layer_states(look)]
    [('dense', nan, 0.5), ('relu', 0.25, nan), ('output', nan, 0.5)]
    """
    kernels = list(dict.fromkeys(w.layer for w in look.weights if w.is_kernel or not w.finite))
    activations = list(dict.fromkeys(a.layer for a in look.activations))
    return [
        _state(layer, [a for a in look.activations if a.layer == layer], [w for w in look.weights if w.layer == layer])
        for layer in _network_order(kernels, activations)
    ]


def layers_of(looks: Sequence[Look]) -> list[str]:
    """Return the names of all layers in `looks`, in the network order of the last look that has them."""
    orders = {tuple(state.layer for state in layer_states(look)): None for look in reversed(looks)}
    return list(dict.fromkeys(name for order in orders for name in order))


def _state(layer: str, activations: Sequence[Activation], weights: Sequence[Weight]) -> LayerState:
    hidden = [a for a in activations if a.counts]
    kernels = [w for w in weights if w.is_kernel]
    norm, size, way = (
        math.hypot(*(getattr(w, field) for w in kernels)) if kernels else math.nan for field in ("gradient_norm", "weight_norm", "update")
    )
    together = Weight(layer, "", True, norm, size, math.nan, math.nan, True, update=way)
    return LayerState(
        layer,
        saturated=_worst(hidden or activations, "saturated", (*SATURATING, *CHOOSING)),
        dead=_worst(hidden or activations, "dead", RECTIFYING),
        counts=bool(hidden) or not activations,
        gradient_norm=norm,
        gradient_ratio=together.gradient_ratio,
        update_ratio=together.update_ratio,
        has_kernel=bool(kernels),
        values_finite=all(a.finite for a in activations),
        weights_finite=all(w.finite for w in weights),
    )


def _worst(activations: Sequence[Activation], field: str, kinds: Sequence[str]) -> float:
    """Return the largest share, NaN if no activation is of a kind that can saturate or die."""
    values = [getattr(a, field) for a in activations if a.kind in kinds or getattr(a, field) > 0]
    return max((v for v in values if not math.isnan(v)), default=math.nan)


def _network_order(kernels: list[str], activations: list[str]) -> list[str]:
    order: list[str] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, kernels, activations, autojunk=False).get_opcodes():
        order += kernels[i1:i2] if tag == "equal" else _dealt(kernels[i1:i2], activations[j1:j2])
    return list(dict.fromkeys(order))


def _dealt(first: list[str], second: list[str]) -> list[str]:
    places = [((i + 0.5) / len(names), turn, name) for turn, names in enumerate((first, second)) for i, name in enumerate(names)]
    return [name for _, _, name in sorted(places, key=lambda place: place[:2])]
