"""Snapshots and findings that no model was trained for."""

import math

import pytest

from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.snapshot import Activation, Snapshot, Weight


def _snapshot(j, layers, kinds, unhealthy):
    activations, weights = [], []
    for i in range(layers):
        kind, name, is_last = kinds[i % len(kinds)], f"layer_{i + 1}", i == layers - 1
        bad = unhealthy and i == 0
        activations.append(
            Activation(
                name, "softmax" if is_last else kind, "", is_last,
                saturated=min(0.1 * j + 0.3 * (layers - i) / layers, 1.0) if kind in ("sigmoid", "tanh") and not is_last else 0.0,
                saturated_units=0.0, dead=min(0.05 * j + i / (2 * layers), 1.0) if kind == "relu" and not is_last else 0.0,
                zeros=0.5 if kind == "relu" else 0.0, rms=math.nan if bad else 0.7, finite=not bad,
            )
        )  # fmt: skip
        gradient = math.nan if bad else 2.0 * 10.0 ** (-0.5 * (layers - 1 - i) - 0.1 * j)
        update = math.nan if j == 0 else 0.01 * (i + 1)
        weights.append(Weight(name, f"{name}/kernel", True, gradient, 8.0, 0.5, 0.0, not bad, 1.0, update))
        weights.append(Weight(name, f"{name}/bias", False, 0.1, 0.0, 0.0, 0.0, True))
    names = tuple(f"layer_{i + 1}" for i in range(layers))
    loss = math.inf if unhealthy else 2.3 / (j + 1)
    return Snapshot(45 * j, j, loss, 0.5, tuple(activations), tuple(weights), clipped=0.25 if j else math.nan, layers=names)


@pytest.fixture
def made_snapshots():
    """A function that returns snapshots of a network of `layers` layers, and findings of it.

    Layers are called `layer_1` and so on; their activations are `kinds` in turn, the last is a softmax. With `unhealthy=True` the last
    snapshot has NaN in the first layer.
    """

    def make(snapshots=3, layers=4, kinds=("sigmoid", "relu"), unhealthy=False):
        made = [_snapshot(j, layers, kinds, unhealthy and j == snapshots - 1) for j in range(snapshots)]
        at = made[-1].step, made[-1].epoch
        findings = [
            Finding("saturated", "warning", "layer_1", 0, 0, 0.55, 0.5, "55% of its sigmoid outputs are saturated. Use relu."),
            Finding("dead_relu", "warning", "layer_2", 0, 0, 0.6, 0.5, "60% of its relu units are zero. Use leaky_relu."),
            Finding(
                "vanishing_gradient", "critical", "layer_1", *at, 1e-7, 1e-3, "The gradient is 1e-07 of the largest. Use fewer layers."
            ),
            Finding("saturated", "critical", "layer_1", *at, 0.9, 0.5, "90% of its sigmoid outputs are saturated. Use relu."),
            Finding("constant_output", "warning", None, *at, 1e-4, 1e-3, "The predictions do not depend on the input."),
        ]
        return made, findings

    return make
