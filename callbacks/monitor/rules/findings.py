"""From snapshots to findings: which symptom lasts, and what goes into the logs. Pure: numbers and limits in, frozen records out."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from keras_ext.callbacks.monitor.finding import Finding, State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import Aim, baseline
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.rules.flawed_loss import flaw_states
from keras_ext.callbacks.monitor.rules.logged import logged_states
from keras_ext.callbacks.monitor.rules.loss_course import course_states, has_learned, is_below, learning
from keras_ext.callbacks.monitor.rules.memorization import memorization_states
from keras_ext.callbacks.monitor.rules.sampling_error import sampling_error
from keras_ext.callbacks.monitor.rules.settings import pressed_states, setting_states, step_states
from keras_ext.callbacks.monitor.rules.sorted_samples import order_states
from keras_ext.callbacks.monitor.rules.stale_statistics import mode_states
from keras_ext.callbacks.monitor.rules.symptoms import states
from keras_ext.callbacks.monitor.rules.through_time import through_time_states
from keras_ext.callbacks.monitor.snapshot import Snapshot, layer_states

# What follows from a symptom elsewhere: where a layer's own symptom, or an output that its loss cannot use, is named, these stay warnings.
_CONSEQUENCES = ("vanishing_gradient", "zero_gradient", "constant_output", "unchanged_weights", "oscillating_loss")
# Of a part of a layer; the rest may serve.
_PARTIAL = ("saturated", "dead_relu")
_OF_THE_OUTPUT = ("output_mismatch",)
# What has happened, though it does not last: an explosion may come again.
_EVENTS = ("exploding_gradient", "exploding_activation", "exploding_weight", "exploding_through_time", "non_finite")
# What follows from steps that lead nowhere; beside anything else they are short because the gradient is.
_OF_A_SMALL_STEP = ("constant_output", "unchanged_weights", "vanishing_through_time")
_OF_THE_SETTINGS = ("frozen", "heavy_dropout", "strong_decay", "small_step", "sorted_samples")
# What errors as large as targets of a large scale do to a network.
_OF_LARGE_ERRORS = (
    "saturated", "dead_relu", "exploding_gradient", "exploding_activation", "exploding_weight", "constant_output", "oscillating_loss",
    "non_finite",
)  # fmt: skip
# What is no symptom once the network has learned, as gradients end at a minimum, nor if it passes until the next snapshot.
_OF_LEARNING = ("vanishing_gradient", "zero_gradient")


def examine(
    snapshots: Sequence[Snapshot], limits: Limits, known: Sequence[Finding] = (), patience: int = 2, aims: Sequence[Aim | None] = (),
    training: Training | None = None,
) -> list[Finding]:  # fmt: skip
    """Return what the last snapshot adds to the `known` findings.

    A state that a rule sees is a warning, unless it is `quiet`. It is critical once it has lasted for `patience` regular snapshots in which
    the network did not learn, and for as many steps as `limits.lasting_steps` and `limits.lasting_share` ask for; or for `limits.slow`
    times as many since the first snapshot in which it learned too little; an output that its loss cannot use, and statistics that
    inference will use, even while the loss falls. Of several those are critical that the others may follow from: those of layers with poor
    first weights and of a wrong setting or scale, else what was there before the first step, else a layer's own state and such an output.
    Values that are not finite, and a network of which nothing can train, are critical at once, with the poor first weights that they may
    come from.
    """
    last = snapshots[-1]
    training = training or Training()
    states_of = partial(_states, limits=limits, aims=aims, training=training, patience=patience)
    now = states_of(snapshots)
    critical = [state for state in now if state.fatal]
    if critical:
        critical += _poor(states_of(snapshots[:1]))
    elif last.is_regular:
        critical += _roots(*_lasting(snapshots, now, states_of, limits, patience, baseline(aims), training.planned))
    reported = {(f.symptom, f.layer, f.severity) for f in known}
    target = next((s for s in now if s.symptom == "unscaled_target"), None)
    new = []
    for state in [*(s for s in critical if s not in now), *now]:
        severity = "critical" if state in critical else "warning"
        if severity == "warning" and state.quiet:
            continue
        if state.symptom == "non_finite" and any(f.symptom == "non_finite" for f in known):
            continue  # it spreads, and where it began is known
        if (state.symptom, state.layer, severity) in reported or (state.symptom, state.layer, "critical") in reported:
            continue
        reported.add((state.symptom, state.layer, severity))
        advice = state.advice
        before = next((f for f in known if (f.symptom, f.layer) == (state.symptom, state.layer)), None)
        if severity == "critical" and target is not None and state.symptom in _OF_LARGE_ERRORS:
            # What targets of a large scale drive out of range: that is fixed first.
            scale = f"The root mean square of the targets is {target.value:.3g}, and so are the first errors"
            advice = f"{scale}: scale them to unit variance first. {advice}"
        if severity == "critical" and before is not None:
            advice += f" First seen {f'after step {before.step}' if before.step else 'before the first step'}."
        new.append(Finding(state.symptom, severity, state.layer, last.step, last.epoch, state.value, state.limit, advice))
    return new


def passed(
    snapshots: Sequence[Snapshot], limits: Limits, known: Sequence[Finding], patience: int = 2, aims: Sequence[Aim | None] = (),
    training: Training | None = None,
) -> list[Finding]:  # fmt: skip
    """Return those of the warnings in `known` whose symptom the last snapshot no longer has, while the network learns."""
    regular = [snapshot for snapshot in snapshots if snapshot.is_regular]
    if not snapshots[-1].is_regular or not snapshots[-1].finite or len(regular) <= patience:
        return []
    critical = {(f.symptom, f.layer) for f in known if f.severity == "critical"}
    warnings = [f for f in known if f.severity == "warning" and f.symptom not in _EVENTS and (f.symptom, f.layer) not in critical]
    # Most snapshots have none, and their states need not be found again.
    if not warnings or not learning(regular, limits, patience, baseline(aims)):
        return []
    now = {(s.symptom, s.layer) for s in _states(snapshots, limits, aims, training or Training(), patience)}
    return [f for f in warnings if (f.symptom, f.layer) not in now]


def _states(snapshots: Sequence[Snapshot], limits: Limits, aims: Sequence[Aim | None], training: Training, patience: int) -> list[State]:
    cost = baseline(aims)
    before = snapshots[-2] if len(snapshots) > 1 else None
    found = [*setting_states(training, limits, cost), *flaw_states(snapshots[-1], aims, limits, training)]
    found += [*states(snapshots[-1], limits, aims, snapshots[0], before, training.broken, training.placeholder)]
    if snapshots[-1].is_regular and snapshots[-1].finite:
        regular = [snapshot for snapshot in snapshots if snapshot.is_regular]
        error = sampling_error(snapshots[-1], aims, training.samples)
        found += course_states(regular, limits, patience, cost, training.planned, training.is_linear, error)
        found += logged_states(regular, limits)
        found += mode_states(snapshots[-1], limits, training, cost)
        found += memorization_states(regular, limits, training, cost)
        found += pressed_states(snapshots, limits, training, cost)
        found += order_states(regular, aims, limits, patience, cost, training.is_dataset)
        found += through_time_states(regular, limits, patience, cost)
        found += step_states(snapshots, limits, training, cost, patience, error)
    if any(s.symptom == "constant_output" for s in found):
        # It stands where a constant prediction stands, and its own advice is another.
        found = [s for s in found if s.symptom != "stalled_loss" or s.can_be_critical]
    if has_learned(snapshots, limits, cost):
        passing = set(_OF_LEARNING)
    elif len(snapshots) > 1:
        # A step from a sure and wrong softmax has no gradient either.
        passing = set(_OF_LEARNING) - {s.symptom for s in states(snapshots[-2], limits)}
    else:
        passing = set()
    return [s for s in found if s.symptom not in passing]


def _lasting(
    snapshots: Sequence[Snapshot], now: Sequence[State], states_of: Callable[..., list[State]], limits: Limits, patience: int, cost: float,
    planned: float,
) -> tuple[list[State], list[State]]:  # fmt: skip
    """Return those of the states that have lasted while the network did not learn, and all that were there at the first snapshot."""
    regular = [snapshot for snapshot in snapshots if snapshot.is_regular]
    span = _span(regular, limits, patience, planned)
    if span is None:
        return [], []
    first = states_of(regular[:1])

    def in_each_of(span: int, *more: list[State]) -> list[State]:
        """Return the states of now that were there in each of the last `span` snapshots, and in `more`."""
        seen = [*more, *(states_of(regular[:-back]) for back in range(1, span))]
        names = [{(s.symptom, s.layer) for s in each} for each in seen]
        return [s for s in now if s.can_be_critical and all((s.symptom, s.layer) in each for each in names)]

    lasting = in_each_of(span)
    lasting += [s for s in now if s.late and s.ignores_loss and s not in lasting]
    lasts = {s.symptom for s in lasting}
    if math.isnan(cost) and "constant_output" in lasts:
        # The first loss, which stands for the unknown cost, is no measure where the predictions have come to be the same for every input.
        cost = -math.inf
    learned = has_learned(regular, limits, cost)
    if math.isnan(cost) and (_poor(first) or (regular[-1].loss < 0 and lasts & {*_OF_THE_OUTPUT})):
        # Nor where first weights are poor, or no loss can be below 0.
        learned = False
    if learned:
        return [s for s in lasting if s.ignores_loss], first
    if math.isnan(regular[-1].loss):
        # Whether it learns is not known: of two networks against each other no loss need fall.
        return [s for s in lasting if s.ignores_loss], first
    if learning(regular, limits, span, cost):
        # A loss that cannot use the output falls, and means nothing.
        slow = any(s.symptom == "small_step" for s in lasting)
        lasting = [s for s in lasting if s.ignores_loss or s.symptom in (*_OF_THE_OUTPUT, "small_step") or (slow and s.needs_others)]
        long = max(limits.slow * patience, span)
        if len(regular) > long:
            lasting += [s for s in in_each_of(long, first) if s not in lasting]
    if is_below(limits.begun, regular, limits, cost):
        lasting = [s for s in lasting if s.symptom not in _PARTIAL or s.value >= limits.severe]
    if any(s.symptom not in (*_OF_A_SMALL_STEP, "small_step") and not s.needs_others for s in lasting):
        lasting = [s for s in lasting if s.symptom != "small_step"]
    scales = [s for s in lasting if s.needs_others]
    if scales and {s.symptom for s in lasting if not s.needs_others} == {"small_step"}:
        # What is of another scale falls slowly: a longer step is no fix.
        return scales, first
    late = [s for s in now if s.late]
    if late and all(s.needs_others for s in lasting):
        causes = [s for s in [*_poor(first), *now] if s.needs_others or s.symptom == "sorted_samples"]
        return causes or late, first
    if all(s.needs_others for s in lasting):
        # Poor first weights or inputs of another scale alone may only take time; where something else lasts, it follows from them.
        return [], first
    return [*(s for s in _poor(first) if s not in lasting), *lasting], first


def _span(regular: Sequence[Snapshot], limits: Limits, patience: int, planned: float) -> int | None:
    """Return over how many of the rhythm's snapshots a state must last: `patience`, and more where these are few steps; None for too few.

    Of a small data set two epochs are ten steps, in which no network learns.
    """
    steps = 0.0 if math.isnan(planned) else max(min(limits.lasting_steps, planned / 2), limits.lasting_share * planned)
    for span in range(patience, len(regular)):
        if regular[-1].step - regular[-1 - span].step >= steps:
            return span
    return None


def _poor(states: Sequence[State]) -> list[State]:
    return [s for s in states if s.symptom == "poor_initialization"]


def _roots(lasting: Sequence[State], first: Sequence[State]) -> list[State]:
    """Return those of the lasting states that the others may follow from; `first` are the states before the first step."""
    if any(s.root for s in lasting):
        return [s for s in lasting if s.root]
    born = {(s.symptom, s.layer) for s in first}
    own = [s for s in lasting if s.symptom not in _CONSEQUENCES]
    poor = {s.layer for s in _poor(own)}
    if poor:
        return [s for s in own if s.layer in poor or s.needs_others or s.symptom in _OF_THE_SETTINGS]
    return [s for s in own if (s.symptom, s.layer) in born] or own or list(lasting)


def worst(snapshots: Sequence[Snapshot]) -> dict[str, float]:
    """Return the numbers of the last snapshot and the worst of all snapshots, under the keys that go into `logs`.

    A snapshot that is not finite counts as the worst there is, so that no objective takes it for a good one.
    """
    seen = [_log_numbers(snapshot) for snapshot in snapshots]
    logs = {}
    for key, worst_of in (("saturation", max), ("dead", max), ("gradient_ratio", min)):
        logs[key], logs[f"{key}_worst"] = seen[-1][key], worst_of(numbers[key] for numbers in seen)
    return logs


def _log_numbers(snapshot: Snapshot) -> dict[str, float]:
    if not snapshot.finite:
        return {"saturation": 1.0, "dead": 1.0, "gradient_ratio": 0.0}
    saturation, dead = (max((getattr(a, field) for a in snapshot.hidden), default=0.0) for field in ("saturated", "dead"))
    return {"saturation": saturation, "dead": dead, "gradient_ratio": snapshot.gradient_ratio}


def by_layer(snapshot: Snapshot) -> dict[str, float]:
    """Return the saturation of each layer that can saturate, and the dead share of each that can die, as keys for `logs`."""
    return {
        f"{key}/{state.layer}": share if snapshot.finite else 1.0
        for state in layer_states(snapshot)
        if state.counts
        for key, share in (("saturation", state.saturated), ("dead", state.dead))
        if not math.isnan(share)
    }
