"""How far a repair has come: its trials, and the best blueprint of them."""

import math
import random
from typing import Any

import numpy as np
from keras import tree

from keras_ext.callbacks import Finding, Limits
from keras_ext.callbacks.monitor.probe.targets import aims
from keras_ext.remedies.change import Change
from keras_ext.repair.blueprint import Blueprint
from keras_ext.repair.proposals import Proposals
from keras_ext.repair.rebuild import rebuilt
from keras_ext.repair.trial import Trial, tried

# Symptoms of a learning rate that is too high.
WILD = ("oscillating_loss", "exploding_gradient", "exploding_weight", "exploding_activation", "exploding_through_time", "non_finite")
# After so many test runs no further changes are tried.
_MOST_TRIALS = 10


class Progress:
    """How far a repair has come.

    `best` is the best blueprint so far, `changes` says what it changes, and `trial` is its training. `last` is the last trial.
    """

    def __init__(self, model: Any, data: tuple[Any, Any, Any], batch_size: int, steps: int, limits: Limits, seed: int) -> None:
        # One order for all trials: a shuffle of `fit` would draw from generators that cannot be put back.
        count = next(len(a) for a in tree.flatten(data) if a is not None)
        order = np.random.default_rng(seed).permutation(count)
        data = tree.map_structure(lambda a: None if a is None else a[order], data)
        self.model, self.data, self.limits = model, data, limits
        self.settings = {"steps": steps, "batch_size": batch_size, "seed": seed}
        self.proposals = Proposals(model, data, aims(model, *data[1:]), limits, batch_size)
        self.best, self.changes = Blueprint(), []
        self.count = 0
        self.last: Trial | None = None
        self.trial: Trial

    def built(self, blueprint: Blueprint) -> Any:
        """Return a copy of the model with the changes of a blueprint."""
        # Layers without a seed, such as dropout, draw one from Python's generator.
        random.seed(self.settings["seed"])
        return rebuilt(self.model, blueprint, self.data, self.settings["seed"])

    def try_out(self, blueprint: Blueprint) -> Trial:
        """Train a copy with the changes of a blueprint."""
        self.count += 1
        return tried(self.built(blueprint), self.data, **self.settings, limits=self.limits)

    def keep(self, blueprint: Blueprint, changes: list[Change], always: bool = False, must_learn: bool = False) -> bool:
        """Try a blueprint and keep it if it helps, with `must_learn` by its loss; return whether it was kept."""
        self.last = trial = self.try_out(blueprint)
        if not always and not trial.is_better_than(self.trial):
            return False
        learns = math.isnan(trial.loss) or trial.is_lower_than(self.trial) or trial.is_below(self.limits.begun)
        if must_learn and not learns:
            return False
        self.best, self.changes, self.trial = blueprint, changes, trial
        return True

    def finds(self, symptom: str) -> bool:
        """Return whether the best trial has a finding of this symptom."""
        return any(f.symptom == symptom for f in self.trial.findings)

    def findings(self) -> tuple[Finding, ...]:
        """Return the findings of the best trial, or that its loss has stalled."""
        return self.trial.findings or (_stalled(self.trial),)

    def may_try(self) -> bool:
        """Return whether there may be a further trial."""
        return self.count < _MOST_TRIALS

    def is_open(self) -> bool:
        """Return whether the best trial is not good enough yet, and there may be a further one."""
        unlearned = bool(self.changes) and not self.trial.is_below(self.limits.learned)
        return self.may_try() and (bool(self.trial.critical) or math.isinf(self.trial.loss) or unlearned)

    def has_begun(self) -> bool:
        """Return whether the network of the best trial has begun to learn."""
        return self.trial.is_below(self.limits.begun)

    def is_wild(self) -> bool:
        """Return whether the last trial had steps that were too long, so that shorter ones may still help."""
        return self.last is not None and (math.isinf(self.last.loss) or any(f.symptom in WILD for f in self.last.findings))


def _stalled(trial: Trial) -> Finding:
    """Return the finding for a training that does not learn, and in which the monitor names nothing."""
    seen = f"The loss ends at {trial.loss:.3g}, and a constant prediction costs {trial.constant:.3g}."
    return Finding("stalled_loss", "warning", None, 0, 0, trial.loss, trial.constant, seen)
