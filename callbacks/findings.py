"""From looks to findings: which illness lasts, and what goes into the logs. Pure: numbers and limits in, frozen records out."""

import math
from collections.abc import Sequence
from typing import Any

from keras_ext.callbacks.by_layer import layer_states
from keras_ext.callbacks.finding import Finding
from keras_ext.callbacks.limits import Limits
from keras_ext.callbacks.look import Look
from keras_ext.callbacks.rules import states
from keras_ext.callbacks.setting import Aim


def examine(
    looks: Sequence[Look], limits: Limits, known: Sequence[Finding] = (), patience: int = 2, aims: Sequence[Aim | None] = ()
) -> list[Finding]:
    """Return what the last look adds to the `known` findings.

    A state that a rule sees is a warning. It is critical once it has lasted for `patience` regular looks in which the network did not
    learn; values that are not finite are critical at once.
    """
    last = looks[-1]
    regular = [look for look in looks if look.is_regular]
    recent = [{(s.symptom, s.layer) for s in states(look, limits, aims)} for look in regular[-patience:]]
    stuck = last.is_regular and len(regular) > patience and not learning(regular, limits, patience)
    told = {(f.symptom, f.layer, f.severity) for f in known}
    new = []
    for state in states(last, limits, aims):
        lasting = all((state.symptom, state.layer) in seen for seen in recent)
        critical = state.fatal or (state.can_be_critical and stuck and lasting)
        severity = "critical" if critical else "warning"
        if (state.symptom, state.layer, severity) in told or (state.symptom, state.layer, "critical") in told:
            continue
        told.add((state.symptom, state.layer, severity))
        new.append(Finding(state.symptom, severity, state.layer, last.step, last.epoch, state.value, state.limit, state.advice))
    return new


def learning(looks: Sequence[Look], limits: Limits, patience: int = 2) -> bool:
    """True where the probe's loss has lately fallen, or has fallen far from the start and the output depends on the input."""
    last = looks[-1]
    losses = [look.loss if math.isfinite(look.loss) else math.inf for look in looks]
    if math.isinf(losses[-1]):
        return False
    before, lately = losses[:-patience] or losses[:1], losses[-patience:]
    if min(lately) < (1 - limits.falling) * min(before) and last.spread > limits.constant:
        return True
    return last.spread > limits.constant and losses[-1] <= limits.learned * losses[0]


def worst(looks: Sequence[Look]) -> dict[str, Any]:
    """Return the numbers of the last look and the worst of all looks, under the keys that go into `logs`.

    A look that is not finite counts as the worst there is, so that no objective takes it for a good one.
    """

    def peak(look: Look, field: str) -> float:
        return max((getattr(a, field) for a in look.hidden), default=0.0) if look.finite else 1.0

    def ratio(look: Look) -> float:
        return look.gradient_ratio if look.finite else 0.0

    numbers: dict[str, Any] = {}
    for key, field in (("saturation", "saturated"), ("dead", "dead")):
        numbers[key] = peak(looks[-1], field)
        numbers[f"{key}_worst"] = max(peak(look, field) for look in looks)
    numbers["gradient_ratio"] = ratio(looks[-1])
    numbers["gradient_ratio_worst"] = min(ratio(look) for look in looks)
    return numbers


def by_layer(look: Look) -> dict[str, float]:
    """Return the saturation of each layer that can saturate, and the dead share of each that can die, as keys for `logs`."""
    return {
        f"{key}/{state.layer}": share if look.finite else 1.0
        for state in layer_states(look)
        if state.counts
        for key, share in (("saturation", state.saturated), ("dead", state.dead))
        if not math.isnan(share)
    }
