"""The sum of all changes of a model, from which `rebuild` makes a copy."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Blueprint:
    """The sum of all changes of a model. Layers are known by the names that the monitor reports.

    Args:
        activations: the new activation of a layer.
        configs: new arguments of a layer, such as `rate`, `momentum` and `trainable`.
        normalized: layers between which and their activation a BatchNormalization comes.
        skipped: layers whose input is added to their output.
        drawn: layers whose first weights are drawn again.
        inputs: mean and variance by which an input is normalized, by its place.
        outputs: scale and offset that an output gets, by its place.
        losses: new losses by the place of their output.
        optimizer: new arguments of the optimizer.
        threshold: of a `GradientClipping` around the optimizer; None for none.
    """

    activations: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    normalized: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    drawn: frozenset[str] = frozenset()
    inputs: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    outputs: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    losses: Mapping[int, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None

    def plus(self, **more: Any) -> "Blueprint":
        """Return a blueprint with more entries: mappings and sets grow, other fields are exchanged."""
        merged = {}
        for name, value in more.items():
            old = getattr(self, name)
            if name == "configs":
                merged[name] = {**old, **{layer: {**old.get(layer, {}), **config} for layer, config in value.items()}}
            elif isinstance(old, Mapping):
                merged[name] = {**old, **value}
            else:
                merged[name] = old | frozenset(value) if isinstance(old, frozenset) else value
        return replace(self, **merged)
