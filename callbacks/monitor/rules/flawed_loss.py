"""Losses of a user's own that cannot be what was meant."""

from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.own_loss import INDIFFERENT, REVERSED, UNPAIRED
from keras_ext.callbacks.monitor.probe.targets import Aim
from keras_ext.callbacks.monitor.probe.training import Training
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.remedies.advice import advice


def flaw_states(snapshot: Snapshot, aims: Sequence[Aim | None], limits: Limits, training: Training) -> Iterator[State]:
    """Yield the flaws of the losses that are not Keras's; `own_loss.loss_flaws` says what they are."""
    for flaw in training.flaws:
        which = f" of {flaw.name!r}" if flaw.name else ""
        if flaw.kind == UNPAIRED:
            aim, output = aims[flaw.output] if flaw.output < len(aims) else None, snapshot.outputs[flaw.output]
            share = output.deviation / aim.deviation if aim is not None and aim.deviation > 0 else 1.0
            seen = f"The loss{which} stays the same when the targets are shuffled"
            # One that compares distributions does so on purpose, and its predictions differ from sample to sample.
            has_gradient = any(w.gradient_norm > 0 for w in snapshot.kernels)
            is_flat = snapshot.is_regular and share < limits.unpaired_predictions and has_gradient
            said = f"{seen}. {advice('flawed_loss', UNPAIRED)}"
            yield State(
                "flawed_loss", None, share, limits.unpaired_predictions, said, can_be_critical=is_flat, ignores_loss=True, root=True
            )
            continue
        costs = f"{flaw.right:.3g} for right predictions{which}, {flaw.undecided:.3g} for undecided and {flaw.wrong:.3g} for wrong ones"
        is_reversed = flaw.kind == REVERSED
        said = f"The loss is {costs}. {advice('flawed_loss', REVERSED if is_reversed else INDIFFERENT)}"
        yield State("flawed_loss", None, flaw.right, flaw.wrong, said, fatal=is_reversed, ignores_loss=True, root=True)
