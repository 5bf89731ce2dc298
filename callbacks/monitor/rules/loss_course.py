"""The course of the loss over the snapshots: whether the network learns, has learned, stands still or swings."""

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.snapshot import FAR, Snapshot
from keras_ext.remedies.advice import advice, clip


def learning(snapshots: Sequence[Snapshot], limits: Limits, patience: int = 2, baseline: float = math.nan) -> bool:
    """Return True where the probe's loss has lately fallen, or the network has learned; never where its output is constant.

    A loss that is above that of a constant prediction must fall faster to count: by `limits.catching_up`.
    """
    losses = _losses(snapshots)
    if math.isinf(losses[-1]):
        return False
    before, lately = losses[:-patience] or losses[:1], losses[-patience:]
    least = limits.catching_up if min(_losses(snapshots[-patience:], baseline)) > baseline else limits.falling
    if min(lately) < (1 - least) * min(before) and not snapshots[-1].spread <= limits.constant_output:
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
    # Of one sample the spread is NaN, and no reason to doubt. A loss that was 0 from the start is not low.
    reference, last = _reference(snapshots, baseline), snapshots[-1]
    return reference != 0 and not last.spread <= limits.constant_output and _loss(last, baseline) <= share * reference


def course_states(
    snapshots: Sequence[Snapshot],
    limits: Limits,
    patience: int,
    baseline: float,
    planned: float,
    is_linear: bool = False,
    error: float = 0.0,
) -> Iterator[State]:
    """Yield what the snapshots show of the loss: that it rises, swings, or stands at what a constant prediction costs.

    `snapshots` are those of the rhythm; `planned` are the steps of the fit, `is_linear` is whether its network has no activation, `error`
    what a loss may differ by on other samples. Further arguments as of `has_learned`.
    """
    risen = _risen(snapshots, limits)
    if risen:
        seen = f"For {limits.window} snapshots its loss has risen, to {risen:.0e} times the first"
        yield State("rising_loss", None, risen, limits.rising_loss, f"{seen}. {advice('rising_loss')}")
    sunk = _sunk(snapshots, limits)
    if sunk:
        seen = f"For {limits.window} snapshots its loss has fallen below 0 faster and faster, to {snapshots[-1].loss:.3g}"
        yield State("unbounded_loss", None, sunk, limits.unbounded_loss, f"{seen}. {advice('unbounded_loss')}", fatal=True)
    is_late = _is_late(snapshots, limits, patience, baseline, planned, error)
    if is_late:
        loss, logged = snapshots[-1].loss, logged_loss(snapshots[-1])
        if snapshots[-1].has_loss and logged < limits.training_loss_share * min(baseline, loss):
            seen = f"On the batches of fit the loss is {logged:.3g}, on the monitor's samples {loss:.3g}, and for a constant {baseline:.3g}"
            fix = advice("stalled_loss", "other data")
        else:
            taken = f"{limits.late_steps:.0%} of the planned steps are taken"
            paid = f", of which {snapshots[-1].penalty:.3g} are penalties" if snapshots[-1].penalty else ""
            seen = f"{taken}, and the loss is {loss:.3g}{paid}; a constant prediction costs {baseline:.3g}"
            fix = _move(snapshots, limits, baseline, is_linear)
        yield State("stalled_loss", None, loss / baseline, limits.late_loss, f"{seen}. {fix}", late=True)
    losses, reference = _losses(snapshots, baseline)[-limits.window :], _reference(snapshots, baseline)
    if len(snapshots) <= limits.window or any(map(math.isinf, losses)) or has_learned(snapshots, limits, baseline) or reference <= 0:
        return
    steps = [b - a for a, b in pairwise(losses)]
    turns = sum(a * b < 0 for a, b in pairwise(steps))
    swing = sum(map(abs, steps)) / len(steps) / reference
    if swing > limits.oscillating_loss and turns > (len(steps) - 1) / 2:
        seen = f"From snapshot to snapshot its loss swings by {swing:.0%} of what the best constant prediction costs"
        said = f"{seen}. Lower the learning rate, use larger batches, or {clip(snapshots[-1].clipped)}."
        yield State("oscillating_loss", None, swing, limits.oscillating_loss, said, can_be_critical=min(losses) >= reference)
    elif (
        not is_late
        and max(losses) - min(losses) <= limits.stalled_loss * reference
        and min(losses) >= (1 - limits.stalled_loss) * reference
    ):
        place = "where" if min(losses) <= (1 + limits.stalled_loss) * reference else "above where"
        seen = f"For {limits.window} snapshots its loss has stood {place} a constant prediction stands"
        said = f"{seen}. {_move(snapshots, limits, reference, is_linear)}"
        yield State("stalled_loss", None, min(losses) / reference, 1 - limits.stalled_loss, said, can_be_critical=False)


def _move(snapshots: Sequence[Snapshot], limits: Limits, reference: float, is_linear: bool) -> str:
    """Return what makes a loss move that stands: smaller steps where these go far, or have taken it above its first and a constant's.

    A network without activations asks for these first.

    The same where they have gone far before: kernels that have grown so much did so by too long steps.
    """
    is_worse = snapshots[-1].loss > (1 + limits.stalled_loss) * max(_losses(snapshots)[0], reference)
    goes_far = statistics.median([w.update_ratio for w in snapshots[-1].kernels] or [0.0]) > FAR
    first = {w.path: w.weight_norm for w in snapshots[0].kernels if w.weight_norm > 0}
    growth = [w.weight_norm / first[w.path] for w in snapshots[-1].kernels if w.path in first]
    has_grown = statistics.median(growth or [1.0]) > limits.grown_kernel
    return advice("stalled_loss", "worse" if is_worse or goes_far or has_grown else "linear" if is_linear else "")


def logged_loss(snapshot: Snapshot) -> float:
    """Return the mean of the loss over the batches of the last epoch; NaN where it is not known."""
    return next((each.value for each in snapshot.logged if each.name == "loss"), math.nan)


def _is_late(snapshots: Sequence[Snapshot], limits: Limits, patience: int, baseline: float, planned: float, error: float) -> bool:
    """Return True where the network has not begun to learn in most of the planned steps, and does not begin now."""
    if not (baseline > 0 and snapshots[-1].step >= max(limits.late_steps * planned, limits.lasting_steps)) or not stands(
        snapshots, limits, patience, baseline
    ):
        return False
    losses, lately = _losses(snapshots, baseline), limits.window // 2
    # A loss near that of a constant which is lower than ever before, however little, may leave a plateau: not one that falls ever less.
    is_lowest = min(losses[-lately:]) < min(losses[:-lately], default=math.inf)
    leaves = is_lowest and min(losses) <= (1 + limits.stalled_loss) * baseline and not _slows(losses, max(lately, len(losses) // 4))
    return len(snapshots) > patience + 1 and min(losses) > limits.late_loss * baseline + error and not leaves


def _slows(losses: Sequence[float], lately: int) -> bool:
    """Return True where the loss falls steadily, and over the `lately` last snapshots less than over as many before."""
    falls = [a - b for a, b in pairwise(losses[-2 * lately - 1 :])]
    return len(falls) == 2 * lately and min(falls) > 0 and sum(falls[lately:]) < sum(falls[:lately])


def _risen(snapshots: Sequence[Snapshot], limits: Limits) -> float:
    """Return how many times the first loss the last one is, if it has risen at each of the last `limits.window` snapshots; else 0."""
    losses = [snapshot.loss for snapshot in snapshots]
    first = next((loss for loss in losses if loss > 0), math.nan)
    rises = len(losses) > limits.window and all(b > a for a, b in pairwise(losses[-limits.window - 1 :]))
    return losses[-1] / first if rises and losses[-1] > limits.rising_loss * first else 0.0


def _sunk(snapshots: Sequence[Snapshot], limits: Limits) -> float:
    """Return how many times as far below 0 the last of `limits.window` losses is as the first, if each fall was longer; else 0.

    A loss that has a least value falls more slowly the nearer it is.
    """
    losses = [snapshot.loss for snapshot in snapshots[-limits.window - 1 :]]
    falls = [a - b for a, b in pairwise(losses)]
    if len(losses) <= limits.window or not max(losses[1:]) < 0 or not falls[0] > 0 or not all(b > a for a, b in pairwise(falls)):
        return 0.0
    return losses[-1] / losses[1] if losses[-1] < limits.unbounded_loss * losses[1] else 0.0


def _reference(snapshots: Sequence[Snapshot], baseline: float) -> float:
    return _losses(snapshots)[0] if math.isnan(baseline) else baseline


def _losses(snapshots: Sequence[Snapshot], baseline: float = math.nan) -> list[float]:
    losses = [_loss(snapshot, baseline) for snapshot in snapshots]
    return [loss if math.isfinite(loss) else math.inf for loss in losses]


def _loss(snapshot: Snapshot, baseline: float) -> float:
    """Return the loss, without penalties where it is compared with what a constant prediction costs, which pays none."""
    return snapshot.loss if math.isnan(baseline) else snapshot.loss_on_data
