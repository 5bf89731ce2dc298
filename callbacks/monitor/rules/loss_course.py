"""The course of the loss over the snapshots: whether the network learns, has learned, stands still or swings."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.remedies.advice import advice, clip


def learning(snapshots: Sequence[Snapshot], limits: Limits, patience: int = 2, baseline: float = math.nan) -> bool:
    """Return True where the probe's loss has lately fallen, or the network has learned; never where its output is constant.

    A loss that is above that of a constant prediction must fall faster to count: by `limits.catching_up`.
    """
    losses = _losses(snapshots)
    if math.isinf(losses[-1]):
        return False
    before, lately = losses[:-patience] or losses[:1], losses[-patience:]
    least = limits.catching_up if min(lately) > baseline else limits.falling
    if min(lately) < (1 - least) * min(before) and not snapshots[-1].spread <= limits.constant:
        return True
    return has_learned(snapshots, limits, baseline)


def has_learned(snapshots: Sequence[Snapshot], limits: Limits, baseline: float = math.nan) -> bool:
    """Return True where the loss is well below that of the best constant prediction, and the output depends on the input.

    `baseline` is what the best constant prediction costs; NaN if that is not known: the first loss takes its place.
    """
    return is_below(limits.learned, snapshots, limits, baseline)


def stands(snapshots: Sequence[Snapshot], limits: Limits, patience: int, baseline: float = math.nan) -> bool:
    """Return True where there are more than `patience` of the rhythm's snapshots, and the network has not learned in the last of them."""
    return len(snapshots) > patience and not learning(snapshots, limits, patience, baseline)


def is_below(share: float, snapshots: Sequence[Snapshot], limits: Limits, baseline: float) -> bool:
    """Return True where the loss is at most that share of it; further arguments as of `has_learned`."""
    # Of one sample the spread is NaN, and no reason to doubt.
    return not snapshots[-1].spread <= limits.constant and snapshots[-1].loss <= share * _reference(snapshots, baseline)


def course_states(snapshots: Sequence[Snapshot], limits: Limits, baseline: float = math.nan) -> Iterator[State]:
    """Yield what the last `limits.window` snapshots show of the loss: that it swings, or stands at what a constant prediction costs.

    `snapshots` are those of the rhythm; `baseline` as of `has_learned`.
    """
    losses, reference = _losses(snapshots)[-limits.window :], _reference(snapshots, baseline)
    if len(snapshots) <= limits.window or any(map(math.isinf, losses)) or has_learned(snapshots, limits, baseline) or reference <= 0:
        return
    steps = [b - a for a, b in pairwise(losses)]
    turns = sum(a * b < 0 for a, b in pairwise(steps))
    swing = sum(map(abs, steps)) / len(steps) / reference
    if swing > limits.oscillating and turns > (len(steps) - 1) / 2:
        seen = f"From snapshot to snapshot its loss swings by {swing:.0%} of what the best constant prediction costs"
        said = f"{seen}. Lower the learning rate, use larger batches, or {clip(snapshots[-1].clipped)}."
        yield State("oscillating_loss", None, swing, limits.oscillating, said, can_be_critical=min(losses) >= reference)
    elif max(losses) - min(losses) <= limits.stalled * reference and min(losses) >= (1 - limits.stalled) * reference:
        seen = f"For {limits.window} snapshots its loss has stood where a constant prediction stands"
        said = f"{seen}. {advice('stalled_loss')}"
        yield State("stalled_loss", None, min(losses) / reference, 1 - limits.stalled, said, can_be_critical=False)


def _reference(snapshots: Sequence[Snapshot], baseline: float) -> float:
    return _losses(snapshots)[0] if math.isnan(baseline) else baseline


def _losses(snapshots: Sequence[Snapshot]) -> list[float]:
    return [snapshot.loss if math.isfinite(snapshot.loss) else math.inf for snapshot in snapshots]
