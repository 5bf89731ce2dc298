"""The settings of a search on your own data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keras_ext._checks import bad_argument, flag, in_range, integer, integers, items, keep, one_of
from keras_ext.automl.networks import NETWORKS
from keras_ext.automl.tuners import checked
from keras_ext.search.choices import WIDTHS
from keras_ext.search.tuners.pruning import PRUNERS
from keras_ext.search.tuners.samplers import SAMPLERS

# Of a seed: the tuner's is one higher, and NumPy and scikit-learn hold 32 bits.
_MOST = 2**32 - 2
# With so few samples that a trial has more, most of a training is past its best score.
_MANY_EPOCHS = 40


@dataclass(frozen=True)
class Settings:
    """The settings of a search; kept in `search.json`, so that it goes on as it began.

    Args:
        tuner: `"random"`, `"tpe"`, `"gp"`, `"cmaes"`, `"qmc"`, `"hyperband"`, `"grid"` or `"genetic"`.
        pruner: `"median"`, `"patient"`, `"halving"` or `"hyperband"`: ends trials that do worse than the others. `"wilcoxon"` does so
            between the trainings of a trial, with `folds` or `repeats`. `"none"`: lets each train to its end.
            None: `"median"`; `"none"` for `"hyperband"` and `"grid"`.
        trials: most trials; Hyperband sets its own number.
        epochs: most epochs of a trial. None: 20; more where the samples are few, so that the weights move 1000 times, at most 200.
        repeats: trainings of each trial, from other first weights; its score is the mean of theirs.
        folds: of a cross-validation: each trial trains so often, each time validated on another part of the samples; its score is the
            mean. With `repeats` each fold has as many trainings. None: all trainings have one validation.
        trials_per_structure: trials of each structure that the tuner chooses, which differ in rates and strengths and share a program.
            None: a tenth of the trials, at most 8; 1 for the tuners that are not Optuna's.
        seed: of the tuner, the split and each trial's weights.
        validation: share of the samples that scores are taken on; with `folds` these take its place.
        test: share of the samples that no trial sees: the best model is tried on them once, at the end. 0: none.
        refit: train the best network again, on the samples of training and validation together, for as many epochs as it needed; with
            `folds` the mean of theirs. None: with `folds` alone, whose trainings each lack a fold.
        mixed_precision: `"float16"` or `"bfloat16"`: what layers compute in, their weights stay float32. None: float32.
        batch_sizes: the batch sizes to choose from.
        network: `"mlp"`, `"residual"`, `"cnn"`, `"resnet"` or `"lstm"`. `"auto"`: what the shape of the samples says, see
            `networks.network_of`.
        max_layers: most hidden layers; LSTM layers or blocks of convolutions likewise. None: as many as the search space says.
        widths: `"same"`, `"pyramid"` or `"free"`: how the widths of an MLP's layers are chosen.
        wide: choose among all parts of the package.
        patience: epochs without a better score that end a trial. None: a quarter of the epochs, where `epochs` is None and they come to
            more than 40; else each trains to its end. A perfect score ends a trial in any case.
        objective: name of the Keras metric that is searched for, such as `"roc_auc"`. None: accuracy, balanced accuracy where a class is
            rare, or R2.
        baseline: train scikit-learn's gradient-boosted trees and a linear model on the same samples, to compare.
        values: of the grid: lists of values by the names of hyperparameters. Others have a few each.
    """

    tuner: str = "tpe"
    pruner: str | None = None
    trials: int = 80
    epochs: int | None = None
    repeats: int = 1
    folds: int | None = None
    trials_per_structure: int | None = None
    seed: int = 0
    validation: float = 0.2
    test: float = 0.2
    refit: bool | None = None
    mixed_precision: str | None = None
    batch_sizes: tuple[int, ...] = (16, 32, 64, 128)
    network: str = "auto"
    max_layers: int | None = None
    widths: str = "same"
    wide: bool = False
    patience: int | None = None
    objective: str | None = None
    baseline: bool = True
    values: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked(self.tuner)
        if self.pruner is not None:
            one_of("pruner", self.pruner, PRUNERS)
        if self.tuner == "hyperband" and self.pruner not in (None, "none"):
            raise bad_argument("pruner", "'none' with hyperband, which gives poor trials few epochs itself", self.pruner, "Leave it out.")
        keep(self, trials=integer("trials", self.trials), seed=integer("seed", self.seed, 0, _MOST))
        keep(self, repeats=integer("repeats", self.repeats))
        if self.folds is not None:
            keep(self, folds=integer("folds", self.folds, 2))
            if self.tuner == "hyperband":
                fix = "It goes on with the weights of one fold, which have seen the others. Take another tuner."
                raise bad_argument("folds", "left out with hyperband", self.folds, fix)
            if self.validation != Settings.validation:
                raise bad_argument("validation", "left out with `folds`, which take its place", self.validation)
        if self.pruner == "wilcoxon" and (self.folds or 1) * self.repeats < 2:
            fix = "It compares the trainings of a trial: give `folds`, such as 5, or `repeats`."
            raise bad_argument("pruner", "another one for trials of one training", self.pruner, fix)
        if self.trials_per_structure is not None:
            keep(self, trials_per_structure=integer("trials_per_structure", self.trials_per_structure))
            if self.trials_per_structure > 1 and self.tuner not in SAMPLERS:
                fix = f"Choose one of {', '.join(SAMPLERS)}."
                raise bad_argument("trials_per_structure", f"1 with the tuner {self.tuner}", self.trials_per_structure, fix)
        keep(self, validation=in_range("validation", self.validation, 0.0, 0.5, closed="right"))
        keep(self, test=in_range("test", self.test, 0.0, 0.5, closed="left"))
        if self.refit is not None:
            keep(self, refit=flag("refit", self.refit))
        one_of("mixed_precision", self.mixed_precision, (None, "float16", "bfloat16"))
        keep(self, batch_sizes=integers("batch_sizes", self.batch_sizes))
        one_of("network", self.network, NETWORKS)
        one_of("widths", self.widths, WIDTHS)
        keep(self, wide=flag("wide", self.wide), baseline=flag("baseline", self.baseline), values=_checked_values(self.values, self.tuner))
        if self.objective is not None and (not isinstance(self.objective, str) or not self.objective):
            raise bad_argument("objective", "the name of a metric, or None", self.objective)
        for name in ("epochs", "max_layers", "patience"):
            value = getattr(self, name)
            keep(self, **{name: None if value is None else integer(name, value)})


def complete(settings: Settings, samples: int) -> Settings:
    """Return settings without None where the number of trials, the tuner or the samples of training decide.

    Hyperband, whose number of trials grows with the epochs, keeps 20.

    >>> [complete(Settings(), samples).epochs for samples in (50, 300, 10000)]
    [200, 100, 20]
    >>> [complete(Settings(), samples).patience for samples in (50, 300, 10000)]
    [50, 25, None]
    >>> [complete(Settings(trials=trials), 300).trials_per_structure for trials in (5, 40, 200)]
    [1, 4, 8]
    """
    found: dict[str, Any] = {"refit": bool(settings.folds) if settings.refit is None else settings.refit}
    if settings.epochs is None:
        enough = 1000 // math.ceil(samples / 32)
        found["epochs"] = 20 if settings.tuner == "hyperband" else min(max(enough, 20), 200)
        if settings.patience is None and found["epochs"] > _MANY_EPOCHS:
            found["patience"] = found["epochs"] // 4
    if settings.pruner is None:
        found["pruner"] = "none" if settings.tuner in ("hyperband", "grid") else "median"
    if settings.trials_per_structure is None:
        found["trials_per_structure"] = min(max(settings.trials // 10, 1), 8) if settings.tuner in SAMPLERS else 1
    return replace(settings, **found)


def _checked_values(values: Any, tuner: str) -> dict[str, list[Any]]:
    """Return the values of a grid as JSON keeps them; whether the space has them is found where there is one."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) and items(found) for name, found in values.items()):
        raise bad_argument("values", "a dict of names of hyperparameters and lists of their values", values)
    if values and tuner != "grid":
        raise bad_argument("values", "left out with the tuner " + repr(tuner), values, "Only 'grid' fixes values.")
    return {name: [value.item() if hasattr(value, "item") else value for value in items(found) or ()] for name, found in values.items()}
