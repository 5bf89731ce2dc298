"""Whether what goes in, what comes out and what is aimed at fit together."""

import math
from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import BINARY, CHOICES, DISTANCES, Aim
from keras_ext.callbacks.monitor.snapshot import Output, Snapshot
from keras_ext.remedies.advice import advice

# What an activation can put out.
_RANGES = {
    **dict.fromkeys(("sigmoid", "hard_sigmoid", "softmax"), (0.0, 1.0)),
    **dict.fromkeys(("tanh", "softsign"), (-1.0, 1.0)),
    "relu": (0.0, math.inf),
}
# Activations that do not end in probabilities, whatever they put out now.
_NO_PROBABILITIES = ("relu", "relu6", "tanh", "softsign")
# Activations that bound logits, of which a softmax is then never sure.
_BOUNDED = ("tanh", "softsign", "hard_tanh")
_SHORT = "Between logits that differ by 2 at most, no class gets over 7.4 times the probability of another."
# Cosines of trained directions come this near to 1.
_NEAR_ONE = 0.9
_SPARSE = "sparse_categorical_crossentropy"
# Rounding of probabilities in half precision.
_ROUNDING = 0.02


def mismatches(snapshot: Snapshot, aims: Sequence[Aim | None], limits: Limits, placeholder: str = "") -> Iterator[State]:
    """Yield what does not fit: inputs and targets of another scale than networks are made for, and outputs that their loss cannot use.

    `placeholder` says which number stands in the inputs for what is not known.
    """
    rms, most = snapshot.input_rms, limits.unscaled_input
    if placeholder or rms > most:
        seen = placeholder or f"The root mean square of what its first layer is given is {rms:.3g}"
        said = f"{seen}. {advice('unscaled_input', 'placeholder' if placeholder else '')}"
        yield State("unscaled_input", None, rms, most, said, needs_others=True, can_be_critical=rms > most)
    elif 0 < snapshot.input_rms < limits.faint_input and _is_embedding(snapshot):
        seen = f"The root mean square of what its embeddings give is {snapshot.input_rms:.2g}, and the signal and its gradient with it"
        said = f"{seen}. {advice('poor_initialization', 'embedding')}"
        yield State("poor_initialization", snapshot.kernels[0].layer, snapshot.input_rms, limits.faint_input, said, needs_others=True)
    elif 0 < snapshot.input_rms < limits.faint_input:
        scale = f"The root mean square of what its first layer is given is {snapshot.input_rms:.2g}"
        said = f"{scale}: it may have been divided twice. {advice('unscaled_input')}"
        yield State("unscaled_input", None, snapshot.input_rms, limits.faint_input, said, needs_others=True)
    yield from _invalid_ids(snapshot)
    if len(aims) != len(snapshot.outputs):
        return
    ends = [a for a in snapshot.activations if a.is_output]
    for i, (output, aim) in enumerate(zip(snapshot.outputs, aims, strict=True)):
        if aim is None:
            continue
        end = ends[i] if len(ends) == len(aims) else None
        which = f"output {i + 1}" if len(aims) > 1 else "the output"
        reported = _mismatch(output, aim, end.kind if end else "", which)
        impossible = _impossible(output, aim, which)
        found = reported or impossible
        if found is not None:
            is_harmless = aim.from_logits and aim.finds_logits and end is not None and end.kind in ("softmax", "sigmoid")
            layer, fatal = end.layer if end else None, impossible is not None
            yield State("output_mismatch", layer, *found, can_be_critical=not is_harmless, fatal=fatal)
        if aim.is_one_class:
            said = f"All targets of {which} are {aim.low:.3g}. {advice('constant_output', 'same targets')}"
            # One class may be meant, as of negative samples beside a positive one.
            yield State("constant_output", None, 0.0, 0.0, said, can_be_critical=False)
        if reported is None and _are_cosines(aim, output) and snapshot.epoch > limits.slow:
            said = f"{_SHORT} The logits of {which} stay between -1 and 1, as cosines do: multiply them by 10 or more, or by a weight."
            yield State("output_mismatch", None, output.high, 1.0, said, quiet=True)
        share = output.deviation / aim.deviation if aim.deviation > 0 else math.nan
        if _compares(aim, output) and snapshot.step > 0 and share < limits.flat_predictions:
            seen = f"The predictions of {which} vary {share:.1g} times as much as the targets: whatever the input, they are the same"
            # In the first epochs networks that will learn do this too, small ones for a long time.
            quiet = not snapshot.is_regular or snapshot.epoch <= limits.slow
            said = f"{seen}. {advice('constant_output', 'flat')}"
            # With a loss whose least value is not known nothing else says that the network has not learned.
            yield State(
                "constant_output", None, share, limits.flat_predictions, said, can_be_critical=math.isnan(aim.baseline), quiet=quiet
            )
        if aim.loss in DISTANCES and aim.rms > limits.unscaled_target:
            scale = f"The root mean square of the targets of {which} is {aim.rms:.3g}"
            said = f"{scale}. {advice('unscaled_target')}"
            yield State("unscaled_target", None, aim.rms, limits.unscaled_target, said, needs_others=True)


def has_impossible_targets(snapshot: Snapshot, aims: Sequence[Aim | None]) -> bool:
    """Return whether the targets are of classes that the outputs do not have, of which no loss can be computed."""
    pairs = zip(snapshot.outputs, aims, strict=False)
    return any(aim is not None and _impossible(output, aim, "") is not None for output, aim in pairs)


def _invalid_ids(snapshot: Snapshot) -> Iterator[State]:
    for e in snapshot.embeddings:
        for share, what, where in ((e.fractions, "not whole numbers", "fractions"), (e.outside, "none of its rows", "outside")):
            if share > 0:
                said = f"{share:.0%} of its ids are {what}. {advice('invalid_ids', where)}"
                yield State("invalid_ids", e.layer, share, 0.0, said, ignores_loss=True, root=True)


def _is_squashed(aim: Aim, output: Output, kind: str) -> bool:
    """Return whether sigmoid ends an output that a loss of the user's own compares with its targets, number by number."""
    return kind == "sigmoid" and aim.is_own and aim.units == output.units


def _are_cosines(aim: Aim, output: Output) -> bool:
    """Return whether logits fill the range of cosines, and do not leave it."""
    return aim.loss in CHOICES and aim.from_logits and output.low >= -1 - _ROUNDING and _NEAR_ONE < output.high <= 1 + _ROUNDING


def _is_embedding(snapshot: Snapshot) -> bool:
    return bool(snapshot.kernels) and snapshot.kernels[0].path.endswith("embeddings")


def _compares(aim: Aim, output: Output) -> bool:
    """Return whether predictions of `output` are numbers of the targets' scale: not of classes by number, nor logits."""
    return aim.units == output.units and aim.loss not in CHOICES and not aim.from_logits


def _mismatch(output: Output, aim: Aim, kind: str, which: str) -> tuple[float, float, str] | None:
    """Return the value, the limit and the advice of what the loss cannot use; `kind` is the activation that ends the output."""
    is_outside = output.low < -_ROUNDING or output.high > 1 + _ROUNDING
    adds_up = output.low >= -_ROUNDING and output.sum_off <= _ROUNDING
    if aim.loss in CHOICES and output.units == 1:
        said = f"{aim.loss} chooses among units, and {which} has one. Take sigmoid and binary_crossentropy, or a unit a class."
        return 1.0, 2.0, said
    if kind == "softmax" and output.units == 1:
        said = f"A softmax over the one unit of {which} is 1 whatever the input. End it with sigmoid and take binary_crossentropy."
        return 1.0, 2.0, said
    if aim.loss in CHOICES and not aim.from_logits and not adds_up:
        value, limit = (output.low, 0.0) if output.low < 0 else (output.sum_off, _ROUNDING)
        said = f"{aim.loss} takes probabilities that add up to 1, which {which} does not give"
        return value, limit, f"{said}. End it with softmax, or set from_logits=True."
    if aim.loss == _SPARSE and not aim.are_whole:
        said = f"{aim.loss} takes class numbers and drops fractions, got targets from {aim.low:.3g} to {aim.high:.3g}"
        return aim.high, 0.0, f"{said}. For numbers take mse, with an output without activation."
    if aim.loss in CHOICES and aim.loss != _SPARSE and aim.are_whole and aim.low >= 0 and aim.most_sum > 1:
        said = f"{aim.loss} takes one class a sample, got rows with {aim.most_sum:.3g} ones. End {which} with sigmoid"
        return aim.most_sum, 1.0, f"{said} and take binary_crossentropy."
    if aim.loss == "cosine_similarity" and output.units == 1:
        said = (
            f"{aim.loss} compares directions, and {which} has one unit: only its sign counts, which has no gradient. For numbers take mse."
        )
        return 1.0, 2.0, said
    if aim.loss in CHOICES and aim.from_logits and adds_up:
        said = f"{aim.loss} with from_logits=True takes what comes before a softmax, and {which} ends with one. Leave it out."
        return output.sum_off, _ROUNDING, said
    if aim.loss in CHOICES and aim.from_logits and kind in _BOUNDED:
        return 1.0, 1.0, f"{_SHORT} The {kind} of {which} keeps its logits between -1 and 1. End it without activation."
    if aim.loss in BINARY and (aim.low < 0 or aim.high > 1):
        said = f"{aim.loss} takes targets from 0 to 1, got {aim.low:.3g} to {aim.high:.3g}. Scale them, or take another loss."
        return *_worse(aim, 0.0, 1.0), said
    if aim.loss in BINARY and not aim.from_logits and (is_outside or kind in _NO_PROBABILITIES):
        said = f"{aim.loss} takes probabilities, and {which} gives {output.low:.3g} to {output.high:.3g}. End it with sigmoid"
        return *_worse(output, 0.0, 1.0), f"{said}, or compile with BinaryCrossentropy(from_logits=True)."
    if aim.loss in BINARY and aim.from_logits and kind == "sigmoid":
        said = f"{aim.loss} with from_logits=True takes what comes before a sigmoid, and {which} ends with one. Leave it out."
        return output.high, 1.0, said
    if aim.loss in DISTANCES and not kind and output.low == 0.0 < output.high:
        kind = "relu"  # of a layer that is not seen from outside
    if (aim.loss in DISTANCES or _is_squashed(aim, output, kind)) and kind in _RANGES:
        low, high = _RANGES[kind]
        slack = _ROUNDING * (aim.high - aim.low)
        if aim.low < low - slack or aim.high > high + slack:
            reach = f"The {kind} of {which} cannot reach targets from {aim.low:.3g} to {aim.high:.3g}"
            return *_worse(aim, low, high), f"{reach}. End it without activation, or scale the targets."
    return None


def _impossible(output: Output, aim: Aim, which: str) -> tuple[float, float, str] | None:
    """Return the value, the limit and the advice of targets of classes that the output does not have."""
    if aim.loss == _SPARSE and aim.units and (aim.low < 0 or aim.high >= output.units):
        seen = f"{aim.loss} takes class numbers from 0 to {output.units - 1}, as {which} has {output.units} units, got {aim.low:.3g} to"
        fix = "Subtract 1" if aim.low == 1 and aim.high == output.units else "Count the classes from 0, and give the output a unit a class"
        return *_worse(aim, 0.0, output.units - 1.0), f"{seen} {aim.high:.3g}. {fix}."
    return None


def _worse(found: Output | Aim, low: float, high: float) -> tuple[float, float]:
    return (found.low, low) if low - found.low > found.high - high else (found.high, high)
