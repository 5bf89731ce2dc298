"""The scores of scikit-learn's classical models beside those of the networks: on the same samples, inputs and metric."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ext.automl.goal import Goal
from keras_ext.automl.preparation import Preparation
from keras_ext.search.folds import Folds
from keras_ext.tables._columns import Category
from keras_ext.tables.data import Split
from keras_ext.tables.data.table import joined

# Of so few numbers several threads only wait for one another.
_FEW_NUMBERS = 2_000_000
# scikit-learn's trees split categories of at most so many values; more are ordered by their names.
_MOST_CATEGORIES = 255


@dataclass(frozen=True)
class Baseline:
    """A classical model with scikit-learn's own settings, and its scores.

    Args:
        name: its class in scikit-learn.
        score: on the samples of validation; with folds the mean of those on each.
        test_score: on the samples that no trial saw; None where there are none.
        seconds: of training and prediction.
    """

    name: str
    score: float
    test_score: float | None
    seconds: float


def baselines(prepared: Preparation, split: Split, refit: bool = False, seed: int = 0) -> tuple[Baseline, ...]:
    """Train gradient-boosted trees and a linear model on the samples of training, and return their scores, the better one first.

    Trees are `HistGradientBoostingClassifier` or `...Regressor`, linear models `LogisticRegression` or `Ridge`. Where a class is rare,
    the classes count alike. Images and series, which such models know nothing of, get none.

    Args:
        prepared: how the inputs come to the networks; the models get the same.
        split: the samples.
        refit: train again on the samples of training and validation together before the test, as the best network is.
        seed: of the models.
    """
    goal, x = prepared.goal, prepared.inputs(split.x)
    assert goal is not None
    if x.ndim != 2:
        return ()
    from threadpoolctl import threadpool_limits  # comes with scikit-learn, which takes a second

    validation = prepared.inputs(split.x_validation)
    parts = [(x, split.y, validation, split.y_validation)]
    if split.folds is not None:
        folds = Folds(split.folds)
        parts = [(*training, *held_out) for training, held_out in (folds.parts(fold, (x, split.y)) for fold in range(folds.count))]
    test = None if split.y_test is None else prepared.inputs(split.x_test)
    found = []
    with threadpool_limits(1 if x.size < _FEW_NUMBERS else None), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a linear model that is not at its optimum after 1000 steps, and of columns without values
        for model in _models(prepared, goal.is_imbalanced, seed):
            began = time.monotonic()
            scores, tested = [], None
            for x_training, y_training, x_validation, y_validation in parts:
                model.fit(x_training, y_training)
                scores.append(goal.score(y_validation, _predicted(model, x_validation, goal.classes)))
            score = float(np.mean(scores))
            if test is not None and split.y_test is not None:
                if refit:
                    model.fit(joined(x, validation), np.concatenate([split.y, split.y_validation]))
                tested = goal.score(split.y_test, _predicted(model, test, goal.classes))
            name = type(model[-1] if hasattr(model, "steps") else model).__name__
            found.append(Baseline(name, score, tested, time.monotonic() - began))
    return tuple(sorted(found, key=lambda each: each.score, reverse=goal.direction == "max"))


def verdict(found: Sequence[Baseline], network: tuple[float, float | None] | None, goal: Goal, samples: int, folds: int = 0) -> str:
    """Return one sentence that compares the best network with the baseline that is better in validation; empty where one is missing.

    They are compared by the test where there is one, else by the validation or the folds. `network` has the best network's two scores.
    """
    if not found or network is None:
        return ""
    best = found[0]
    theirs, ours, part = best.score, network[0], "validation"
    if best.test_score is not None and network[1] is not None:
        theirs, ours, part = best.test_score, network[1], "test"
    where = f"in the mean of {folds} folds" if folds and part == "validation" else f"on the {samples} samples of the {part}"
    if goal.is_better(theirs, ours):
        return f"scikit-learn's {best.name} beats the best network: {goal.name} {theirs:.4f} against {ours:.4f} {where}"
    than = "as good as" if theirs == ours else "better than"
    return f"the best network is {than} scikit-learn's {best.name}: {goal.name} {ours:.4f} against {theirs:.4f} {where}"


def _models(prepared: Preparation, is_imbalanced: bool, seed: int) -> tuple[Any, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = () if prepared.features is None else prepared.features.columns
    categories = [i for i, column in enumerate(columns) if isinstance(column, Category)]
    few = [i for i in categories if len(columns[i].vocabulary) <= _MOST_CATEGORIES]
    weights: dict[str, Any] = {"class_weight": "balanced"} if is_imbalanced else {}
    scaler = _encoder(columns, categories) if columns else StandardScaler()
    if prepared.classes:
        trees: Any = HistGradientBoostingClassifier(categorical_features=few or None, random_state=seed, **weights)
        return trees, make_pipeline(scaler, LogisticRegression(max_iter=1000, **weights))
    return HistGradientBoostingRegressor(categorical_features=few or None, random_state=seed), make_pipeline(scaler, Ridge())


def _encoder(columns: Any, categories: list[int]) -> Any:
    """Return what makes of encoded columns the features that the networks see, sparse where there are many."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    numbers = [i for i in range(len(columns)) if i not in set(categories)]
    filled = SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True)
    return make_column_transformer((OneHotEncoder(handle_unknown="ignore"), categories), (filled, numbers))


def _predicted(model: Any, x: np.ndarray, classes: int | None) -> np.ndarray:
    if classes is None:
        return model.predict(x).astype("float32")
    shares = np.zeros((len(x), classes), "float32")
    shares[:, model.classes_] = model.predict_proba(x)
    return shares
