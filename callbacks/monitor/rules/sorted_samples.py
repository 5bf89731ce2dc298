"""Whether the samples come in an order that a network can learn from."""

from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.probe.targets import Aim
from keras_ext.callbacks.monitor.rules.loss_course import logged_loss, stands
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.remedies.advice import advice


def order_states(
    snapshots: Sequence[Snapshot], aims: Sequence[Aim | None], limits: Limits, patience: int, baseline: float, is_dataset: bool = False
) -> Iterator[State]:
    """Yield that batches are of one class each: the samples are sorted, and the network does not learn.

    `snapshots` are those of the rhythm; further arguments as of `stands`. Of arrays it is not known whether `fit` shuffles them. If it
    does, the loss in training and that of the probe are about alike; where the first is far lower, it does not. A dataset, for which
    `is_dataset` stands, comes in the order in which it was read.
    """
    last = snapshots[-1]
    in_runs = max((aim.in_runs for aim in aims if aim is not None and aim.in_runs > limits.sorted_samples), default=None)
    if in_runs is None or not last.has_loss or not stands(snapshots, limits, patience, baseline):
        return
    logged = logged_loss(last)
    # A loss that swings is by chance lower than the next: of sorted samples it is lower in each epoch.
    if is_dataset or all(logged_loss(s) < limits.training_loss_share * s.loss for s in snapshots[-patience:]):
        seen = (
            f"The samples are sorted by class. In the last epoch the loss was {logged:.3g} on the batches, and then {last.loss:.3g} on all"
        )
        said = f"{seen}. Each batch has one class, and the last one is what the network remembers. {advice('sorted_samples')}"
        yield State("sorted_samples", None, in_runs, limits.sorted_samples, said, quiet=True)
    elif len(snapshots) > limits.slow * patience:
        said = f"The samples are sorted by class. If fit does not shuffle them, each batch has one class. {advice('sorted_samples')}"
        yield State("sorted_samples", None, in_runs, limits.sorted_samples, said, can_be_critical=False)
