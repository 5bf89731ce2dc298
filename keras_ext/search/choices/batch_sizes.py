"""The batch size as a hyperparameter, from one sample to all of them."""

from collections.abc import Sequence
from typing import Any

from keras_ext._checks import bad_argument, integer, integers, items


def batch_size(hp: Any, samples: int, name: str = "batch_size", sizes: Sequence[int | str] = (16, 32, 64, 128)) -> int:
    """Choose a batch size, from 16 to 128 or of `sizes`, as far as the data has as many samples twice; half of them where none fits.

    A GPU computes larger batches in the time of small ones: give `sizes` up to some thousands there.

    - Stochastic descent: 1 among `sizes`. An epoch has as many steps as there are samples. Batch normalization has no use for batches of
      one; see `normalization`.
    - Full-batch descent: `"full"` among `sizes`, which is the number of samples. An epoch is one step. A step keeps the activations of all
      samples for the gradient, so that memory grows with their number; the search spaces of the package take them in parts of at most
      `micro_batch`, and `schedules.FullBatch` does it for a network of your own.

    Args:
        hp: KerasTuner's hyperparameters.
        samples: of training.
        name: of the hyperparameter, whose values are numbers.
        sizes: to choose from, positive whole numbers and `"full"`.

    Raises:
        ValueError: `samples` or one of `sizes` is something else.

    Examples:
        >>> import keras_tuner
        >>> batch_size(keras_tuner.HyperParameters(), samples=1000), batch_size(keras_tuner.HyperParameters(), samples=20)
        (16, 10)
        >>> batch_size(keras_tuner.HyperParameters(), samples=1000, sizes=(256, 512, 1024))
        256
        >>> batch_size(keras_tuner.HyperParameters(), samples=1000, sizes=("full", 1, 32))
        1000
    """
    return hp.Choice(name, offered_batch_sizes(samples, sizes))


def offered_batch_sizes(samples: int, sizes: Sequence[int | str]) -> list[int]:
    """Return what `batch_size` lets choose from.

    >>> offered_batch_sizes(100, (1, 32, 64, "full"))
    [1, 32, 100]
    """
    integer("samples", samples)
    fitting = [samples if size == "full" else size for size in checked_batch_sizes(sizes) if size == "full" or 2 * size <= samples]
    return list(dict.fromkeys(fitting)) or [max(1, samples // 2)]


def checked_batch_sizes(sizes: Any, name: str = "sizes") -> tuple[Any, ...]:
    """Return batch sizes as a tuple: positive whole numbers and `"full"`.

    >>> checked_batch_sizes([1, 32, "full"])
    (1, 32, 'full')
    """
    found = items(sizes) or ()
    try:
        numbers = integers(name, [1 if isinstance(size, str) and size == "full" else size for size in found])
    except ValueError:
        raise bad_argument(name, 'a sequence of positive whole numbers and "full"', sizes) from None
    return tuple("full" if isinstance(size, str) else number for size, number in zip(found, numbers, strict=True))
