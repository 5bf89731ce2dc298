"""From looks to findings: which layer is sick, of what, and what mends it. Pure: numbers and limits in, frozen records out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from keras_ext._checks import in_range
from keras_ext.callbacks.look import Look
from keras_ext.callbacks.statistics import RECTIFYING, SATURATING

SYMPTOMS = (
    "non_finite",
    "saturated",
    "dead_relu",
    "vanishing_gradient",
    "zero_gradient",
    "exploding_gradient",
    "exploding_activation",
    "exploding_weight",
    "constant_output",
)


@dataclass(frozen=True)
class Finding:
    """One illness of one layer, when it was first seen at this severity.

    `layer` is None where the whole network is meant. `value` is the number that was measured, `limit` the one that it crossed.
    `severity` is `"warning"`, or `"critical"`: this run will not learn as it is.
    """

    symptom: str
    severity: str
    layer: str | None
    step: int
    epoch: int
    value: float
    limit: float
    advice: str

    def __str__(self) -> str:
        """Return it as one line for a person."""
        where = f'layer "{self.layer}"' if self.layer else "the network"
        return f"{self.severity}: {self.symptom.replace('_', ' ')} in {where}, epoch {self.epoch}. {self.advice}"


@dataclass(frozen=True)
class Limits:
    """The numbers that the rules compare with.

    Args:
        saturated: share of a hidden layer's (sample, unit) pairs whose slope is under 5 % of the steepest. Half of them: the median unit no
            longer passes a gradient back (Glorot and Bengio 2010, section 3, show such layers).
        dead: share of a ReLU layer's units that are zero on every sample of the probe; half of the layer is lost.
        vanishing_ratio: gradient norm of the first kernel over the largest, below which the first layer stands still while another learns.
        vanishing_norm: gradient norm below which the first kernel stands still; a step of the usual rates .001 to .1 then moves it by less
            than 1e-4 of a unit weight.
        exploding_gradient: gradient norm that no rate in use survives: at .001 a step is as long as a weight vector of norm 1.
        exploding_activation: root mean square of a layer's output; its square overflows float16's 65,504 a hundred times over.
        exploding_weight: largest absolute weight; initial weights of unit-scale networks are under 10.
        constant: spread of the predictions over the samples (standard deviation over root mean square) below which they do not depend on
            the input.
        falling: share by which the loss must have fallen below its best value before the last looks to count as falling.
        learned: share of the first loss below which the network has learned something, if its output is not constant.
    """

    saturated: float = 0.5
    dead: float = 0.5
    vanishing_ratio: float = 1e-3
    vanishing_norm: float = 1e-3
    exploding_gradient: float = 1e3
    exploding_activation: float = 1e4
    exploding_weight: float = 1e3
    constant: float = 1e-3
    falling: float = 0.01
    learned: float = 0.5

    def __post_init__(self) -> None:
        for name in ("saturated", "dead", "learned"):
            in_range(name, getattr(self, name), 0.0, 1.0, closed="right")
        for name in ("vanishing_ratio", "vanishing_norm", "constant", "falling"):
            in_range(name, getattr(self, name), 0.0, 1.0, closed="neither")
        for name in ("exploding_gradient", "exploding_activation", "exploding_weight"):
            in_range(name, getattr(self, name), 0.0, closed="neither")


@dataclass(frozen=True)
class State:
    """What a rule sees in one look, before persistence and the loss are weighed; `fatal` needs neither."""

    symptom: str
    layer: str | None
    value: float
    limit: float
    advice: str
    can_be_critical: bool = True
    fatal: bool = False


def examine(looks: Sequence[Look], limits: Limits, known: Sequence[Finding] = (), patience: int = 2) -> list[Finding]:
    """Return what the last look adds to the `known` findings.

    A state that a rule sees is a warning. It is critical once it has lasted for `patience` regular looks in which the network did not
    learn; values that are not finite are critical at once.
    """
    last = looks[-1]
    regular = [look for look in looks if look.is_regular]
    recent = [{(s.symptom, s.layer) for s in states(look, limits)} for look in regular[-patience:]]
    stuck = last.is_regular and len(regular) > patience and not learning(regular, limits, patience)
    told = {(f.symptom, f.layer, f.severity) for f in known}
    new = []
    for state in states(last, limits):
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


def states(look: Look, limits: Limits) -> Iterator[State]:
    """Yield every state of `look` that is outside the limits, the layers nearest to the input first."""
    if not look.finite:
        yield _non_finite(look)
        return
    yield from _activation_states(look, limits)
    yield from _gradient_states(look, limits)
    if look.spread < limits.constant and look.step > 0:
        yield State(
            "constant_output", None, look.spread, limits.constant,
            "The predictions do not depend on the input. Scale the inputs to unit variance (keras.layers.Normalization), lower the "
            "learning rate, and start from initializers.HeNormal with relu or initializers.GlorotUniform with tanh.",
        )  # fmt: skip


def _non_finite(look: Look) -> State:
    sick = next((p.layer for p in (*look.activations, *look.weights) if not p.finite), None)
    return State(
        "non_finite", sick, math.nan, math.inf,
        "A value is NaN or infinite. Check the data for NaN, lower the learning rate, and put GradientClipping around the optimizer.",
        fatal=True,
    )  # fmt: skip


def _activation_states(look: Look, limits: Limits) -> Iterator[State]:
    for a in look.hidden:
        if a.saturated > limits.saturated:
            yield State(
                "saturated", a.layer, a.saturated, limits.saturated,
                f"{a.saturated:.0%} of its {a.kind} outputs are saturated. Use relu with initializers.HeNormal, or "
                "layers.BatchNormalization before the activation; inputs of unit variance keep the first layer out of it.",
            )  # fmt: skip
        if a.dead >= limits.dead:
            yield State(
                "dead_relu", a.layer, a.dead, limits.dead,
                f"{a.dead:.0%} of its {a.kind} units are zero on every sample. Lower the learning rate, use initializers.HeNormal, or "
                "use leaky_relu.",
            )  # fmt: skip
        if a.rms > limits.exploding_activation:
            yield State(
                "exploding_activation", a.layer, a.rms, limits.exploding_activation,
                f"The root mean square of its output is {a.rms:.1e}. Scale the inputs to unit variance, and start from "
                "initializers.HeNormal.",
            )  # fmt: skip


def _gradient_states(look: Look, limits: Limits) -> Iterator[State]:
    kernels = look.kernels
    if not kernels:
        return
    first, ratio = kernels[0], look.gradient_ratio
    if max(w.gradient_norm for w in kernels) == 0.0:
        yield State(
            "zero_gradient", None, 0.0, 0.0,
            "Every gradient is exactly zero: nothing can learn. Look for a layer of dead or saturated units, or a loss that ignores the "
            "output.",
        )  # fmt: skip
    elif first.gradient_norm < limits.vanishing_norm and ratio < limits.vanishing_ratio:
        yield State(
            "vanishing_gradient", first.layer, ratio, limits.vanishing_ratio,
            f"The gradient of the first layer is {ratio:.0e} of the largest. Use relu with initializers.HeNormal, BatchNormalization "
            "between the layers, or fewer layers.",
        )  # fmt: skip
    for w in kernels:
        if w.gradient_norm > limits.exploding_gradient:
            yield State(
                "exploding_gradient", w.layer, w.gradient_norm, limits.exploding_gradient,
                f"Its gradient norm is {w.gradient_norm:.1e}. Put GradientClipping around the optimizer, scale inputs and targets "
                "to unit variance, or lower the learning rate.",
            )  # fmt: skip
        if w.largest > limits.exploding_weight:
            yield State(
                "exploding_weight", w.layer, w.largest, limits.exploding_weight,
                f"Its largest weight is {w.largest:.1e}. Lower the learning rate, or add weight_decay to the optimizer.",
            )  # fmt: skip


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
    numbers: dict[str, float] = {}
    for a in look.hidden:
        for key, kinds, value in (("saturation", SATURATING, a.saturated), ("dead", RECTIFYING, a.dead)):
            if a.kind in kinds:
                name = f"{key}/{a.layer}"
                # A recurrent layer has several gates; its worst counts.
                numbers[name] = max(numbers.get(name, 0.0), value if look.finite else 1.0)
    return numbers
