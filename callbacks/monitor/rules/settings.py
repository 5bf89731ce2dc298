"""Whether what a training is set to lets it learn: what may change, what drops out, and how far a step goes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.training import Step, Training
from keras_ext.callbacks.monitor.rules.loss_course import stands
from keras_ext.callbacks.monitor.rules.stale_statistics import forgetting_momentum
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.remedies.advice import advice

# So many names are enough to find the line that froze them.
_MOST_NAMES = 3


def setting_states(training: Training, limits: Limits, baseline: float = math.nan) -> Iterator[State]:
    """Yield what of the settings alone can keep a network from learning: frozen layers, dropout, weight decay, samples all alike.

    `baseline` is what the best constant prediction costs.
    """
    if training.is_same:
        said = f"All samples of the monitor have the same inputs. {advice('constant_output', 'same inputs')}"
        yield State("constant_output", None, 0.0, 0.0, said, root=True)
    if training.leak:
        yield State("target_leakage", None, 1.0, 1.0, advice("target_leakage", training.leak), fatal=True)
    names = ", ".join(f'"{name}"' for name in training.frozen[:_MOST_NAMES])
    more = len(training.frozen) - _MOST_NAMES
    names += f" and {more} more" if more > 0 else ""
    if not training.can_train:
        seen = f"No weight can change: {names} {_are(training)} frozen"
        fix = "Set trainable=True on the layers that must learn, and compile again."
        yield State("frozen", None, 1.0, 1.0, f"{seen}. {fix}", fatal=True)
    elif training.frozen:
        seen = f"{names} {_are(training)} frozen with first weights, so that only random features reach the layers that learn"
        fix = "Set trainable=True and compile again, or load weights that were trained."
        yield State("frozen", training.frozen[0], 1.0, 1.0, f"{seen}. {fix}")
    for layer, rate in training.dropping:
        if layer in training.dropping_outputs:
            seen = f"It drops {rate:.3g} of the predictions themselves, and no layer behind it makes up for that"
            state = State("heavy_dropout", layer, rate, limits.output_dropout, f"{seen}. {advice('heavy_dropout', 'output')}")
            yield replace(state, can_be_critical=rate >= limits.output_dropout, ignores_loss=True)
        elif rate >= limits.heavy_dropout:
            noise = f", so that noise is {rate / (1 - rate):.3g} times as strong as its signal" if rate < 1 else ""
            yield State(
                "heavy_dropout", layer, rate, limits.heavy_dropout, f"It drops {rate:.3g} of its inputs{noise}. Set it to .5 or less."
            )
    updates = training.planned / training.step.accumulation
    if updates < limits.few_updates:
        seen = f"gradient_accumulation_steps={training.step.accumulation:.0f} leaves {int(updates)} updates in the planned steps"
        yield State(
            "small_step", None, updates, limits.few_updates, f"{seen}. {advice('small_step', 'accumulation')}", quiet=True, root=True
        )
    left = training.step.last_average ** (training.planned / max(1.0, training.step.accumulation))
    if left > limits.stale_statistics:
        seen = f"fit ends with the average of all steps, of which {left:.0%} will be the first weights"
        fix = f"Set ema_momentum ({training.step.last_average:.6g}) to {forgetting_momentum(training.planned):g}"
        said = f"{seen}. {fix}, or train longer."
        yield State("small_step", None, left, limits.stale_statistics, said, quiet=True, ignores_loss=True, root=True)
    share = 0.0
    outputs, weights = ("what layers put out", "activity", training.penalty_on_outputs), ("the weights", "penalty", training.penalty)
    for of, where, penalty in (outputs, weights):
        share = penalty / baseline if baseline > 0 else 0.0
        if share > limits.penalty_share:
            seen = f"The first penalties on {of} are {penalty:.3g}, and a constant prediction costs {baseline:.3g}"
            yield State("strong_decay", None, share, limits.penalty_share, f"{seen}. {advice('strong_decay', where)}", root=True)
    if share > limits.penalty_share:
        return
    decay = training.step.rate * training.step.weight_decay
    if decay > limits.strong_decay:
        seen = f"Each step takes {decay:.3g} of every weight away, the product of learning_rate and weight_decay"
        fix = f"Set weight_decay to {limits.strong_decay / 100 / training.step.rate:.1g} or less."
        yield State("strong_decay", None, decay, limits.strong_decay, f"{seen}. {fix}", root=True)


def pressed_states(snapshots: Sequence[Snapshot], limits: Limits, training: Training, baseline: float = math.nan) -> Iterator[State]:
    """Yield each kernel that its own regularizer or constraint has pressed to almost nothing of what it was at first.

    `baseline` is what the best constant prediction costs.
    """
    by = {path: (kind, name) for path, kind, name in training.pressing}
    first = {w.path: w.weight_norm for w in snapshots[0].kernels if w.path in by and w.weight_norm > 0}
    shares = {w.path: w.weight_norm / first[w.path] for w in snapshots[-1].kernels if w.path in first}
    pressed = [w for w in snapshots[-1].kernels if shares.get(w.path, math.inf) < limits.pressed_kernel]
    # Penalties can fall while nothing is learned. A constraint holds a critic's weights small on purpose, whose loss knows no constant.
    has_not_learned = snapshots[-1].loss_on_data > limits.learned * baseline
    most = 2 * sum(by[w.path][0] == "regularizer" for w in pressed) > len(snapshots[-1].kernels)
    most |= has_not_learned and 2 * len(pressed) >= len(by)
    for w in pressed:
        seen = f"Its kernel has {shares[w.path]:.1g} of its first norm, pressed by its {by[w.path][1]}"
        said = f"{seen}. {advice('strong_decay', 'pressed')}"
        yield State("strong_decay", w.layer, shares[w.path], limits.pressed_kernel, said, ignores_loss=most)


def step_states(
    snapshots: Sequence[Snapshot], limits: Limits, training: Training, baseline: float, patience: int, error: float = 0.0
) -> Iterator[State]:
    """Yield a step that is too small: the loss stands, there is a gradient, and no kernel will go far in the training that is planned.

    `error` is what a loss may differ by on other samples.
    """
    last, step = snapshots[-1], training.step
    # Biases of two axes, and what starts at zero, go far of their own length at once.
    zero = {w.path for w in snapshots[0].weights if w.weight_norm == 0.0}
    kernels = [w for w in last.kernels if w.path not in zero and not w.path.endswith("bias")]
    longest = max(kernels, key=lambda w: w.gradient_norm, default=None)
    gradient = math.inf if longest is None else longest.gradient_norm
    end = _loss_at_the_end([s for s in snapshots if s.is_regular], limits, training.planned, baseline)
    if end > baseline + error:
        seen = f"Its loss falls so slowly that it will be {end:.3g} after the planned steps, and a constant prediction costs {baseline:.3g}"
        yield State("small_step", None, end, baseline, f"{seen}. {_cure(step, gradient)}", quiet=True)
        return
    if len(snapshots) < 2 or longest is None or not longest.gradient_norm >= limits.vanishing_norm:
        return
    taken = last.step - snapshots[-2].step
    furthest = max((w.update_ratio for w in kernels), default=math.nan)
    planned = training.planned if math.isfinite(training.planned) else last.step
    # In a few steps no rate goes far.
    way = furthest / taken * max(planned, last.step, limits.lasting_steps) if taken > 0 else math.nan
    if not way < limits.small_step or not stands([s for s in snapshots if s.is_regular], limits, patience, baseline):
        return
    seen = f"The kernel that moves most goes {way:.1g} of its own length in the steps that are planned, and the loss stands"
    yield State("small_step", None, way, limits.small_step, f"{seen}. {_cure(step, gradient)}", quiet=True)


def _loss_at_the_end(regular: Sequence[Snapshot], limits: Limits, planned: float, baseline: float) -> float:
    """Return where a loss that has always been above a constant prediction's, and falls steadily, will be; NaN for any other.

    At the earliest after half of the planned steps. What falls faster and faster gets there sooner, and is no such loss.
    """
    losses = [s.loss_on_data for s in regular]
    if len(regular) <= limits.trend or not regular[-1].step >= planned / 2 or not min(losses) > baseline:
        return math.nan
    falls = [a - b for a, b in pairwise(losses[-limits.trend :])]
    if min(falls) <= 0 or falls[-1] > falls[0]:
        return math.nan
    return losses[-1] - falls[-1] * (planned - regular[-1].step) / max(regular[-1].step - regular[-2].step, 1)


def _cure(step: Step, gradient: float) -> str:
    if math.isfinite(step.average):
        return (
            f"use_ema writes an average over the weights that hardly moves: set ema_momentum ({step.average:.5g}) to .99, or leave it out."
        )
    if math.isfinite(gradient) and step.epsilon > gradient:
        return f"The optimizer's epsilon ({step.epsilon:.3g}) is larger than its gradients: set it to 1e-7."
    if math.isfinite(gradient) and step.threshold < gradient / 10:
        return f"{step.clipping}={step.threshold:.3g} cuts its gradients (norm {gradient:.1g}) to nothing: set it to 1, or leave it out."
    rate = f" ({step.rate:.3g}{' now' if step.schedule else ''})" if math.isfinite(step.rate) else ""
    raised = f"the rates of {step.schedule}" if step.schedule else "learning_rate"
    return f"Raise {raised}{rate}: {advice('small_step')}"


def _are(training: Training) -> str:
    return "are" if len(training.frozen) > 1 else "is"
