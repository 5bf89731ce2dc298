"""The rules: which numbers of one snapshot are outside the limits, and what fixes it."""

import math
from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.statistics import ATTENTION
from keras_ext.callbacks.monitor.probe.targets import BINARY, CHOICES, DISTANCES, Aim, baseline
from keras_ext.callbacks.monitor.rules.first_weights import poor_initializations
from keras_ext.callbacks.monitor.rules.mismatch import mismatches
from keras_ext.callbacks.monitor.rules.not_finite import not_finite
from keras_ext.callbacks.monitor.snapshot import FAR, Activation, Snapshot, Weight
from keras_ext.remedies.advice import advice, clip, shorten

# A kernel of so many times the largest usual scale drives its layer out of range by itself.
_LARGE = 3.0
# Share of zeros among the outputs of units that are not dead, below which every sample gives about the same pattern.
_NEVER_ZERO = 0.01
# Share of zeros in a gradient from which on it belongs to a few rows only.
_FEW = 0.5
# Activations whose outputs a loss takes as probabilities; it cuts them off near 0 and 1.
_PROBABILITIES = ("softmax", "sigmoid")
# What may have driven the values out of range.
_OF_SCALE = ("unscaled_input", "unscaled_target")


def states(
    snapshot: Snapshot, limits: Limits, aims: Sequence[Aim | None] = (), first: Snapshot | None = None, before: Snapshot | None = None,
    broken: Sequence[str] = (), placeholder: str = "",
) -> Iterator[State]:  # fmt: skip
    """Yield every state of `snapshot` that is outside the limits, the layers nearest to the input first.

    `first` is the first snapshot of the fit, `before` the one before this; `broken` says where the data are not finite, and
    `placeholder` which number stands in them for what is not known.
    """
    if not snapshot.finite:
        yield not_finite(snapshot, before, clip(snapshot.clipped), limits, broken)
        yield from (state for state in mismatches(snapshot, aims, limits, placeholder) if state.symptom in _OF_SCALE)
        return
    yield from mismatches(snapshot, aims, limits, placeholder)
    yield from poor_initializations(snapshot, limits)
    yield from _activation_states(snapshot, limits, first)
    if snapshot.kernels:
        yield from _gradient_states(snapshot, limits, baseline(aims), first)
    if snapshot.kernels and not snapshot.has_loss and snapshot.is_regular and all(w.update == 0.0 for w in snapshot.kernels):
        said = f"No kernel changes from epoch to epoch. {advice('unchanged_weights', 'all')}"
        yield State("unchanged_weights", None, 0.0, 0.0, said, ignores_loss=True)
    elif snapshot.kernels and not snapshot.has_loss and snapshot.is_regular and first is not None:
        yield from _unmoved(snapshot)
    yield from _collapsed(snapshot, aims, limits, first)
    if snapshot.spread < limits.constant_output and snapshot.step > 0:
        said = f"The predictions do not depend on the input. {advice('constant_output', 'recurrent' if snapshot.recurrent else '')}"
        yield State("constant_output", None, snapshot.spread, limits.constant_output, said)


def _unmoved(snapshot: Snapshot) -> Iterator[State]:
    """Yield the kernels that a `train_step` of the model's own leaves as they were drawn, if they are most of all, or a whole part.

    The biases of a network that was trained before, such as a teacher, are not zero. A part may be meant to stay, as a target network.
    """
    drawn = {w.layer for w in snapshot.weights if not w.is_kernel and w.weight_norm == 0.0}
    stuck = [w for w in snapshot.kernels if w.update == 0.0 and w.layer in drawn]
    if 2 * len(stuck) > len(snapshot.kernels):
        names = ", ".join(f'"{name}"' for name in dict.fromkeys(w.layer for w in stuck))
        said = f"The train_step leaves {names} as they were drawn. {advice('unchanged_weights', 'all')}"
        yield State("unchanged_weights", stuck[0].layer, 0.0, 0.0, said, ignores_loss=True)
        return
    left, parts = {w.path for w in stuck}, dict[str, list[Weight]]()
    for w in snapshot.kernels:
        parts.setdefault(w.path.rpartition("/")[0].rpartition("/")[0], []).append(w)
    for part, kernels in parts.items():
        if part and len(kernels) > 1 and left.issuperset(w.path for w in kernels):
            said = f'The train_step leaves all kernels of "{part}" as they were drawn. {advice("unchanged_weights", "part")}'
            yield State("unchanged_weights", kernels[0].layer, 0.0, 0.0, said, can_be_critical=False)


def _activation_states(snapshot: Snapshot, limits: Limits, first: Snapshot | None) -> Iterator[State]:
    chose = (
        {a.layer for a in first.activations if a.part == ATTENTION and a.saturated > limits.attention_one_hot}
        if first is not None
        else set()
    )
    for a in snapshot.activations:
        if a.part == ATTENTION and a.saturated > limits.attention_one_hot and a.layer in chose:
            seen = f"{a.saturated:.0%} of its attention's rows choose one place alone, as they did at first"
            yield State("saturated", a.layer, a.saturated, limits.attention_one_hot, f"{seen}. {advice('saturated', 'attention')}")
    for a in snapshot.hidden:
        if a.saturated > limits.saturated:
            part = f" ({a.part})" if a.part else ""
            fix = _advice_for(snapshot, a.layer, advice("saturated", "gate" if a.part else ""), limits, first)
            said = f"{a.saturated:.0%} of its {a.kind}{part} outputs are saturated. {fix}"
            yield State("saturated", a.layer, a.saturated, limits.saturated, said)
        if a.dead >= limits.dead:
            switching = (a.zeros - a.dead) / (1 - a.dead) if a.dead < 1 else 1.0
            fix = _advice_for(snapshot, a.layer, advice("dead_relu", "alike" if switching < _NEVER_ZERO else ""), limits, first)
            yield State("dead_relu", a.layer, a.dead, limits.dead, f"{a.dead:.0%} of its {a.kind} units are zero on every sample. {fix}")
        if a.rms > limits.exploding_activation:
            scale = f"The root mean square of its output is {a.rms:.1e}"
            yield State("exploding_activation", a.layer, a.rms, limits.exploding_activation, f"{scale}. {advice('exploding_activation')}")


def _sure_and_wrong(snapshot: Snapshot, limits: Limits, cost: float, first: Snapshot | None) -> str | None:
    """Return that an output has come to give wrong samples a probability of zero, which the loss cuts off: they have no gradient; or None.

    `cost` is the loss of a constant prediction, NaN where it is not known.
    """

    def are_sure(seen: Snapshot) -> list[Activation]:
        return [a for a in seen.activations if a.is_output and a.kind in _PROBABILITIES and a.saturated > limits.saturated]

    # One that was sure before the first step has another cause.
    at_first = {a.layer for a in are_sure(first)} if first is not None else set()
    sure = [a for a in are_sure(snapshot) if a.layer not in at_first]
    if not sure or not snapshot.loss > cost:
        return None
    seen = f"{sure[0].saturated:.0%} of the outputs of {sure[0].layer!r} are 0 or 1, and the loss is {snapshot.loss:.3g}"
    return f"{seen}, worse than a constant's: wrong outputs have no gradient. {advice('zero_gradient', 'output')}"


def _gradient_states(snapshot: Snapshot, limits: Limits, cost: float, at_first: Snapshot | None) -> Iterator[State]:
    kernels = snapshot.kernels
    first, ratio = kernels[0], snapshot.gradient_ratio
    if max(w.gradient_norm for w in kernels) == 0.0:
        sure = _sure_and_wrong(snapshot, limits, cost, at_first)
        said = sure or f"Every gradient is exactly zero: nothing can learn. {advice('zero_gradient')}"
        yield State("zero_gradient", None, 0.0, 0.0, said)
    elif first.gradient_norm < limits.vanishing_norm and ratio < limits.vanishing_ratio:
        share = f"{ratio:.0e} of the largest" if ratio else "zero"
        # Where units are dead or saturated these are named, and few gradients that only fade reach zero.
        said = f"The gradient of the first layer is {share}. {advice('vanishing_gradient', '' if ratio else 'zero')}"
        yield State("vanishing_gradient", first.layer, ratio, limits.vanishing_ratio, said)
    for w in kernels:
        # Of an embedding few rows change; in mid-epoch the rate may still be warming up from zero; and where the gradient has vanished, no
        # rate helps.
        if w.update == 0.0 and w.gradient_norm > limits.vanishing_norm and w.zero_gradients < _FEW and snapshot.is_regular:
            seen = "It has a gradient, and its kernel has not changed since the last snapshot"
            yield State(
                "unchanged_weights", w.layer, 0.0, 0.0, f"{seen}. {advice('unchanged_weights', 'normalized' if w.normalized else '')}"
            )
        if w.gradient_norm > limits.exploding_gradient:
            said = f"Its gradient norm is {w.gradient_norm:.1e}. {shorten(snapshot.clipped)}"
            yield State("exploding_gradient", w.layer, w.gradient_norm, limits.exploding_gradient, said)
        if w.largest > limits.exploding_weight:
            said = f"Its largest weight is {w.largest:.1e}. {advice('exploding_weight')}"
            yield State("exploding_weight", w.layer, w.largest, limits.exploding_weight, said)


def _collapsed(snapshot: Snapshot, aims: Sequence[Aim | None], limits: Limits, first: Snapshot | None) -> Iterator[State]:
    """Yield that outputs which their loss compares with each other, and with no targets, have become one."""
    # Of a discriminator in balance, whose loss is not known here, the outputs may be alike.
    pairs = zip(snapshot.outputs, first.outputs if first is not None and snapshot.has_loss else (), strict=False)
    for i, (now, then) in enumerate(pairs):
        aim = aims[i] if i < len(aims) else None
        has_targets = aim is not None and aim.units == now.units
        if not has_targets and snapshot.is_regular and now.deviation < limits.collapsed_predictions * then.deviation:
            share = now.deviation / then.deviation
            seen = f"Its outputs differ {share:.0e} times as much as at first: each sample gets the same"
            fix = advice("constant_output", "" if aim is not None and aim.loss in (*CHOICES, *BINARY, *DISTANCES) else "collapsed")
            yield State("constant_output", None, share, limits.collapsed_predictions, f"{seen}. {fix}", ignores_loss=True)


def _advice_for(snapshot: Snapshot, layer: str, usual: str, limits: Limits, first: Snapshot | None) -> str:
    """Return what fixes an activation of `layer` that is out of range: what its inputs, its kernel or its steps ask for, else the `usual`.

    `first` is the first snapshot, by which a kernel that was drawn too large is told from one that has grown.
    """
    kernels = snapshot.kernels
    own = next((w for w in kernels if w.layer == layer), None)
    if own is None:
        return usual
    if own is kernels[0] and snapshot.input_rms > limits.unscaled_input:
        scale = f"The root mean square of its inputs is {snapshot.input_rms:.3g}"
        return f"{scale}: scale them to unit variance (keras.layers.Normalization). {usual}"
    if own.update_ratio > FAR:
        gone = f"Its kernel has gone {own.update_ratio:.0%} of its own length since the last snapshot"
        return f"{gone}: lower the learning rate, or {clip(snapshot.clipped)}. {usual}"
    if own.scale > _LARGE * own.most_scale:
        times = f"Its kernel is {own.scale / own.most_scale:.3g} times as large as its fans ask for"
        drawn = next((w.scale for w in first.kernels if w.layer == layer), math.nan) if first is not None else math.nan
        if drawn <= _LARGE * own.most_scale:
            return f"{times}, and has grown to that in training: lower the learning rate, or {clip(snapshot.clipped)}. {usual}"
        return f"{times}: start it smaller. {usual}"
    return usual
