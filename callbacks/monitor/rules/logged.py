"""Rules on the losses that a `train_step` of a model's own logs."""

import math
import re
from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.snapshot import Logged, Snapshot
from keras_ext.remedies.advice import advice

# The names of a discriminator's losses and of a generator's.
_SIDES = re.compile(r"(^|[_/])(disc|critic|d([_/]|$))"), re.compile(r"(^|[_/])(gen|g([_/]|$))")


def logged_states(snapshots: Sequence[Snapshot], limits: Limits) -> Iterator[State]:
    """Yield a latent that says nothing of the input, and a network of two that has won; `snapshots` are those of the rhythm."""
    logged = () if snapshots[-1].has_loss else snapshots[-1].logged
    for loss in logged:
        if "kl" in loss.name.lower().split("_") and loss.value < limits.collapsed_latent:
            seen = f"{loss.name} is {loss.value:.1e}: the latent has collapsed onto the prior, and says nothing of the input"
            said = f"{seen}. {advice('constant_output', 'latent')}"
            yield State("constant_output", None, loss.value, limits.collapsed_latent, said, ignores_loss=True)
    first = next((s.logged for s in snapshots if s.logged), ())
    if _are_allies(first, logged, limits):
        seen = f"{' and '.join(f'{loss.name} ({loss.value:.1e})' for loss in logged)} are both almost gone, and should compete"
        fix = "Let the generator's loss take the opposite labels for the samples that it makes"
        yield State(
            "one_sided_losses", None, max(loss.value for loss in logged), limits.one_sided_both, f"{seen}. {fix}.", ignores_loss=True
        )
    won = _won(first, logged, limits)
    if won is not None:
        winner, loser, share = won
        seen = f"{winner.name} has fallen to {winner.value:.1e} while {loser.name} has risen to {loser.value:.3g}"
        fix = f"Lower the learning rate of the network behind {winner.name}, raise the other's, or smooth its labels"
        said = f"{seen}: one network has won, and the other gets no gradient. {fix}."
        yield State("one_sided_losses", None, share, limits.one_sided_loss, said, ignores_loss=True)


def _are_allies(first: Sequence[Logged], now: Sequence[Logged], limits: Limits) -> bool:
    """Return True where a discriminator's loss and a generator's, by their names, have both fallen to almost nothing."""
    sides = [next((i for i, names in enumerate(_SIDES) if names.search(loss.name.lower())), len(_SIDES)) for loss in now]
    began = {loss.name: loss.value for loss in first}
    return sorted(sides) == [0, 1] and all(0 <= loss.value < min(limits.one_sided_both, 0.1 * began.get(loss.name, 0.0)) for loss in now)


def _won(first: Sequence[Logged], now: Sequence[Logged], limits: Limits) -> tuple[Logged, Logged, float] | None:
    """Return the loss that is almost none of both together, and the other, which has risen; None where a total is logged."""
    losses = [loss for loss in now if loss.name.endswith("loss")]
    if len(losses) != 2 or any(loss.name == "loss" for loss in losses) or not all(math.isfinite(loss.value) for loss in losses):
        return None
    winner, loser = sorted(losses, key=lambda loss: loss.value)
    began = next((loss.value for loss in first if loss.name == loser.name), math.inf)
    share = winner.value / loser.value if loser.value > 0 else 1.0
    return (winner, loser, share) if 0 <= share < limits.one_sided_loss and loser.value > began else None
