"""The samples that the monitor observes, from whatever `fit` is given, and whether a model can take them."""

import contextlib
import copy
import itertools
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._arrays import NAMES, checked_samples
from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument, integer
from keras_ext._warnings import warn
from keras_ext._wording import one_line
from keras_ext.callbacks.monitor.probe import dense

# Where shapes differ, few batches fit the first: an endless stream must not be read forever, nor a long one to its end.
_READ_AT_MOST = 4


def probe_batch(x: Any, y: Any = None, sample_weight: Any = None, *, size: int, seed: int) -> tuple[Any, Any, Any]:
    """Return at most `size` samples as NumPy arrays of their own, from arrays or from a dataset of batches.

    From arrays it draws with `seed`, without repetition, in the order of the data. From a dataset it takes the first samples; of batches
    that differ in shape (sequences of several lengths) those shaped as the first, and reads about four times `size` samples for them.
    Sparse samples become dense. Of ragged ones it takes those of the median length or more, cut to it.

    Reading a dataset leaves the global generators of Python, NumPy and PyTorch and those of a DataLoader as they were. What else a
    dataset keeps for itself moves on: a tf.data.Dataset that reshuffles gives `fit` its second order first. A DataLoader is read in this
    process, without its workers and their `worker_init_fn`.

    `x` is an array (NumPy, pandas, SciPy's sparse ones, a tensor of any framework, text too) or a list, tuple or dict of arrays. Or it is a
    dataset that can be read again: a tf.data.Dataset, a keras.utils.PyDataset, a PyTorch DataLoader or any other iterable of batches x,
    (x, y) or (x, y, sample_weight).

    Raises:
        TypeError: `x` is a generator, or something is no array with one row a sample.
        ValueError: the numbers of samples differ or are 0, or `y` or `sample_weight` stands beside a dataset.

    Warns:
        UserWarning: all targets are of one class, as integers or one-hot. Targets that are floats and not one-hot are not judged.
    """
    integer("size", size)
    integer("seed", seed, 0)
    if is_dataset(x):
        for name, value, what in (("y", y, "targets"), ("sample_weight", sample_weight, "sample weights")):
            if value is not None:
                fix = f"As for `fit`, the {what} must be part of its batches: (x, y) or (x, y, sample_weight)."
                raise bad_argument(name, f"None where `x` is a dataset ({type(x).__name__})", type(value).__name__, fix)
        data = _first(x, size)
    else:
        fix = "Give a few hundred samples as arrays, whatever `fit` is given."
        rule = "an array, or a list or dict of arrays"
        arrays, _ = checked_samples((x, y, sample_weight), rule, fix, TypeError, dense.leaf, dense.can_be_cut, dense.count)
        lengths: dict[Any, int] = {}
        places = np.flatnonzero(dense.long_enough(arrays, lengths))
        chosen = np.random.default_rng(seed).permutation(len(places))[: min(size, dense.most_rows(arrays))]
        data = dense.rows(arrays, places[np.sort(chosen)], lengths)
    if any(_is_one_class(a) for a in tree.flatten(data[1]) if a is not None):
        warn(
            f"The {_rows(data)} samples that were taken are all of one class, so they say little about how the model learns. "
            "Shuffle the data before it is cut into batches, or give a sample of all classes as arrays."
        )
    return data


def _first(dataset: Any, size: int) -> tuple[Any, Any, Any]:
    parts: list[Any] = []
    shapes: Any = None
    missing, read = size, 0
    lengths: dict[Any, int] = {}
    with random_state_kept(dataset):
        for given in map(_checked, _batches(dataset)):
            read += max(_rows(given), 1)
            places = np.flatnonzero(dense.long_enough(given, lengths))
            batch = dense.rows(given, places[: min(missing, dense.most_rows(given))], lengths)
            rows = _rows(batch)
            own_shapes = [(path, None if a is None else a.shape[1:]) for path, a in tree.flatten_with_path(batch)]
            shapes = shapes or own_shapes
            if rows and own_shapes == shapes:
                # A copy: a dataset may fill the same array again for its next batch.
                parts.append(batch)
                missing -= rows
            if not missing or read >= _READ_AT_MOST * size:
                break
    if not parts:
        fix = "It gave none. A file name or a filter may be wrong."
        raise bad_argument("x", "a dataset of at least one sample", type(dataset).__name__, fix)
    return tree.map_structure(lambda *a: None if a[0] is None else np.concatenate(a), *parts)


def is_dataset(x: Any) -> bool:
    """Return whether `x` is a dataset of batches, and no arrays."""
    # Sparse and ragged arrays are no NumPy arrays, but have both a shape and a type.
    is_array = hasattr(x, "__array__") or (hasattr(x, "shape") and hasattr(x, "dtype"))
    is_iterable = isinstance(x, Iterable) and not is_array and not isinstance(x, list | tuple | dict | str | bytes)
    return isinstance(x, keras.utils.PyDataset) or is_iterable


def _is_data_loader(x: Any) -> bool:
    return any(c.__name__ == "DataLoader" and c.__module__.startswith("torch.utils.data") for c in type(x).__mro__)


def _batches(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, keras.utils.PyDataset):
        # Not by its own `__iter__`: that of Keras's image iterators never ends and hands out the dataset itself.
        count = dataset.num_batches
        return (dataset[i] for i in (itertools.count() if count is None else range(count)))
    if _is_data_loader(dataset):
        # Workers would outlive a stream that is not read to its end.
        dataset = copy.copy(dataset)
        dataset.num_workers = dataset.timeout = 0
    batches = iter(dataset)
    if batches is dataset:
        fix = "A generator gives its samples once, and `fit` needs them. Give a few hundred samples as arrays, such as `x[:512], y[:512]`."
        raise bad_argument("x", "arrays, or a dataset that can be read again", type(dataset).__name__, fix, TypeError)
    return batches


def _checked(batch: Any) -> tuple[Any, Any, Any]:
    arrays = tree.map_structure(dense.leaf, batch)
    leaves = [a for a in tree.flatten(arrays) if a is not None]
    fits = not isinstance(batch, list | tuple) or 1 <= len(batch) <= 3
    fits = fits and all(map(dense.can_be_cut, leaves)) and len(set(map(dense.count, leaves))) == 1
    data = keras.utils.unpack_x_y_sample_weight(arrays) if fits else (None, None, None)
    if all(a is None for a in tree.flatten(data[0])):
        raise bad_argument(
            "x", "a dataset of batches x, (x, y) or (x, y, sample_weight), arrays with one row a sample",
            [f"{a.dtype} {a.shape}" if isinstance(a, np.ndarray) else type(a).__name__ for a in leaves],
            "Cut it into batches as `fit` needs them, such as `dataset.batch(32)`, or give a few hundred samples as arrays.",
            TypeError,
        )  # fmt: skip
    return data


def _rows(data: Any) -> int:
    return next(dense.count(a) for a in tree.flatten(data) if a is not None)


def _is_one_class(y: np.ndarray) -> bool:
    if len(y) < 2 or not y.size or y.dtype.kind not in "biuf":
        return False
    if y.ndim > 1 and y.shape[-1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=-1) == 1).all():
        y = y.argmax(axis=-1)
    return y.dtype.kind != "f" and bool((y == y.flat[0]).all())


@contextlib.contextmanager
def random_state_kept(x: Any) -> Iterator[None]:
    """Put the generators that reading `x` may draw from back as they were when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    owners = [x, getattr(x, "sampler", None), getattr(x, "batch_sampler", None)] if _is_data_loader(x) else []
    owners += [getattr(owner, "sampler", None) for owner in owners]
    generators: list[Any] = [getattr(owner, "generator", None) for owner in owners]
    kept = [(g, g.get_state()) for g in generators if hasattr(g, "get_state")]
    torch = sys.modules.get("torch")  # who has not imported it draws nothing from it
    try:
        if torch is None:
            yield
        else:
            with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
                yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for generator, state in kept:
            generator.set_state(state)


def build(model: keras.Model, data: tuple[Any, Any, Any]) -> None:
    """Make the weights of a model that has none yet, by a symbolic call, which computes and changes nothing."""
    if keras_private.is_built(model):
        return
    dtypes = {"f": keras.config.floatx(), "U": "string", "S": "string"}
    try:
        model(tree.map_structure(lambda a: keras.Input(a.shape[1:], dtype=dtypes.get(a.dtype.kind, a.dtype.name)), data[0]))
    except Exception as error:
        raise cannot("built", model, data, error) from error


def check_targets(model: keras.Model, data: tuple[Any, Any, Any]) -> None:
    """Refuse data without targets for a model that is compiled with a loss."""
    if _lacks_targets(model, data):
        raise bad_argument("y", "targets, as the model is compiled with a loss", None, "Give them as `fit` takes them.")


def _lacks_targets(model: keras.Model, data: tuple[Any, Any, Any]) -> bool:
    return getattr(model, "loss", None) is not None and all(a is None for a in tree.flatten(data[1]))


def cannot(what: str, model: keras.Model, data: tuple[Any, Any, Any], error: Exception) -> ValueError:
    """Return an error that reports what `model` was given, after `error`."""
    if _lacks_targets(model, data):
        fix = "Give the targets as `fit` takes them."
        if isinstance(data[0], list | tuple) and len(data[0]) in (2, 3):
            given = f"`x` is a {type(data[0]).__name__} of {len(data[0])} arrays"
            fix = f"{given}: if that is (x, y), write it as two arguments, such as `*data`."
        return ValueError(f"`model` cannot be {what} without `y`: it is compiled with a loss. {fix}")
    shapes = [
        f"`{name}` {', '.join(f'{a.dtype} {a.shape}' for a in tree.flatten(given) if a is not None)}"
        for name, given in zip(NAMES, data, strict=True)
        if any(a is not None for a in tree.flatten(given))
    ]
    inputs = getattr(model, "inputs", None)
    takes = f"; it takes {', '.join(str(tuple(i.shape)) for i in tree.flatten(inputs))}" if inputs else ""
    return ValueError(f"`model` cannot be {what} on this data: {', '.join(shapes)}{takes}. {one_line(error)}")
