"""Batches whose size grows over the epochs, where a schedule would let the learning rate fall."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_ext._checks import bad_argument, flag, in_range, integer, one_of
from keras_ext._warnings import warn
from keras_ext.schedules._batches import check_reductions, checked_arrays, cut


class GrowingBatches(keras.utils.PyDataset):
    """Cut arrays into batches of a size that depends on the epoch.

    A batch that grows does what a learning rate that falls does, with fewer steps. The noise of a step has the scale
    `g = eps * (N / B - 1)`, about `eps * N / B` for batches much smaller than the data, with the learning rate `eps`, `N` samples and
    the batch size `B`: a batch k times as large stands for a rate divided by k. With momentum m the rate counts as `eps / (1 - m)`. Sizes
    that grow by the factor by which the rate fell, at the same epochs, replace its schedule, until the batch is as large as the machine or
    N / 10 allows; from there on the rate falls as ever.

    Keras passes a dataset neither the number of the epoch nor the start of a training, so `fit` needs `callback()` too:

        data = GrowingBatches(x, y, batch_sizes={0: 32, 30: 160, 60: 800})
        model.fit(data, epochs=90, shuffle=False, callbacks=[data.callback()])

    `seed` and the number of the epoch alone determine the order of the samples: a training that goes on with `initial_epoch=40`, or from a
    backup, sees what an uninterrupted one would have seen. With Keras's default, `shuffle=True`, Python's `random` draws which batch comes
    first; that warns. A search, `tuner.search(data, shuffle=False, callbacks=[data.callback()])`, begins every trial with epoch 0. Evaluate
    and predict with the arrays themselves. Schedules of the learning rate count steps, of which later epochs have fewer: `steps(epochs)`
    says how many.

    With `remainder="pad"` the batch that is short is filled up with samples of the epoch's beginning, whose weight is 0. The weights of
    the others are multiplied by `size / samples`, as Keras divides a weighted loss by the size: loss, gradient and weighted metrics are
    those of the short batch. What else observes all samples sees the added ones, and wants `"drop"`: metrics that are not weighted,
    BatchNormalization, losses that layers add, and losses under a mask (Masking, `mask_zero`). In the mean over an epoch the short batch
    counts as a full one. All batches then carry sample weights, beside which Keras takes no `class_weight`.

    A new size costs JAX, and TensorFlow with XLA, one more compilation; TensorFlow traces the step once for all sizes.

    Args:
        x: an array with one row a sample (NumPy, pandas, a tensor), or a list, tuple or dict of such. Lists come out as tuples, floats as
            `floatx`, as from `fit` with arrays.
        y: targets, likewise; None for a model that needs none.
        sample_weight: weights, likewise, of the loss that `y` makes.
        batch_sizes: from the first epoch, counted from 0, of each size to the size: `{0: 32, 30: 160}`. No size is above the number of
            samples.
        remainder: what becomes of the samples that fill no batch: `"drop"` leaves them out of this epoch, `"pad"` fills up the batch.
        shuffle: whether to draw a new order for each epoch.
        seed: of the orders, at least 0.
        **kwargs: `workers`, `use_multiprocessing` and `max_queue_size` of `keras.utils.PyDataset`. Batches are cut in memory, so workers
            gain little; where Keras builds a model from a batch (JAX, PyTorch, distributed TensorFlow) there can be only one.

    Raises:
        ValueError: an argument breaks its rule; in `fit`: `callback()` is missing, `steps_per_epoch` is given, there are too many workers,
            or batches are padded for a loss that is no mean.

    Warns:
        UserWarning: `fit` was not given `shuffle=False`.

    Examples:
        >>> data = GrowingBatches(np.zeros((100, 3)), np.zeros(100), batch_sizes={0: 10, 2: 50})
        >>> for epoch in range(3):
        ...     data.begin_epoch(epoch)
        ...     print(len(data), data[0][0].shape)
        10 (10, 3)
        10 (10, 3)
        2 (50, 3)

    References:
        Smith, Kindermans, Ying and Le (2018), "Don't Decay the Learning Rate, Increase the Batch Size", arXiv:1711.00489, sections 2 to 4.
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, batch_sizes: Mapping[int, int],
        remainder: str = "drop", shuffle: bool = True, seed: int = 0, **kwargs: Any,
    ) -> None:  # fmt: skip
        for name in ("workers", "max_queue_size"):
            integer(name, kwargs.get(name, 1), 0)
        flag("use_multiprocessing", kwargs.get("use_multiprocessing", False))
        super().__init__(**kwargs)
        self._data, self._samples = checked_arrays(x, y, sample_weight)
        self.batch_sizes = _checked_sizes(batch_sizes, self._samples)
        self.remainder = one_of("remainder", remainder, ("drop", "pad"))
        if remainder == "pad" and y is None:
            fix = "What is added has the weight 0 in the loss that targets make."
            raise bad_argument("remainder", '"drop" without `y`', remainder, fix)
        self.shuffle = flag("shuffle", shuffle)
        self.seed = integer("seed", seed, 0)
        self._steps = np.array(0).view(_Steps)
        self.begin_epoch(0)
        self._was_read_ahead = self._awaits_first_batch = False
        self._forget_hooks()

    @classmethod
    def geometric(
        cls, x: Any, y: Any = None, sample_weight: Any = None, *, initial: int, factor: float, every: int, largest: int | None = None,
        **kwargs: Any,
    ) -> "GrowingBatches":  # fmt: skip
        """Return batches of `initial * factor**k` samples, rounded down, from epoch `k * every` on.

        The size grows by `factor` above 1 (the paper divides rates by 5) up to `largest`, by default the number of samples. All other
        arguments are those of the class.

        Examples:
            >>> x = np.zeros((1000, 3))
            >>> GrowingBatches.geometric(x, initial=32, factor=5, every=10, largest=400).batch_sizes
            {0: 32, 10: 160, 20: 400}
        """
        integer("initial", initial)
        in_range("factor", factor, 1.0, closed="neither")
        integer("every", every)
        samples = checked_arrays(x)[1]
        end = samples if largest is None else integer("largest", largest, initial)
        sizes, k = {0: initial}, 0
        while sizes[max(sizes)] < end:
            k += 1
            size = min(int(initial * factor**k), end)
            if size > sizes[max(sizes)]:
                sizes[k * every] = size
        return cls(x, y, sample_weight, batch_sizes=sizes, **kwargs)

    def callback(self) -> keras.callbacks.Callback:
        """Return the callback that reports the data of a `fit` which epoch begins; copies of it do too."""
        return _EpochCallback()

    def begin_epoch(self, epoch: int) -> None:
        """Cut batches for `epoch`, counted from 0, from now on: what the callback does, for training loops of one's own."""
        self._epoch = integer("epoch", epoch, 0)
        self._steps[...] = self._batches(epoch)
        rows = np.arange(self._samples)
        self._order = np.random.default_rng([self.seed, self._epoch]).permutation(rows) if self.shuffle else rows

    def batch_size(self, epoch: int) -> int:
        """Return the batch size of an epoch."""
        integer("epoch", epoch, 0)
        return self.batch_sizes[max(first for first in self.batch_sizes if first <= epoch)]

    def steps(self, epochs: int) -> int:
        """Return the number of batches of all epochs before `epochs`."""
        return sum(self._batches(epoch) for epoch in range(integer("epochs", epochs, 0)))

    def _batches(self, epoch: int) -> int:
        size = self.batch_size(epoch)
        return self._samples // size if self.remainder == "drop" else -(-self._samples // size)

    def __len__(self) -> int:
        return int(self._steps)

    @property
    def num_batches(self) -> Any:
        """The batches of the epoch, as an array of no axes: Keras asks once, and reads what it was given at the beginning of each epoch."""
        self._steps.data_set = self
        return self._steps

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return a batch of the epoch: `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""
        if not 0 <= index < len(self):
            raise IndexError(f"Epoch {self._epoch} has {len(self)} batches, there is none of index {index}.")
        if self._awaits_first_batch and not self._has_workers:
            self._awaits_first_batch = False
            if index:
                warn(
                    "`fit` draws the order of the batches with Python's `random`, so a training that is resumed would see another one. "
                    "Pass `shuffle=False` to `fit`: the samples are shuffled by `seed` and epoch."
                )
        order, size = self._order, self.batch_size(self._epoch)
        chosen = order[index * size : (index + 1) * size]
        if self.remainder == "drop":
            return cut(self._data, chosen)
        padding = size - len(chosen)
        return cut(self._data, np.concatenate([chosen, order[:padding]]), padding, size / len(chosen))

    def on_epoch_begin(self) -> None:
        """Check that the callback has reported the epoch.

        Before the first Keras may begin one to build the model from a batch, and always ends one: what begins after that is an epoch.
        """
        announced, self._is_announced = self._is_announced, False
        if not announced and self._must_be_announced:
            self._must_be_announced = False
            raise ValueError(
                "GrowingBatches cannot know which epoch begins without its callback: "
                "`model.fit(data, shuffle=False, callbacks=[data.callback()])`. To evaluate, give the arrays themselves."
            )
        self._was_read_ahead = not announced
        self._in_epoch = self._awaits_first_batch = announced

    def on_epoch_end(self) -> None:
        """Note the end of an epoch; Keras also calls it before the first."""
        self._must_be_announced = not self._in_epoch
        self._in_epoch = False

    def _forget_hooks(self) -> None:
        """Forget where a training stands; one that failed may have left off anywhere."""
        self._is_announced = self._in_epoch = self._must_be_announced = False

    @property
    def _has_workers(self) -> bool:
        return self.workers > 1 or self.use_multiprocessing

    def _begin_training(self, model: Any) -> None:
        read_ahead, self._was_read_ahead = self._was_read_ahead, False
        if self._has_workers and read_ahead:
            rule = "1, without multiprocessing, where Keras builds the model from a batch"
            raise bad_argument("workers", rule, self.workers, "It would train on what the workers have read ahead for that.")
        if self.remainder == "pad":
            check_reductions(model, ("sum_over_batch_size", "mean", "mean_with_sample_weight"), 'or pass remainder="drop"')


class _Steps(np.ndarray):
    """The number of batches of the epoch that a `GrowingBatches` is in; copies of it do not change with the epoch."""

    data_set: GrowingBatches | None = None


class _EpochCallback(keras.callbacks.Callback):
    """Tells the `GrowingBatches` that a `fit` trains on which epoch begins.

    It finds it by the number of steps and holds it in a training alone: a search copies its callbacks and not its data, and what is pickled
    twice is two.
    """

    _data_set: GrowingBatches | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        super().set_params(params)
        self._data_set = getattr(params.get("steps"), "data_set", None)
        if self._data_set is not None:
            self._data_set._forget_hooks()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._data_set is None:
            rule, steps = "None, and `x` a GrowingBatches, where its callback is given", (self.params or {}).get("steps")
            raise bad_argument("steps_per_epoch", rule, steps, "How many steps an epoch has follows from its batch size.")
        self._data_set._begin_training(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._data_set is not None:
            self._data_set.begin_epoch(epoch)
            self._data_set._is_announced = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self._data_set is not None:
            self._data_set.begin_epoch(0)
            self._data_set._forget_hooks()
            self._data_set = None


def _checked_sizes(sizes: Any, samples: int) -> dict[int, int]:
    if not isinstance(sizes, Mapping) or not sizes:
        raise bad_argument("batch_sizes", "a mapping of epochs to batch sizes", sizes, "Such as {0: 32, 30: 160}.")
    for epoch, size in sizes.items():
        integer("epoch of batch_sizes", epoch, 0)
        integer("size of batch_sizes", size)
        if size > samples:
            raise bad_argument("size of batch_sizes", f"at most the number of samples, {samples}", size)
    if 0 not in sizes:
        raise bad_argument("batch_sizes", "a mapping that names the size of epoch 0", sizes)
    return {int(epoch): int(sizes[epoch]) for epoch in sorted(sizes)}
