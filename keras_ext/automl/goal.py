"""The score that a search is for: a metric of the target, and which way is better."""

import difflib
import functools
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_ext._checks import BadInput
from keras_ext.tables.data import Table
from keras_ext.tables.target_metric import TargetMetric

# Share of its fair share, 1 / classes, below which a class is rare: plain accuracy hardly counts it.
_RARE = 0.2
# What Keras itself computes from class numbers and from numbers of any unit; the name that its logs have is the same.
_PLAIN = {True: "accuracy", False: "r2_score"}
_COMMON = {
    True: ("accuracy", "balanced_accuracy", "roc_auc", "auc", "f1_score", "precision", "recall", "sparse_categorical_crossentropy"),
    False: ("r2_score", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error", "mean_absolute_percentage_error"),
}


@dataclass(frozen=True)
class Goal:
    """The metric that a search looks at.

    Args:
        name: of the metric, such as `"accuracy"`.
        direction: `"max"` or `"min"`.
        classes: number of classes; None for regression.
        is_imbalanced: whether a class is rare, so that class weights are worth a choice.
        why: the reason, where the data decided; one sentence.
        scale: of the numbers that a network predicts: they come divided by it, less `offset`.
        offset: likewise.
    """

    name: str
    direction: str = "max"
    classes: int | None = None
    is_imbalanced: bool = False
    why: str = ""
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, table: Table, name: str | None = None) -> "Goal":
        """Return the goal of a search on `table`: the metric `name`, or for None what the table asks for.

        Without a name it is the accuracy, or R2 of numbers. Where the smallest class has less than a fifth of its fair share, it is the
        balanced accuracy.

        Raises:
            BadInput: no metric that tells good predictions from bad ones has this name.
        """
        if table.classes is None:
            name = name or "r2_score"
            return cls(name, "max" if name == "r2_score" else _direction(name, None))
        counts = np.bincount(table.y, minlength=len(table.classes))
        rarest = int(counts.argmin())
        share = counts[rarest] / counts.sum()
        is_imbalanced, why = bool(share * len(counts) < _RARE), ""
        if is_imbalanced and name is None:
            why = (
                f"class {table.classes[rarest]} has {share:.1%} of the samples: the score is the balanced accuracy, the mean of the "
                "classes' shares that are right, and class weights are tried (--objective accuracy overrides)"
            )
        name = name or ("balanced_accuracy" if is_imbalanced else "accuracy")
        direction = "max" if name in ("accuracy", "balanced_accuracy") else _direction(name, len(counts))
        return cls(name, direction, len(counts), is_imbalanced, why)

    @property
    def is_plain(self) -> bool:
        """Whether Keras computes the metric from its name alone."""
        return self.name == _PLAIN[self.classes is not None]

    def metrics(self) -> list[Any]:
        """Return new metrics to compile a network with."""
        plain = _PLAIN[self.classes is not None]
        return [plain] if self.is_plain else [plain, TargetMetric(self.name, self.classes, self.scale, self.offset)]

    def score(self, y: np.ndarray, predicted: np.ndarray) -> float:
        """Return the metric of predictions: probabilities of shape (samples, classes), or numbers."""
        metric = TargetMetric(self.name, self.classes)
        metric.update_state(y, predicted if self.classes else np.reshape(predicted, (-1, 1)))
        return float(keras.ops.convert_to_numpy(metric.result()))

    @property
    def perfect(self) -> float | None:
        """The score that no other can better: 1 of shares and correlations, 0 of errors; None where right predictions score otherwise."""
        y, right, _ = _predictions(self.classes)
        bound = 1.0 if self.direction == "max" else 0.0
        return bound if self.score(y, right) == bound else None

    def is_better(self, score: float, than: float) -> bool:
        """Return whether one score is better than another."""
        return score > than if self.direction == "max" else score < than


@functools.cache
def _direction(name: str, classes: int | None) -> str:
    """Return the way in which a metric grows: right predictions are compared with wrong ones."""
    y, *predictions = _predictions(classes)
    try:
        scores = [Goal(name, classes=classes).score(y, predicted) for predicted in predictions]
    except (ValueError, TypeError):
        scores = [0.0, 0.0]
    if scores[0] == scores[1] or not np.isfinite(scores).all():
        known = _COMMON[classes is not None]
        near = difflib.get_close_matches(name, known, 1) or known[:3]
        what = "of classes" if classes else "of numbers"
        raise BadInput(
            f"`objective` must be the name of a Keras metric {what} that needs no arguments, got {name}. Such as {', '.join(near)}."
        )
    return "max" if scores[0] > scores[1] else "min"


def _predictions(classes: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return targets, right predictions of them, and wrong ones."""
    y = np.arange(classes or 5)
    right = np.eye(classes, dtype="float32") if classes else y[:, None].astype("float32")
    return (y, right, np.roll(right, 1, axis=-1)) if classes else (right, right, right[::-1] - 7)
