"""Full-batch descent on data whose gradients do not fit into memory at once."""

import math
from typing import Any

import keras
from keras import ops

from keras_ext._checks import bad_argument, integer
from keras_ext._warnings import warn
from keras_ext.schedules._batches import check_reductions, checked_arrays, cut


class FullBatch(keras.utils.PyDataset):
    """Make one step of the optimizer, for the gradient of all samples, an epoch, with at most `micro_batch` samples in memory.

    The samples are cut into as few equal parts as `micro_batch` allows, whose gradients the optimizer collects:

        data = FullBatch(x, y, micro_batch=256)
        model.compile(SGD(0.1, gradient_accumulation_steps=data.accumulation_steps), "mse")
        model.fit(data, epochs=100, callbacks=[data.callback()])

    Where the parts do not divide the samples evenly, the last is filled up with samples of weight 0, and all other weights are multiplied
    by `steps * size / samples`: Keras divides each weighted loss by the size of its part and the sum of the gradients by the number of
    parts, so gradient and loss are means over all samples, as from `fit` with a batch as large as the data. All parts then carry sample
    weights, beside which Keras takes no `class_weight`, and metrics that are not weighted count the added samples. The callback checks
    before the training that the optimizer collects so many parts. Under mixed_float16 Keras leaves out a part whose gradient is not finite;
    from there on the steps no longer begin with the epochs, of which the callback warns.

    The step is that of all samples only if a sample's loss does not depend on the others of its part: not with BatchNormalization in
    training, nor under a mask (Masking, `mask_zero`) that leaves parts of unequal length. For one sample a step (stochastic descent) pass
    `batch_size=1` to `fit`, for some (mini-batches) `batch_size=32`; `GrowingBatches` can begin with the one and end near all.

    Args:
        x: an array with one row a sample (NumPy, pandas, a tensor), or a list, tuple or dict of such. Lists come out as tuples, floats as
            `floatx`, as from `fit` with arrays.
        y: targets, likewise. None, for a model that needs none, where the parts are even.
        sample_weight: weights, likewise, of the loss that `y` makes.
        micro_batch: most samples in memory, at least 1.

    Raises:
        ValueError: an argument breaks its rule; in `fit` with the callback: the optimizer collects another number of parts, or is in the
            midst of a step, `steps_per_epoch` is given, or a loss is not a mean over the samples.

    Warns:
        UserWarning: with the callback: the steps no longer begin with the epochs.

    Examples:
        >>> import numpy as np
        >>> data = FullBatch(np.zeros((8, 2)), np.zeros(8), micro_batch=3)
        >>> data.accumulation_steps, data.size
        (3, 3)
        >>> data[2][2].tolist()
        [1.125, 1.125, 0.0]
    """

    def __init__(self, x: Any, y: Any = None, sample_weight: Any = None, *, micro_batch: int) -> None:
        super().__init__()
        integer("micro_batch", micro_batch)
        self._data, self._samples = checked_arrays(x, y, sample_weight)
        self._steps = -(-self._samples // micro_batch)
        # The smallest that makes no more parts: less to add.
        self.size = math.ceil(self._samples / self._steps)
        self._padding = self._steps * self.size - self._samples
        if self._padding and y is None:
            rule = f"a number that divides {self._samples} samples evenly, without `y`"
            fix = "What is added to the last part has the weight 0 in the loss that targets make."
            raise bad_argument("micro_batch", rule, micro_batch, fix)

    @property
    def accumulation_steps(self) -> int | None:
        """The number of parts, for the optimizer's `gradient_accumulation_steps`; None if one holds all samples."""
        return self._steps if self._steps > 1 else None

    def callback(self) -> keras.callbacks.Callback:
        """Return the callback that checks, when a training begins, that an epoch will be one step."""
        return _CheckFullBatch(self._steps)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return a part: `(x,)`, `(x, y)` or, where there are weights or samples had to be added, `(x, y, sample_weight)`."""
        if not 0 <= index < self._steps:
            raise IndexError(f"There are {self._steps} parts, there is none of index {index}.")
        begin = index * self.size
        scale = 1 + self._padding / self._samples if self._padding else None
        if not self._padding or index < self._steps - 1:
            return cut(self._data, slice(begin, begin + self.size), 0, scale)
        return cut(self._data, [*range(begin, self._samples), *[begin] * self._padding], self._padding, scale)


class _CheckFullBatch(keras.callbacks.Callback):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self._has_warned = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        steps = (self.params or {}).get("steps")
        if steps != self.steps:
            rule = f"None, and `x` the FullBatch of {self.steps} parts that the callback is from"
            raise bad_argument("steps_per_epoch", rule, f"{steps} steps an epoch")
        given = self._optimizer.gradient_accumulation_steps
        if (given or 1) != self.steps:
            rule = f"{self.steps if self.steps > 1 else None}, so that an epoch is one step"
            fix = "Pass `gradient_accumulation_steps=data.accumulation_steps` to the optimizer."
            raise bad_argument("gradient_accumulation_steps", rule, given, fix)
        check_reductions(self.model, ("sum_over_batch_size", "mean"), "as the mean of all samples is put together from those of the parts")
        self._has_warned = False
        parts = self._collected_parts()
        if parts:
            raise ValueError(
                f"The optimizer holds the gradients of {parts} of {self.steps} parts, from a training that was interrupted. "
                "Compile the model with a new optimizer, or load its state from the end of an epoch."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._has_warned and self._collected_parts():
            self._has_warned = True
            warn(
                "The optimizer left out parts whose gradients were not finite, so its steps no longer begin with the epochs. "
                "Loss scaling does so in float16; mixed_bfloat16 needs none."
            )

    @property
    def _optimizer(self) -> Any:
        """The optimizer that collects: of a LossScaleOptimizer, the one that it wraps."""
        return getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)

    def _collected_parts(self) -> int:
        return sum(int(ops.convert_to_numpy(v)) for v in self._optimizer.variables if v.name == "iteration") % self.steps
