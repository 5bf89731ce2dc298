"""The repair of a model: find, change, try, and keep what helps."""

import math
import warnings
from typing import Any

import keras

from keras_ext._checks import bad_argument, integer
from keras_ext.callbacks import Finding, Limits, diagnose
from keras_ext.callbacks.monitor.limits import checked_choice
from keras_ext.callbacks.monitor.probe.samples import build, check_targets, probe_batch, random_state_kept
from keras_ext.remedies.change import Change
from keras_ext.remedies.table import DEEP, OF_CAUSES, remedies
from keras_ext.repair.progress import Progress
from keras_ext.repair.rates import Rates
from keras_ext.repair.repaired import Repair
from keras_ext.repair.trial import Trial

# Remedies of the course of a training, for what no finding names.
_USUAL = ("find_rate", "exchange_activation", "add_skips", "normalize_layers")
# First predictions this far from the targets, in times of what a constant costs, come from first weights that are too large.
_FAR = 10.0
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
    model; probabilities stay off 0 and 1 for a loss of your own; first weights are drawn again; heavy dropout is lowered; penalties and
    constraints that press weights or outputs to nothing are left out; the momentum of batch normalization becomes .99; epsilon, clipping
    and weight decay go back to usual values; a learning rate is found; gradients are clipped; activations are exchanged;
    BatchNormalization and skip connections come in. `remedies.table` says which change is for which symptom.

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
        return _Search(Progress(model, data, batch_size, steps, limits, seed)).done()


class _Refused(Exception):
    """The loss cannot take the targets, and no change fits them."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.advice)
        self.finding = finding


class _Search:
    """Finds the changes of one repair: first those of causes, then those that the course of the training asks for."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.rates = progress, Rates(progress)

    def done(self) -> Repair:
        try:
            self.progress.trial = first = self._first()
        except _Refused as refused:
            return Repair(self.progress.built(self.progress.best), (), (refused.finding,), (math.nan, math.nan))
        if not self.progress.trial.is_healthy(self.progress.limits):
            self._fix_causes()
            self._fix_course()
        return Repair(
            self.progress.built(self.progress.best),
            tuple(self.progress.changes),
            self.progress.trial.findings if self.progress.changes or self.progress.trial.critical else (),
            (first.loss, self.progress.trial.loss),
        )

    def _first(self) -> Trial:
        """Return the trial of the model as it is; where its loss refuses the targets, with an end that fits them."""
        try:
            return self.progress.try_out(self.progress.best)
        except ValueError as error:
            refused = Finding("output_mismatch", "critical", None, 0, 0, math.nan, math.nan, str(error))
            made = self.progress.proposals.of("fit_output", self.progress.best, (refused,))
            if made is None:
                if not any(f.symptom == "output_mismatch" for f in diagnose(self.progress.model, *self.progress.data[:2]).findings):
                    raise
                raise _Refused(refused) from error
            self.progress.best, self.progress.changes = made.blueprint, [made.change]
            return self.progress.try_out(self.progress.best)

    def _fix_causes(self) -> None:
        """Apply together what findings show by themselves to be needed, and again where that shows more."""
        for _ in range(_ROUNDS):
            proposed, blueprint = [], self.progress.best
            # The monitor sees the scale at the first kernel only; of several inputs another may be far off.
            asked = {"scale_inputs", *(remedy for f in self.progress.trial.findings for remedy in remedies(f.symptom))}
            for remedy in OF_CAUSES:
                if remedy not in asked or (remedy == "draw_weights" and not self.progress.finds("poor_initialization")):
                    continue
                made = self.progress.proposals.of(remedy, blueprint, self.progress.trial.findings)
                if made is not None:
                    proposed.append(made.change)
                    blueprint = made.blueprint
            if not proposed:
                return
            changes = [*self.progress.changes, *proposed]
            always = any(change.remedy == "fit_output" for change in proposed)
            if blueprint.outputs and not self.progress.best.outputs and self.rates.keep_for_outputs(blueprint, changes):
                continue
            if not self.progress.keep(blueprint, changes, always) and not self._keep_single(proposed):
                return
            if self.progress.trial.is_healthy(self.progress.limits) and self.progress.trial.is_below(self.progress.limits.learned):
                return

    def _keep_single(self, proposed: list[Change]) -> bool:
        """Keep those of the proposed changes that help alone; return whether one did."""
        kept = False
        for change in proposed if len(proposed) > 1 else []:
            made = self.progress.proposals.of(change.remedy, self.progress.best, self.progress.trial.findings)
            kept |= made is not None and self.progress.keep(made.blueprint, [*self.progress.changes, made.change])
        return kept

    def _fix_course(self) -> None:
        """Try what the course of the training asks for, one change after the other, and at the end those for deep networks together."""
        done: set[str] = set()
        while self.progress.is_open():
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
        if self.progress.is_open():
            self._together()

    def _ladder(self) -> list[str]:
        """Return the remedies in the order in which they are tried."""
        trial = self.progress.trial
        findings = sorted(trial.findings, key=lambda f: f.severity != "critical")
        asked = [remedy for f in findings for remedy in remedies(f.symptom)]
        # A loss alone can be infinite, between snapshots too, where no finding says so.
        first = ["bound_output"] if math.isinf(trial.loss) else []
        first += ["draw_weights"] if self.progress.proposals.is_new and trial.first > _FAR * trial.constant else []
        ladder = [r for r in dict.fromkeys((*first, *asked, *_USUAL)) if r not in OF_CAUSES or r == "draw_weights"]
        if any(f.symptom == "non_finite" and f.step == 0 for f in findings):
            # Before the first step there was none that could be too long.
            return [r for r in ladder if r not in ("find_rate", "clip_gradients")]
        return ladder

    def _keep_remedy(self, remedy: str) -> bool:
        if remedy == "find_rate":
            return self.rates.keep()
        made = self.progress.proposals.of(remedy, self.progress.best, self.progress.findings())
        return made is not None and self.progress.keep(made.blueprint, [*self.progress.changes, made.change])

    def _together(self) -> None:
        """Try the changes for deep networks together: each alone may show nothing."""
        blueprint, changes = self.progress.best, list(self.progress.changes)
        for remedy in DEEP:
            made = self.progress.proposals.of(remedy, blueprint, self.progress.findings())
            if made is not None:
                blueprint, changes = made.blueprint, [*changes, made.change]
        if len(changes) <= len(self.progress.changes) + 1:
            return
        if self.progress.keep(blueprint, changes):
            if self.progress.is_open():
                self.rates.keep()
        elif self.progress.may_try() and (made := self.rates.suggested(blueprint)) is not None:
            # At a rate that is far too low no change shows what it does.
            self.progress.keep(made.blueprint, [*changes, made.change])
