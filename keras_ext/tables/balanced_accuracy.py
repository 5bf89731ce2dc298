"""Balanced accuracy: the mean of the shares of each class that are predicted right."""

from typing import Any

import keras
from keras import ops

from keras_ext._checks import integer

# Each class has a number of its own in the memory of a metric, and a unit of the network.
MOST_CLASSES = 1_000_000


@keras.saving.register_keras_serializable(package="keras_ext")
class BalancedAccuracy(keras.metrics.Metric):
    """Compute the mean over the classes of the share of their samples that is predicted right.

    Guessing the most frequent class always gives 1 / classes, however frequent it is. Classes without samples do not count.

    Args:
        classes: number of classes, 2 to 1,000,000.
        **kwargs: `name` and `dtype`, as those of `keras.metrics.Metric`.

    Raises:
        ValueError: `classes` is no such number.

    References:
        Brodersen, Ong, Stephan and Buhmann (2010), The balanced accuracy and its posterior distribution.

    Examples:
        >>> metric = BalancedAccuracy(2)
        >>> metric.update_state([0, 0, 0, 1], [[0.9, 0.1]] * 4)
        >>> float(metric.result())
        0.5
    """

    def __init__(self, classes: int, name: str = "balanced_accuracy", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.classes = integer("classes", classes, 2, MOST_CLASSES)
        self.right = self.add_variable((self.classes,), "zeros", name="right")
        self.total = self.add_variable((self.classes,), "zeros", name="total")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count samples.

        Args:
            y_true: class numbers, shape (batch,) or (batch, 1).
            y_pred: probabilities or logits, shape (batch, classes).
            sample_weight: weights of the samples, shape (batch,) or (batch, 1); None: 1 each.
        """
        y_true = ops.cast(ops.reshape(ops.convert_to_tensor(y_true), (-1,)), "int32")
        found = ops.cast(ops.argmax(ops.convert_to_tensor(y_pred), axis=-1), "int32")
        weight = ops.ones_like(y_true, self.dtype) if sample_weight is None else ops.reshape(ops.cast(sample_weight, self.dtype), (-1,))
        right = weight * ops.cast(ops.equal(y_true, found), self.dtype)
        self.right.assign_add(ops.segment_sum(right, y_true, num_segments=self.classes))
        self.total.assign_add(ops.segment_sum(weight, y_true, num_segments=self.classes))

    def result(self) -> Any:
        """Return the balanced accuracy, 0 before any sample."""
        there = ops.cast(self.total > 0, self.dtype)
        shares = ops.divide_no_nan(self.right, self.total)
        return ops.divide_no_nan(ops.sum(shares), ops.sum(there))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "classes": self.classes}
