"""Whether the gradient gets through the time steps of recurrent layers, neither lost nor overgrown."""

from collections.abc import Iterator, Sequence

from keras_ext.callbacks.monitor.finding import State
from keras_ext.callbacks.monitor.limits import Limits
from keras_ext.callbacks.monitor.rules.first_weights import is_closed
from keras_ext.callbacks.monitor.rules.loss_course import stands
from keras_ext.callbacks.monitor.snapshot import Recurrent, Snapshot
from keras_ext.remedies.advice import advice


def through_time_states(snapshots: Sequence[Snapshot], limits: Limits, patience: int, baseline: float) -> Iterator[State]:
    """Yield each recurrent layer whose gradient is lost or overgrown at the first time steps, while the loss stands.

    `snapshots` are those of the rhythm; further arguments as of `stands`. What comes from the first steps may not matter, and then the
    network learns (Bengio et al. 1994; Pascanu et al. 2013 on both symptoms). A gradient that reaches farther from snapshot to snapshot is
    no symptom, unless the gate that keeps the state was closed at first.
    """
    if not stands(snapshots, limits, patience, baseline):
        return
    closed = {a.layer for a in snapshots[0].activations if is_closed(a, limits)}
    is_early = len(snapshots) <= limits.window
    long_ago = {r.layer: r for r in snapshots[0 if is_early else -limits.window].recurrent}
    for r in snapshots[-1].recurrent:
        reach = r.reach(limits.vanishing_ratio)
        # In a few snapshots only a gradient that is exactly zero is none.
        gains = (is_early and r.ratio > 0.0) or r.layer not in long_ago
        gains = gains or reach > limits.time_gain * long_ago[r.layer].reach(limits.vanishing_ratio)
        if r.ratio < limits.vanishing_ratio and reach < limits.time_reach * r.steps and (r.layer in closed or not gains):
            seen = f"Its gradient reaches the last {reach} of {r.steps} time steps, and is {r.ratio:.0e} of the largest at the first"
            said = f"{seen}. {advice('vanishing_through_time')}"
            yield State("vanishing_through_time", r.layer, r.ratio, limits.vanishing_ratio, said, quiet=True)
        growth = _growth(r)
        if growth > 1 / limits.vanishing_ratio and r.norms[0] > limits.exploding_gradient:
            seen = f"Its gradient grows {growth:.0e} times from the last of {r.steps} time steps to the first"
            said = f"{seen}. {advice('exploding_through_time')}"
            yield State("exploding_through_time", r.layer, growth, 1 / limits.vanishing_ratio, said, quiet=True)


def _growth(r: Recurrent) -> float:
    return r.norms[0] / r.norms[-1] if r.norms and r.norms[-1] > 0 else 0.0
