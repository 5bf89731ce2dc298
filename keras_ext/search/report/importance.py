"""Which part helped: the importance of each hyperparameter of a search, and the scores by its values."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ext._checks import integer
from keras_ext.search.records import Record
from keras_ext.search.report.values import by_value, hyperparameters

# Trials with a score, of a search or with a hyperparameter, that are enough to compare; and with a value and without it.
_FEWEST, _FEWEST_OF_VALUE = 4, 5
# Of an interval over bootstraps: the share that lies outside.
_OUTSIDE = 0.1
_DRAWS = 1000
# Share of the trials that count as good. Optuna's own .1 finds what led to the few best; of forty trials these are four.
_GOOD = 0.5


@dataclass(frozen=True)
class ScoresOfValue:
    """The scores of the trials that had one value of a hyperparameter.

    Args:
        value: in words; numbers of many values stand in four ranges.
        trials: with a score that had it.
        median: of their scores.
        low: first quartile.
        high: third quartile.
    """

    value: str
    trials: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Importance:
    """How much one hyperparameter mattered in a search.

    Args:
        name: of the hyperparameter.
        share: of the importance of all hyperparameters, in [0, 1].
        low: end of the interval that holds 90 % of the bootstraps of `share`.
        high: the other end.
        values: the scores by value.
        effect: median score with the best value less that without it; None where there is no other value.
        is_distinct: whether the interval of `effect` excludes zero, widened for the number of values that there were to choose from. Never
            with fewer than five trials on one side.
        sentence: what this says.
    """

    name: str
    share: float
    low: float
    high: float
    values: tuple[ScoresOfValue, ...]
    effect: float | None
    is_distinct: bool
    sentence: str


def importances(
    records: Sequence[Record], space: Sequence[Any], score_name: str, direction: str, bootstraps: int = 50, seed: int = 0
) -> tuple[Importance, ...]:
    """Return the importance of each hyperparameter that differed and that four trials had, the largest first.

    Args:
        records: the trials.
        space: the hyperparameters of the search.
        score_name: what the score is called.
        direction: `"min"` or `"max"`: which score is better.
        bootstraps: number of samples of the trials that the interval of the importance comes from.
        seed: of these samples.
    """
    integer("bootstraps", bootstraps)
    scored = [record for record in records if record.score is not None]
    names = [name for name in hyperparameters(scored) if sum(name in record.hyperparameters for record in scored) >= _FEWEST]
    if len(scored) < _FEWEST or not names:
        return ()
    from keras_ext.search.tuners.study import frozen

    rng, count = np.random.default_rng(seed), len(scored)
    trials = [frozen(record, space, record.score, is_pruned=False) for record in scored]
    whole = _shares(trials, direction, names)
    drawn = [_shares([trials[i] for i in rng.integers(count, size=count)], direction, names) for _ in range(bootstraps)]
    lows, highs = np.quantile(drawn, [_OUTSIDE / 2, 1 - _OUTSIDE / 2], axis=0)
    found = []
    for i, name in enumerate(names):
        groups = {text: [r.score for r in mine if r.score is not None] for text, mine in by_value(scored, name)}
        effect, is_distinct, sentence = _effect(name, groups, score_name, direction, rng)
        values = tuple(ScoresOfValue(text, len(s), *(float(q) for q in np.quantile(s, [0.5, 0.25, 0.75]))) for text, s in groups.items())
        found.append(Importance(name, whole[i], float(lows[i]), float(highs[i]), values, effect, is_distinct, sentence))
    return tuple(sorted(found, key=lambda each: -each.share))


def _shares(trials: Sequence[Any], direction: str, names: Sequence[str]) -> list[float]:
    """Return the share that each name has in the importance that PED-ANOVA finds; of names under several conditions all together."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    from keras_ext.search.tuners.samplers import quiet
    from keras_ext.search.tuners.study import new_study

    study = new_study(direction)
    study.add_trials(trials)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where all scores are equal
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_GOOD)
        found = get_param_importances(study, evaluator=evaluator)
    shares = [float(sum(share for key, share in found.items() if key == name or key.startswith(f"{name} ("))) for name in names]
    return [share / (sum(shares) or 1.0) for share in shares]


def _effect(
    name: str, groups: dict[str, list[float]], score_name: str, direction: str, rng: np.random.Generator
) -> tuple[float | None, bool, str]:
    """Return the effect of the best value on the median score, whether it is distinct from none, and a sentence."""
    if len(groups) < 2:
        return None, False, f"{name}: every trial that has it has one value"
    best = (max if direction == "max" else min)(groups, key=lambda text: float(np.median(groups[text])))
    having, others = np.array(groups[best]), np.concatenate([s for text, s in groups.items() if text != best])
    effect = float(np.median(having) - np.median(others))
    draws = [np.median(rng.choice(s, size=(_DRAWS, len(s))), axis=1) for s in (having, others)]
    outside = _OUTSIDE / len(groups)
    low, high = np.quantile(draws[0] - draws[1], [outside / 2, 1 - outside / 2])
    is_distinct = min(len(having), len(others)) >= _FEWEST_OF_VALUE and bool(low > 0 or high < 0)
    counts = f"({len(having)} with, {len(others)} without)"
    if not is_distinct:
        return effect, False, f"{name}: its values are not told apart {counts}"
    size = f"{100 * effect:+.1f} points" if score_name.endswith(("accuracy", "acc")) else f"{effect:+.3g} {score_name}"
    return effect, True, f"{name} {best}: {size} in median {counts}"
