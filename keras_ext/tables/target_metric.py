"""Any Keras metric by its name, of the target of a table."""

import math
from typing import Any

import keras
from keras import ops

from keras_ext._checks import bad_argument, in_range, integer
from keras_ext.tables.balanced_accuracy import MOST_CLASSES, BalancedAccuracy

# Of Keras's metrics those that take class numbers beside probabilities.
_OF_CLASS_NUMBERS = ("SparseCategoricalAccuracy", "SparseCategoricalCrossentropy", "SparseTopKCategoricalAccuracy", "BalancedAccuracy")
# With two classes these take the second class's probability alone.
_OF_ONE_CLASS = ("AUC", "Precision", "Recall", "TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives")


@keras.saving.register_keras_serializable(package="keras_ext")
class TargetMetric(keras.metrics.Metric):
    """Compute a Keras metric, known by its name, of a table's target: class numbers, or numbers in their own unit.

    Most metrics of Keras that compare classes take one-hot targets, and some take one probability. This one takes class numbers and
    the probabilities of all classes, and gives the metric what it takes. The AUC of more than two classes is the mean of the classes'.
    So is the F1 score, also of two classes.

    Args:
        metric: name of a metric of Keras, such as `"auc"` or `"mean_absolute_error"`; or `"balanced_accuracy"`, or `"roc_auc"`, which is
            the AUC.
        classes: number of classes, 2 to 1,000,000; None: the target is a number.
        scale: of numbers to predict: the unit in which predictions and targets come.
        offset: likewise: the zero of that unit.
        name: of the metric; None: `metric`.
        dtype: as that of `keras.metrics.Metric`.

    Raises:
        ValueError: Keras has no metric of that name, or it needs arguments.

    Examples:
        >>> metric = TargetMetric("auc", classes=2)
        >>> metric.update_state([0, 1, 1], [[0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> round(float(metric.result()), 4)
        1.0
    """

    def __init__(
        self, metric: str, classes: int | None = None, scale: float = 1.0, offset: float = 0.0, name: str | None = None, dtype: Any = None
    ) -> None:
        number = None if classes is None else integer("classes", classes, 2, MOST_CLASSES)
        inner = _metric_of(metric, number)
        super().__init__(name=name or metric, dtype=dtype)
        self.metric, self.classes, self._inner = metric, number, inner
        self.scale, self.offset = in_range("scale", scale, 0, closed="neither"), in_range("offset", offset, -math.inf)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Give a batch to the metric.

        Args:
            y_true: class numbers or numbers, shape (batch,) or (batch, 1).
            y_pred: probabilities of shape (batch, classes), or numbers of shape (batch, 1).
            sample_weight: weights of the samples; None: 1 each.
        """
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if self.classes is None:
            # By rows: some metrics compare the numbers of a sample, of which there is one.
            pairs = [ops.reshape(ops.cast(y, self.dtype), (-1, 1)) * self.scale + self.offset for y in (y_true, y_pred)]
            self._inner.update_state(*pairs, sample_weight=sample_weight)
            return
        numbers = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        kind = type(self._inner).__name__
        if kind in _OF_CLASS_NUMBERS:
            self._inner.update_state(numbers, y_pred, sample_weight=sample_weight)
        elif self.classes == 2 and _takes_one_class(kind):
            self._inner.update_state(ops.cast(numbers, self.dtype), y_pred[:, 1], sample_weight=sample_weight)
        else:
            self._inner.update_state(ops.one_hot(numbers, self.classes, dtype=self.dtype), y_pred, sample_weight=sample_weight)

    def result(self) -> Any:
        """Return the metric."""
        return self._inner.result()

    def reset_state(self) -> None:
        """Forget all samples."""
        self._inner.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"metric": self.metric, "classes": self.classes, "scale": self.scale, "offset": self.offset}
        return {**super().get_config(), **own}


def _takes_one_class(kind: str) -> bool:
    return kind in _OF_ONE_CLASS or kind.startswith("Binary")


def _metric_of(name: str, classes: int | None) -> Any:
    if classes is not None and name == "balanced_accuracy":
        return BalancedAccuracy(classes)
    if classes is not None and name in ("accuracy", "acc"):
        return keras.metrics.SparseCategoricalAccuracy()
    kind = "auc" if name == "roc_auc" else name
    try:
        found = keras.metrics.get(kind) if isinstance(kind, str) else None
    except ValueError:
        found = None
    if found is None:
        rule, fix = "the name of a metric of Keras that needs no arguments", "Such as auc, f1_score or mean_absolute_error."
        raise bad_argument("metric", rule, name, fix)
    if not isinstance(found, keras.metrics.Metric):
        return keras.metrics.MeanMetricWrapper(found, name=name)
    if isinstance(found, keras.metrics.AUC) and classes is not None and classes > 2:
        return keras.metrics.AUC(multi_label=True, num_labels=classes)
    if isinstance(found, keras.metrics.FBetaScore):
        return type(found)(average="macro")
    return found
