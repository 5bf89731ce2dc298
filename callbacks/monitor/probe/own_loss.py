"""Whether a loss that a user wrote compares each prediction with its own target, and falls as predictions get better."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext.callbacks.monitor.probe.targets import in_order_of_outputs, is_own, losses_of
from keras_ext.callbacks.monitor.probe.untouched import as_fit_does, as_float, untouched
from keras_ext.callbacks.monitor.snapshot import Snapshot

REVERSED, INDIFFERENT, UNPAIRED = "reversed", "indifferent", "unpaired"
# Activations whose outputs are probabilities: what is right and wrong is known of them.
_PROBABILITIES = ("sigmoid", "softmax")
# Predictions are this far from 0 and 1, whose logarithms may be infinite.
_MARGIN = 1e-3
# What changes by less than this share is rounding, or counts for nothing beside what else the loss does.
_ROUNDING, _NOTHING = 1e-5, 0.01
# What is summed up to a smaller loss than this is rounded as one of it.
_SMALL = 0.1
# Predictions that are this share of their way from the targets are nearly right.
_NEAR = 0.1
_LEAST_SAMPLES = 8


@dataclass(frozen=True)
class LossFlaw:
    """The flaw of the loss of one output: its kind, and what right, undecided and wrong predictions cost; NaN where that is not asked.

    `output` is its place, `name` its layer's name, empty where there is one output alone.
    """

    output: int
    name: str
    kind: str
    right: float = np.nan
    undecided: float = np.nan
    wrong: float = np.nan


def loss_flaws(model: Any, data: tuple[Any, Any, Any], snapshot: Snapshot) -> tuple[LossFlaw, ...]:
    """Return the flaws of the losses that are not Keras's, found by what made-up predictions cost.

    A reversed loss costs less for wrong probabilities than for right ones. An indifferent one costs about the same for both. One that is
    unpaired costs the same when the targets are shuffled, though not when they change: it compares each prediction with all targets.
    """
    with contextlib.suppress(Exception):  # a monitor must not end a training
        return tuple(_flaws(model, data, snapshot))
    return ()


def _flaws(model: Any, data: tuple[Any, Any, Any], snapshot: Snapshot) -> Iterator[LossFlaw]:
    if data[1] is None or type(model).compute_loss is not keras.Model.compute_loss or not snapshot.has_loss:
        return
    targets = [np.asarray(a) for a in tree.flatten(in_order_of_outputs(model, data[1]))]
    losses = losses_of(model, len(targets))
    if not len(targets) == len(losses) == len(snapshot.outputs) or len(targets[0]) < _LEAST_SAMPLES:
        return
    ends = [a.kind for a in snapshot.activations if a.is_output]
    ends = ends if len(ends) == len(targets) else [""] * len(targets)
    names = model.output_names if isinstance(data[1], dict) else ()
    for i, (target, loss, end, output) in enumerate(zip(targets, losses, ends, snapshot.outputs, strict=True)):
        is_alike = _predicted(target, output.units) in (target.shape, (*target.shape, 1))
        if is_own(loss) and is_alike and target.dtype.kind in "biuf" and np.isfinite(target).all():
            cost = _Cost(model, targets, i, [o.units for o in snapshot.outputs], names)
            name = model.output_names[i] if len(targets) > 1 else ""
            yield from (LossFlaw(i, name, *flaw) for flaw in [_sense(cost, end) or _pairing(cost)] if flaw is not None)


def _predicted(target: np.ndarray, units: int) -> tuple[int, ...]:
    """Return the shape of predictions of so many units for targets: theirs, or with a unit for each class."""
    if target.ndim > 1 and target.shape[-1] in (units, 1):
        return (*target.shape[:-1], units)
    return (*target.shape, units)


class _Cost:
    """The loss of a model by made-up predictions of one output, and by its targets; those of other outputs stay as they are."""

    def __init__(self, model: Any, targets: list[np.ndarray], place: int, units: list[int], names: Sequence[str]) -> None:
        self._model, self._targets, self._place, self._names = model, targets, place, names
        self._made = [np.full(_predicted(t, u), 1 / u, "float32") for t, u in zip(targets, units, strict=True)]
        self.y = targets[place].astype("float32").reshape(self._made[place].shape)

    def __call__(self, predictions: np.ndarray, y: np.ndarray | None = None) -> float:
        old = self._targets[self._place]
        targets = self._with(self._targets, old if y is None else y.reshape(old.shape).astype(old.dtype))
        with untouched(self._model):
            # Penalties on the weights are in all costs alike.
            loss = self._model.compute_loss(y=targets, y_pred=self._with(self._made, predictions), training=True)
        return as_float(loss)

    def _with(self, arrays: Sequence[np.ndarray], own: np.ndarray) -> Any:
        """Return the arrays with that of this output as tensors, in the structure of the targets."""
        every = [own if i == self._place else a for i, a in enumerate(arrays)]
        tensors = as_fit_does(every)
        if self._names:
            return dict(zip(self._names, tensors, strict=True))
        return tensors if len(tensors) > 1 else tensors[0]


def _sense(cost: _Cost, end: str) -> tuple[Any, ...] | None:
    """Return the kind of a loss that right predictions do not make lower, and what right, undecided and wrong ones cost."""
    if end not in _PROBABILITIES or cost.y.min() < 0 or cost.y.max() > 1 or cost.y.min() == cost.y.max():
        return None
    is_choice = end == "softmax" and cost.y.shape[-1] > 1
    right = np.clip(cost.y, _MARGIN, 1 - _MARGIN)
    wrong = np.roll(right, 1, axis=-1) if is_choice else 1 - right
    undecided = np.full_like(right, 1 / right.shape[-1] if is_choice else 0.5)
    costs = [cost(p) for p in (right, undecided, wrong)]
    if not np.isfinite(costs).all():
        return None
    largest = max(map(abs, costs))
    if costs[2] < costs[0] - _ROUNDING * largest and costs[1] < costs[0]:
        return REVERSED, *costs
    is_flat = max(costs) - min(costs) < _ROUNDING * max(largest, _SMALL)
    if is_flat or abs(costs[2] - costs[0]) < _NOTHING * abs(costs[1] - costs[0]):
        return INDIFFERENT, *costs
    return None


def _pairing(cost: _Cost) -> tuple[Any, ...] | None:
    """Return that the loss does not depend on the predictions, or not on the order of the targets, though on the targets."""
    rng, spread = np.random.default_rng(0), cost.y.std()
    order = rng.permutation(len(cost.y))
    if spread == 0 or (cost.y[order] == cost.y).all():
        return None
    predictions = (cost.y.mean() + spread * rng.normal(size=cost.y.shape)).astype("float32")
    if cost.y.min() >= 0 and cost.y.max() <= 1:
        predictions = np.clip(predictions, _MARGIN, 1 - _MARGIN)
    now, shuffled, other = cost(predictions), cost(predictions, cost.y[order]), cost(predictions, np.broadcast_to(cost.y[:1], cost.y.shape))
    if not np.isfinite([now, shuffled, other]).all():
        return None
    near = cost((cost.y + _NEAR * (predictions - cost.y)).astype("float32"))
    if max(abs(now - near), abs(now - cost(predictions[::-1].copy()))) <= _ROUNDING * _SMALL * abs(now):
        return INDIFFERENT, near, now, now
    if abs(now) < _ROUNDING:
        return None
    return (UNPAIRED,) if abs(now - shuffled) < _ROUNDING * abs(now) and abs(now - other) > _NOTHING * abs(now) else None
