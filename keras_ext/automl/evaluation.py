"""The best network on the samples that no trial saw: its score, its mistakes by class, or its residuals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ext.automl.goal import Goal


@dataclass(frozen=True)
class ClassScore:
    """How well a class is known: `precision` of those predicted, `recall` of those there, each in [0, 1], and its `samples`."""

    name: str
    precision: float
    recall: float
    samples: int


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a network for the samples of a test, beside their targets.

    Args:
        score: the search's metric.
        y: class numbers, or the numbers to predict; shape (samples,).
        predicted: class numbers, or numbers, likewise.
        classes: names of the classes; None for regression.
    """

    score: float
    y: np.ndarray
    predicted: np.ndarray
    classes: tuple[str, ...] | None

    @classmethod
    def of(cls, y: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...] | None, goal: Goal) -> "Evaluation":
        """Evaluate a network's output: probabilities of shape (samples, classes), or numbers."""
        decided = predicted.argmax(axis=-1) if classes else predicted.reshape(-1).astype("float64")
        return cls(goal.score(y, predicted), y, decided, classes)

    @property
    def confusion(self) -> np.ndarray:
        """The confusion matrix: samples by their class (rows) and the predicted one (columns)."""
        from sklearn.metrics import confusion_matrix

        assert self.classes is not None
        return confusion_matrix(self.y, self.predicted, labels=range(len(self.classes)))

    @property
    def by_class(self) -> tuple[ClassScore, ...]:
        """Precision and recall of each class; a class that is never predicted has precision 0."""
        from sklearn.metrics import precision_recall_fscore_support

        assert self.classes is not None
        found = precision_recall_fscore_support(self.y, self.predicted, labels=range(len(self.classes)), zero_division=0)
        rows = zip(self.classes, *(values.tolist() for values in (found[0], found[1], found[3])), strict=True)
        return tuple(ClassScore(*row) for row in rows)

    def summary(self) -> dict[str, Any]:
        """Return what `results.json` says of it, beside the score."""
        if self.classes is None:
            errors = np.abs(self.predicted - self.y)
            return {"mean_absolute_error": float(errors.mean()), "median_absolute_error": float(np.median(errors))}
        scores = [{"class": c.name, "precision": c.precision, "recall": c.recall, "samples": c.samples} for c in self.by_class]
        return {"confusion_matrix": self.confusion.tolist(), "by_class": scores}
