"""The repair of a model: find, change, try, and keep what helps."""

import math
import random
import warnings
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._checks import bad_argument, integer
from keras_ext.callbacks import Finding, LearningRateFinder, Limits, diagnose
from keras_ext.callbacks.monitor.limits import checked_choice
from keras_ext.callbacks.monitor.probe.samples import build, check_targets, probe_batch, random_state_kept
from keras_ext.callbacks.monitor.probe.targets import aims
from keras_ext.callbacks.monitor.probe.training import training_of
from keras_ext.optimizers import SGD
from keras_ext.optimizers.exchange import innermost
from keras_ext.remedies.change import Change
from keras_ext.remedies.table import DEEP, OF_CAUSES, remedies
from keras_ext.repair.blueprint import Blueprint
from keras_ext.repair.proposals import Proposal, Proposals, rate_in_words
from keras_ext.repair.rebuild import rebuilt
from keras_ext.repair.repaired import Repair
from keras_ext.repair.trial import Trial, tried

# Remedies of the course of a training, for what no finding names.
_USUAL = ("find_rate", "exchange_activation", "add_skips", "normalize_layers")
# From the rate at which the loss falls fastest to calmer ones where the loss swings, and so often to a faster one where it does not.
_CALMER, _CLIMBS = (0.2, 0.04), 4
# A rate within this factor of the model's is no other rate: range tests are no finer.
_NEAR = 3.0
# Symptoms of a learning rate that is too high.
_WILD = ("oscillating_loss", "exploding_gradient", "exploding_weight", "exploding_activation", "exploding_through_time", "non_finite")
# First predictions this far from the targets, in times of what a constant costs, come from first weights that are too large.
_FAR = 10.0
# After so many test runs no further changes are tried.
_MOST_TRIALS = 10
# Fixing one cause may show another: repeat so many times.
_ROUNDS = 3


def repair(
    model: keras.Model, x: Any, y: Any = None, *, sample_weight: Any = None, batch_size: int = 32, steps: int = 300,
    limits: Limits | None = None, seed: int = 0,
) -> Repair:  # fmt: skip
    """Return a copy of `model` with the changes that make it learn, and the reason of each.

    It trains copies for some steps with a `SaturationMonitor`, changes what was found by the table of remedies, and keeps a change if the
    trial with it ends better: with a lower loss, or with fewer critical findings. What fits the last activation to the loss stays always,
    as losses before and after it cannot be compared. A model in which nothing is found comes back as a copy with equal weights.

    Changes: frozen layers are thawed; last activation and loss are made to fit; inputs are normalized and predictions scaled inside the
    model; probabilities stay off 0 and 1 for a loss of your own; first weights are drawn again; heavy dropout is lowered; the momentum
    of batch normalization becomes .99; epsilon, clipping and weight decay go back to usual values; a learning rate is found; gradients
    are clipped; activations are exchanged; BatchNormalization and skip connections come in. `remedies.table` says which change is for
    which symptom.

    The given model, its optimizer and the generators of the process stay as they are. The new model is not trained: the weights of
    the trials are dropped. Sequential and functional models can get all changes, nested ones too. A model with its own `call` gets those
    that need no new graph; `remaining` has the findings for the others. What has no `get_config` is copied by its attributes.

    Args:
        model: a compiled Keras model.
        x: inputs as `fit` takes them: arrays, or a dataset of batches. At most `steps * batch_size` samples are taken and kept.
        y: targets likewise; None with a dataset, and for models that add their own losses.
        sample_weight: weights likewise, or None.
        batch_size: that of the training.
        steps: steps of each trial, at least 50. There may be a dozen trials.
        limits: the limits of the monitor's rules.
        seed: of the sample, the order of its batches and new first weights, at least 0.

    Raises:
        ValueError: a number is outside its range; `model` is not compiled, cannot be trained on this data, or cannot be copied.
        TypeError: `model` is no Keras model, or `x` holds no arrays.

    Examples:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1, "softmax")])
        >>> model.compile("adam", "binary_crossentropy")
        >>> done = repair(model, x, (x[:, :1] > 0).astype("float32"), steps=100)
        >>> done.changes[0].remedy, done.model.layers[-1].activation.__name__
        ('fit_output', 'sigmoid')

    References:
        Zhang, Zhai, Ma and Shen (2021), AutoTrainer: an automatic DNN training problem detection and repair system, ICSE.
    """
    if not isinstance(model, keras.Model):
        raise bad_argument("model", "a keras.Model", type(model).__name__, error=TypeError)
    if not model.compiled:
        raise ValueError("`model` must be compiled before it can be repaired. Call model.compile(...) first.")
    _, limits = checked_choice(None, limits)
    batch_size, steps, seed = integer("batch_size", batch_size), integer("steps", steps, 50), integer("seed", seed, 0)
    data = probe_batch(x, y, sample_weight, size=steps * batch_size, seed=seed)
    check_targets(model, data)
    build(model, data)
    with random_state_kept(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _Search(model, data, batch_size, steps, limits, seed).done()


class _Refused(Exception):
    """The loss cannot take the targets, and no change fits them."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.advice)
        self.finding = finding


class _Search:
    """The trials of one repair: `best` is the blueprint so far and `trial` what its training showed."""

    def __init__(self, model: Any, data: tuple[Any, Any, Any], batch_size: int, steps: int, limits: Limits, seed: int) -> None:
        # One order for all trials: a shuffle of `fit` would draw from generators that cannot be put back.
        count = next(len(a) for a in tree.flatten(data) if a is not None)
        order = np.random.default_rng(seed).permutation(count)
        data = tree.map_structure(lambda a: None if a is None else a[order], data)
        self.model, self.data, self.limits = model, data, limits
        self.settings = {"steps": steps, "batch_size": batch_size, "seed": seed}
        self.proposals = Proposals(model, data, aims(model, *data[1:]), limits, batch_size)
        self.best, self.changes = Blueprint(), []
        self.seen: dict[tuple[str, str | None], Finding] = {}
        self.count = 0
        self.last: Trial | None = None

    def done(self) -> Repair:
        try:
            self.trial = first = self._first()
        except _Refused as refused:
            return Repair(self._built(self.best), (), (refused.finding,), (math.nan, math.nan))
        if not self.trial.is_healthy(self.limits):
            self._fix_causes()
            self._fix_course()
        return Repair(
            self._built(self.best),
            tuple(self.changes),
            self.trial.findings if self.changes or self.trial.critical else (),
            (first.loss, self.trial.loss),
        )

    def _first(self) -> Trial:
        """Return the trial of the model as it is; where its loss refuses the targets, with an end that fits them."""
        try:
            return self._try(self.best)
        except ValueError as error:
            refused = Finding("output_mismatch", "critical", None, 0, 0, math.nan, math.nan, str(error))
            made = self.proposals.of("fit_output", self.best, (refused,))
            if made is None:
                if not any(f.symptom == "output_mismatch" for f in diagnose(self.model, *self.data[:2]).findings):
                    raise
                raise _Refused(refused) from error
            self.best, self.changes = made.blueprint, [made.change]
            return self._try(self.best)

    def _built(self, blueprint: Blueprint) -> Any:
        # Layers without a seed, such as dropout, draw one from Python's generator.
        random.seed(self.settings["seed"])
        return rebuilt(self.model, blueprint, self.data, self.settings["seed"])

    def _try(self, blueprint: Blueprint) -> Trial:
        self.count += 1
        return tried(self._built(blueprint), self.data, **self.settings, limits=self.limits)

    def _fix_causes(self) -> None:
        """Apply together what findings show by themselves to be needed, and again where that shows more."""
        for _ in range(_ROUNDS):
            proposed, blueprint = [], self.best
            # The monitor sees the scale at the first kernel only; of several inputs another may be far off.
            asked = {"scale_inputs", *(remedy for f in self.trial.findings for remedy in remedies(f.symptom))}
            for remedy in OF_CAUSES:
                if remedy not in asked or (remedy == "draw_weights" and not self._finds("poor_initialization")):
                    continue
                made = self.proposals.of(remedy, blueprint, self.trial.findings)
                if made is not None:
                    proposed.append(made.change)
                    blueprint = made.blueprint
            if not proposed:
                return
            changes = [*self.changes, *proposed]
            always = any(change.remedy == "fit_output" for change in proposed)
            if blueprint.outputs and not self.best.outputs and self._keep_scaled(blueprint, changes):
                continue
            if not self._keep(blueprint, changes, always) and not self._keep_single(proposed):
                return
            if self.trial.is_healthy(self.limits) and self.trial.is_below(self.limits.learned):
                return

    def _keep_scaled(self, blueprint: Blueprint, changes: list[Change]) -> bool:
        """Try scaled outputs with a rate for their gradients, which grow with the scale's square; return whether one was kept.

        For SGD first the rate with which a step is as long as with targets of unit variance. Other optimizers know no scale.
        """
        now = training_of(self.model).step.rate
        if not isinstance(innermost(self.model.optimizer), keras.optimizers.SGD | SGD) or not math.isfinite(now):
            return False
        widest = max(scale for scale, _ in blueprint.outputs.values())
        scaled = now / widest**2
        if self._keep(blueprint.plus(optimizer={"learning_rate": scaled}), [*changes, self._change_of_rate(scaled)]):
            return True
        found = self._rate(blueprint)
        return found is not None and self._keep(found.blueprint, [*changes, found.change])

    def _finds(self, symptom: str) -> bool:
        return any(f.symptom == symptom for f in self.trial.findings)

    def _keep_single(self, proposed: list[Change]) -> bool:
        """Keep those of the proposed changes that help alone; return whether one did."""
        kept = False
        for change in proposed if len(proposed) > 1 else []:
            made = self.proposals.of(change.remedy, self.best, self.trial.findings)
            kept |= made is not None and self._keep(made.blueprint, [*self.changes, made.change])
        return kept

    def _keep(self, blueprint: Blueprint, changes: list[Change], always: bool = False, must_learn: bool = False) -> bool:
        """Try a blueprint and keep it if it helps, with `must_learn` by its loss; return whether it was kept."""
        self.last = trial = self._try(blueprint)
        if not always and not trial.is_better_than(self.trial):
            return False
        learns = math.isnan(trial.loss) or trial.is_lower_than(self.trial) or trial.is_below(self.limits.begun)
        if must_learn and not learns:
            return False
        self.best, self.changes, self.trial = blueprint, changes, trial
        return True

    def _fix_course(self) -> None:
        """Try what the course of the training asks for, one change after the other, and at the end those for deep networks together."""
        done: set[str] = set()
        while self._is_open():
            remedy = next((r for r in self._ladder() if r not in done), None)
            if remedy is None:
                break
            done.add(remedy)
            if not self._keep_remedy(remedy):
                continue
            # What was hidden before may show now, and another network may need another rate.
            self._fix_causes()
            if remedy in (*DEEP, "draw_weights"):
                done -= {"find_rate"}
        if self._is_open():
            self._together()

    def _is_open(self) -> bool:
        is_open = (
            bool(self.trial.critical)
            or math.isinf(self.trial.loss)
            or (bool(self.changes) and not self.trial.is_below(self.limits.learned))
        )
        return is_open and self.count < _MOST_TRIALS

    def _ladder(self) -> list[str]:
        findings = sorted(self.trial.findings, key=lambda f: f.severity != "critical")
        asked = [remedy for f in findings for remedy in remedies(f.symptom)]
        # A loss alone can be infinite, between snapshots too, where no finding says so.
        first = ["bound_output"] if math.isinf(self.trial.loss) else []
        first += ["draw_weights"] if self.proposals.is_new and self.trial.first > _FAR * self.trial.constant else []
        ladder = [r for r in dict.fromkeys((*first, *asked, *_USUAL)) if r not in OF_CAUSES or r == "draw_weights"]
        if any(f.symptom == "non_finite" and f.step == 0 for f in findings):
            # Before the first step there was none that could be too long.
            return [r for r in ladder if r not in ("find_rate", "clip_gradients")]
        return ladder

    def _findings(self) -> tuple[Finding, ...]:
        return self.trial.findings or (_stalled(self.trial),)

    def _keep_remedy(self, remedy: str) -> bool:
        if remedy == "find_rate":
            return self._keep_rate()
        made = self.proposals.of(remedy, self.best, self._findings())
        return made is not None and self._keep(made.blueprint, [*self.changes, made.change])

    def _keep_rate(self) -> bool:
        now = self.best.optimizer.get("learning_rate", training_of(self.model).step.rate)
        made = self._rate(self.best)
        suggested = made.blueprint.optimizer["learning_rate"] if made is not None else now
        if made is None or _is_near(suggested, now):
            return any(self._keep_one_of(rates) for rates in self._rates(now))
        kept = self._keep_this_rate(suggested)
        between = math.sqrt(suggested * now) if now > 0 else now
        if suggested > now and not kept:
            # Where nothing was learned, try the geometric mean of the old and the suggested rate.
            is_open = not self.trial.is_below(self.limits.begun) and not _is_near(between, now) and self.count < _MOST_TRIALS
            return is_open and self._keep_this_rate(between)
        if self._is_wild():
            kept |= self._keep_one_of([share * suggested for share in _CALMER if not _is_near(share * suggested, now)])
        if kept:
            self._keep_faster(now)
        return kept

    def _keep_faster(self, now: float) -> None:
        """Keep faster rates while the loss falls the better: of noise a range test suggests one that is too low."""
        for _ in range(_CLIMBS):
            rate = (10.0 if self._finds("small_step") else 5.0) * self.best.optimizer["learning_rate"]
            if self._is_wild() or not self._is_open() or _is_near(rate, now) or not self._keep_this_rate(rate):
                break

    def _keep_one_of(self, rates: list[float]) -> bool:
        """Try rates while each is better than the one before; return whether one was kept."""
        kept = False
        for rate in rates:
            if self.count >= _MOST_TRIALS or (self.changes and not self._is_open()):
                break
            better = self._keep_this_rate(rate)
            if kept != better or self._finds("small_step") or (not better and not self._is_wild()):
                return kept or better
            kept = better
        return kept

    def _keep_this_rate(self, rate: float) -> bool:
        others = [change for change in self.changes if change.remedy != "find_rate"]
        changed = self.best.plus(optimizer={"learning_rate": rate})
        return self._keep(changed, [*others, self._change_of_rate(rate)], must_learn=True)

    def _is_wild(self) -> bool:
        """Return whether the last trial had steps that were too long, so that shorter ones may still help."""
        return self.last is not None and (math.isinf(self.last.loss) or any(f.symptom in _WILD for f in self.last.findings))

    def _rates(self, now: float) -> list[list[float]]:
        """Return the rates to try where a range test suggests no other, first from one side and then from the other."""
        if not hasattr(self.model.optimizer, "learning_rate") or not math.isfinite(now) or now <= 0:
            return []
        larger, smaller = [10 * now, 100 * now], [now / 10, now / 100, now / 1000]
        if any(self._finds(symptom) for symptom in ("small_step", "unchanged_weights", "stalled_loss")):
            return [larger]
        is_wild = math.isinf(self.trial.loss) or any(self._finds(symptom) for symptom in _WILD)
        # At what a constant costs, steps may be too short as well as too long.
        return [smaller] if is_wild or self.trial.is_below(self.limits.begun) else [larger, smaller]

    def _change_of_rate(self, rate: float) -> Change:
        reason = next((f for f in self._findings() if "find_rate" in remedies(f.symptom)), self._findings()[0])
        return Change("find_rate", _rate_change(training_of(self.model).step.rate, rate), reason.symptom, reason.advice)

    def _rate(self, blueprint: Blueprint) -> Proposal | None:
        """Return the blueprint with the rate that a range test suggests."""
        x, y, sample_weight = self.data
        widest = max((scale for scale, _ in blueprint.outputs.values()), default=1.0)
        finder = LearningRateFinder(
            x, y, sample_weight, batch_size=self.settings["batch_size"], seed=self.settings["seed"],
            min_learning_rate=1e-7 / max(1.0, widest**2),
        )  # fmt: skip
        try:
            suggested = finder.find(self._built(replace(blueprint, optimizer={**blueprint.optimizer, "learning_rate": 1e-3}))).suggested
        except (TypeError, ValueError):  # an optimizer without a rate in its config, or a `train_step` without a loss
            return None
        if suggested is None or not math.isfinite(suggested):
            return None
        return Proposal(self._change_of_rate(suggested), blueprint.plus(optimizer={"learning_rate": suggested}))

    def _together(self) -> None:
        """Try the changes for deep networks together: each alone may show nothing."""
        blueprint, changes = self.best, list(self.changes)
        for remedy in DEEP:
            made = self.proposals.of(remedy, blueprint, self._findings())
            if made is not None:
                blueprint, changes = made.blueprint, [*changes, made.change]
        if len(changes) <= len(self.changes) + 1:
            return
        if self._keep(blueprint, changes):
            if self._is_open():
                self._keep_rate()
        elif self.count < _MOST_TRIALS and (made := self._rate(blueprint)) is not None:
            # At a rate that is far too low no change shows what it does.
            self._keep(made.blueprint, [*changes, made.change])


def _is_near(rate: float, other: float) -> bool:
    return other > 0 and 1 / _NEAR < rate / other < _NEAR


def _rate_change(old: float, new: float) -> str:
    return f"Set learning_rate from {rate_in_words(old)} to {new:.2g}."


def _stalled(trial: Trial) -> Finding:
    """Return the finding for a training that does not learn, and in which the monitor names nothing."""
    seen = f"The loss ends at {trial.loss:.3g}, and a constant prediction costs {trial.constant:.3g}."
    return Finding("stalled_loss", "warning", None, 0, 0, trial.loss, trial.constant, seen)
