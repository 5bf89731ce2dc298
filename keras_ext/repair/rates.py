"""The learning rate in a repair: what a range test suggests, and rates around it."""

import math
from dataclasses import replace

import keras

from keras_ext.callbacks import LearningRateFinder
from keras_ext.callbacks.monitor.probe.training import training_of
from keras_ext.optimizers import SGD
from keras_ext.optimizers.exchange import innermost
from keras_ext.remedies.change import Change
from keras_ext.remedies.table import remedies
from keras_ext.repair.blueprint import Blueprint
from keras_ext.repair.progress import WILD, Progress
from keras_ext.repair.proposals import Proposal, rate_in_words

# From the rate at which the loss falls fastest to calmer ones where the loss swings, and so often to a faster one where it does not.
_CALMER, _CLIMBS = (0.2, 0.04), 4
# A rate within this factor of the model's is no other rate: range tests are no finer.
_NEAR = 3.0


class Rates:
    """Tries learning rates, and keeps the best."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def keep(self) -> bool:
        """Try the rate that a range test suggests, or else rates around the model's; return whether one was kept."""
        now = self.progress.best.optimizer.get("learning_rate", training_of(self.progress.model).step.rate)
        made = self.suggested(self.progress.best)
        suggested = made.blueprint.optimizer["learning_rate"] if made is not None else now
        if made is None or _is_near(suggested, now):
            return any(self._keep_one_of(rates) for rates in self._rates(now))
        kept = self.keep_this(suggested)
        between = math.sqrt(suggested * now) if now > 0 else now
        if suggested > now and not kept:
            # Where nothing was learned, try the geometric mean of the old and the suggested rate.
            is_open = not self.progress.has_begun() and not _is_near(between, now) and self.progress.may_try()
            return is_open and self.keep_this(between)
        if self.progress.is_wild():
            kept |= self._keep_one_of([share * suggested for share in _CALMER if not _is_near(share * suggested, now)])
        if kept:
            self._keep_faster(now)
        return kept

    def keep_for_outputs(self, blueprint: Blueprint, changes: list[Change]) -> bool:
        """Try scaled outputs with a rate for their gradients, which grow with the scale's square; return whether one was kept.

        For SGD first the rate with which a step is as long as with targets of unit variance. Other optimizers know no scale.
        """
        now = training_of(self.progress.model).step.rate
        if not isinstance(innermost(self.progress.model.optimizer), keras.optimizers.SGD | SGD) or not math.isfinite(now):
            return False
        widest = max(scale for scale, _ in blueprint.outputs.values())
        scaled = now / widest**2
        if self.progress.keep(blueprint.plus(optimizer={"learning_rate": scaled}), [*changes, self.change_to(scaled)]):
            return True
        found = self.suggested(blueprint)
        return found is not None and self.progress.keep(found.blueprint, [*changes, found.change])

    def keep_this(self, rate: float) -> bool:
        """Try one rate, and keep it if the network learns with it; return whether it was kept."""
        others = [change for change in self.progress.changes if change.remedy != "find_rate"]
        changed = self.progress.best.plus(optimizer={"learning_rate": rate})
        return self.progress.keep(changed, [*others, self.change_to(rate)], must_learn=True)

    def suggested(self, blueprint: Blueprint) -> Proposal | None:
        """Return the blueprint with the rate that a range test suggests."""
        x, y, sample_weight = self.progress.data
        widest = max((scale for scale, _ in blueprint.outputs.values()), default=1.0)
        finder = LearningRateFinder(
            x, y, sample_weight, batch_size=self.progress.settings["batch_size"], seed=self.progress.settings["seed"],
            min_learning_rate=1e-7 / max(1.0, widest**2),
        )  # fmt: skip
        slow = replace(blueprint, optimizer={**blueprint.optimizer, "learning_rate": 1e-3})
        try:
            suggested = finder.find(self.progress.built(slow)).suggested
        except (TypeError, ValueError):  # an optimizer without a rate in its config, or a `train_step` without a loss
            return None
        if suggested is None or not math.isfinite(suggested):
            return None
        return Proposal(self.change_to(suggested), blueprint.plus(optimizer={"learning_rate": suggested}))

    def change_to(self, rate: float) -> Change:
        """Return the change to a rate, with the finding that asks for it."""
        reason = next((f for f in self.progress.findings() if "find_rate" in remedies(f.symptom)), self.progress.findings()[0])
        return Change("find_rate", _rate_change(training_of(self.progress.model).step.rate, rate), reason.symptom, reason.advice)

    def _keep_faster(self, now: float) -> None:
        """Keep faster rates while the loss falls the better: under noise a range test suggests one that is too low."""
        for _ in range(_CLIMBS):
            rate = (10.0 if self.progress.finds("small_step") else 5.0) * self.progress.best.optimizer["learning_rate"]
            if self.progress.is_wild() or not self.progress.is_open() or _is_near(rate, now) or not self.keep_this(rate):
                break

    def _keep_one_of(self, rates: list[float]) -> bool:
        """Try rates while each is better than the one before; return whether one was kept."""
        kept = False
        for rate in rates:
            if not self.progress.may_try() or (self.progress.changes and not self.progress.is_open()):
                break
            better = self.keep_this(rate)
            if kept != better or self.progress.finds("small_step") or (not better and not self.progress.is_wild()):
                return kept or better
            kept = better
        return kept

    def _rates(self, now: float) -> list[list[float]]:
        """Return the rates to try where a range test suggests no other, first from one side and then from the other."""
        if not hasattr(self.progress.model.optimizer, "learning_rate") or not math.isfinite(now) or now <= 0:
            return []
        larger, smaller = [10 * now, 100 * now], [now / 10, now / 100, now / 1000]
        if any(self.progress.finds(symptom) for symptom in ("small_step", "unchanged_weights", "stalled_loss")):
            return [larger]
        is_wild = math.isinf(self.progress.trial.loss) or any(self.progress.finds(symptom) for symptom in WILD)
        # At what a constant costs, steps may be too short as well as too long.
        return [smaller] if is_wild or self.progress.has_begun() else [larger, smaller]


def _is_near(rate: float, other: float) -> bool:
    return other > 0 and 1 / _NEAR < rate / other < _NEAR


def _rate_change(old: float, new: float) -> str:
    return f"Set learning_rate from {rate_in_words(old)} to {new:.2g}."
