"""The probe's samples: the right ones, as arrays of their own, from whatever `fit` takes, and without a trace."""

import itertools
import linecache
import multiprocessing
import random
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.probe.probe import Probe
from keras_ext.callbacks.monitor.probe.samples import probe_batch


def arrays(n=100):
    """Return x, y and weights of which each row reports its number."""
    rows = np.arange(n)
    return rows[:, None] + np.zeros((n, 3)), rows % 2, rows / 1000


def numbers(x):
    return np.asarray(x)[:, 0].astype(int).tolist()


class Batches(keras.utils.PyDataset):
    """Batches of `arrays()`, noting which were asked for; without end where `n` is None."""

    def __init__(self, n=100, rows=8):
        super().__init__()
        self.n, self.rows, self.asked = n, rows, []

    @property
    def num_batches(self):
        return None if self.n is None else -(-self.n // self.rows)

    def __getitem__(self, i):
        self.asked.append(i)
        return tuple(a[i * self.rows : (i + 1) * self.rows] for a in arrays(self.n or 10_000))


class Again:
    """An iterable of batches that can be read again; `make` returns a new iterator."""

    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return iter(self.make())


def loader(*data, **options):
    torch = pytest.importorskip("torch")
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.from_numpy, data)), **options)


# Arrays


def test_arrays_give_a_seeded_sample_of_the_same_rows_in_their_order():
    x, y, weights = arrays(1000)
    (first, labels, shares), (again, _, _), (other, _, _) = (probe_batch(x, y, weights, size=64, seed=s) for s in (1, 1, 2))
    expected = np.sort(np.random.default_rng(1).permutation(1000)[:64])
    np.testing.assert_array_equal(first, x[expected])
    np.testing.assert_array_equal(labels, y[expected])
    np.testing.assert_array_equal(shares, weights[expected])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fewer_samples_than_asked_for_are_all_taken_and_what_is_missing_is_none():
    x, _, _ = arrays(5)
    taken, y, weights = probe_batch(x, size=64, seed=0)
    np.testing.assert_array_equal(taken, x)
    assert (y, weights) == (None, None)


def test_structures_stay_and_their_rows_go_together():
    x, y, weights = arrays()
    data = {"a": x, "b": [x + 0.5, (x[:, 0],)]}, [y, None], (weights,)
    (taken_x, taken_y, taken_weights) = probe_batch(*data, size=10, seed=3)
    rows = numbers(taken_x["a"])
    assert len(rows) == 10
    assert isinstance(taken_x["b"][1], tuple)
    np.testing.assert_array_equal(taken_x["b"][0], x[rows] + 0.5)
    np.testing.assert_array_equal(taken_x["b"][1][0], x[rows, 0])
    np.testing.assert_array_equal(taken_y[0], y[rows])
    assert taken_y[1] is None
    np.testing.assert_array_equal(taken_weights[0], weights[rows])


@pytest.mark.parametrize("size", [10, 500])
@pytest.mark.parametrize("kind", ["arrays", "dataset"])
def test_later_changes_of_the_data_do_not_reach_the_sample(kind, size):
    x = np.zeros((100, 3))
    given = x if kind == "arrays" else Again(lambda: [(x,)])
    taken, _, _ = probe_batch(given, size=size, seed=0)
    x += 1
    assert taken.max() == 0


def test_tensors_of_the_backend_become_numpy_arrays():
    x, y, _ = arrays()
    taken, labels, _ = probe_batch(ops.convert_to_tensor(x), ops.convert_to_tensor(y), size=10, seed=0)
    expected, expected_labels, _ = probe_batch(x, y, size=10, seed=0)
    assert type(taken) is type(labels) is np.ndarray
    np.testing.assert_array_equal(taken, expected)
    np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_of_pytorch_are_read_though_they_have_gradients_or_half_precision(dtype):
    torch = pytest.importorskip("torch")
    x, _, _ = arrays()
    taken, _, _ = probe_batch(torch.tensor(x, dtype=getattr(torch, dtype), requires_grad=True), size=10, seed=0)
    np.testing.assert_array_equal(taken, probe_batch(x, size=10, seed=0)[0])


def test_pandas_data_becomes_arrays_of_the_shapes_that_fit_gives_it():
    pandas = pytest.importorskip("pandas")
    x, y, weights = arrays()
    given = pandas.DataFrame(x), pandas.Series(y), pandas.Series(weights, index=range(200, 300))
    for taken, expected in zip(
        probe_batch(*given, size=10, seed=0), probe_batch(x, y[:, None], weights[:, None], size=10, seed=0), strict=True
    ):
        assert type(taken) is np.ndarray
        np.testing.assert_array_equal(taken, expected)


def test_arrays_of_strings_are_taken():
    x = np.array(["a", "b", "c"])[:, None]
    np.testing.assert_array_equal(probe_batch(x, size=9, seed=0)[0], x)


# Datasets


@pytest.mark.parametrize(("n", "size", "asked"), [(100, 20, 3), (None, 20, 3), (100, 8, 1), (20, 64, 3)])
def test_a_py_dataset_gives_its_first_samples_and_no_batch_more_is_asked_for(n, size, asked):
    dataset = Batches(n)
    x, y, weights = probe_batch(dataset, size=size, seed=0)
    for taken, expected in zip((x, y, weights), arrays(), strict=True):
        np.testing.assert_array_equal(taken, expected[: min(size, n or size)])
    assert dataset.asked == list(range(asked))


def test_a_py_dataset_is_indexed_though_it_is_its_own_endless_iterator():
    class Images(Batches):
        def __iter__(self):
            return self

        def __next__(self):
            raise AssertionError("read as an iterator")

    assert numbers(probe_batch(Images(12), size=64, seed=0)[0]) == list(range(12))


@pytest.mark.needs_tensorflow
@pytest.mark.parametrize("endless", [False, True])
def test_a_tf_dataset_gives_its_first_samples(endless):
    import tensorflow as tf

    data = arrays()
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(8)
    for taken, expected in zip(probe_batch(dataset.repeat() if endless else dataset, size=20, seed=0), data, strict=True):
        assert type(taken) is np.ndarray
        np.testing.assert_array_equal(taken, expected[:20])


@pytest.mark.needs_tensorflow
def test_the_end_of_a_tf_dataset_ends_the_sample():
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(arrays(12)[0]).batch(8)
    assert numbers(probe_batch(dataset, size=20, seed=0)[0]) == list(range(12))


def test_a_data_loader_gives_its_first_samples():
    data = arrays()
    for taken, expected in zip(probe_batch(loader(*data, batch_size=8), size=20, seed=0), data, strict=True):
        assert type(taken) is np.ndarray
        np.testing.assert_array_equal(taken, expected[:20])


def test_a_data_loader_with_workers_leaves_no_process_and_stays_as_it_was():
    seen = []  # of what the workers read nothing would be seen here

    def collate(rows):
        seen.append(len(rows))
        return np.stack([x for x, _, _ in rows])

    given = loader(*arrays(), batch_size=8, num_workers=2, persistent_workers=True, timeout=60, collate_fn=collate)
    before = dict(vars(given))
    x, _, _ = probe_batch(given, size=20, seed=0)
    assert numbers(x) == list(range(20))
    assert seen == [8, 8, 8]
    assert multiprocessing.active_children() == []
    assert vars(given) == before


@pytest.mark.parametrize("own", [False, True])
def test_a_shuffling_data_loader_gives_fit_the_order_it_would_have_given(own):
    torch = pytest.importorskip("torch")

    def orders(*, snapshot):
        torch.manual_seed(4)
        given = loader(*arrays(), batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(5) if own else None)
        taken = probe_batch(given, size=20, seed=0)[0] if snapshot else None
        return [numbers(x) for x, _, _ in given], taken

    (expected, _), (order, taken) = orders(snapshot=False), orders(snapshot=True)
    assert order == expected
    assert numbers(taken) == list(itertools.chain(*expected))[:20]


def test_reading_leaves_the_global_generators_as_they_were():
    def draw():
        return [random.random(), np.random.random()]

    def drawing():
        for _ in itertools.count():
            draw()
            yield arrays()[:2]

    def failing():
        draw()
        raise OSError("no file")

    random.seed(1), np.random.seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1)
    probe_batch(Again(drawing), size=200, seed=0)
    assert draw() == expected
    random.seed(1), np.random.seed(1)
    with pytest.raises(OSError, match="no file"):
        probe_batch(Again(failing), size=200, seed=0)
    assert draw() == expected


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (lambda x, y, w: x, (True, False, False)),
        (lambda x, y, w: (x,), (True, False, False)),
        (lambda x, y, w: [x, y], (True, True, False)),
        (lambda x, y, w: (x, y, None), (True, True, False)),
        (lambda x, y, w: (x, y, w), (True, True, True)),
    ],
)
def test_batches_may_come_as_keras_unpacks_them(form, given):
    dataset = Again(lambda: (form(*(a[i : i + 8] for a in arrays())) for i in range(0, 96, 8)))
    for taken, expected, is_given in zip(probe_batch(dataset, size=20, seed=0), arrays(), given, strict=True):
        if is_given:
            np.testing.assert_array_equal(taken, expected[:20])
        else:
            assert taken is None


def test_batches_may_hold_structures_of_arrays():
    dataset = Again(lambda: (({"a": x, "b": (x + 1,)}, [y, None]) for x, y, _ in Batches()))
    x, y, weights = probe_batch(dataset, size=20, seed=0)
    assert numbers(x["a"]) == list(range(20))
    assert numbers(x["b"][0]) == list(range(1, 21))
    assert y[0].tolist() == [0, 1] * 10
    assert y[1] is None
    assert weights is None


def test_a_dataset_may_fill_the_same_array_again():
    def filling():
        x = np.zeros((8, 3))
        for i in range(4):
            x[:] = i
            yield x

    assert numbers(probe_batch(Again(filling), size=16, seed=0)[0]) == [0] * 8 + [1] * 8


@pytest.mark.parametrize("make", ["again", pytest.param("tf", marks=pytest.mark.needs_tensorflow)])
def test_of_batches_that_differ_in_shape_those_like_the_first_are_taken(make):
    lengths = [5, 7, 5, 6, 5]

    def sequences():
        for i, length in enumerate(lengths):
            yield np.full((4, length), i, "float32"), np.arange(4) % 2

    if make == "tf":
        import tensorflow as tf

        signature = tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None,), tf.int64)
        dataset = tf.data.Dataset.from_generator(sequences, output_signature=signature)
    else:
        dataset = Again(sequences)
    x, y, _ = probe_batch(dataset, size=10, seed=0)
    assert x.shape == (10, 5)
    assert numbers(x) == [0] * 4 + [2] * 4 + [4] * 2
    assert y.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("rows", [4, 0])
def test_an_endless_dataset_of_which_nothing_more_fits_is_read_to_four_times_the_size(rows):
    read = []

    def longer():
        yield np.zeros((4, 1))
        for n in itertools.count(2):
            read.append(n)
            assert len(read) < 100
            yield np.zeros((rows, n))

    assert len(probe_batch(Again(longer), size=10, seed=0)[0]) == 4
    assert len(read) == (9 if rows else 36)


def test_the_probe_runs_on_samples_of_a_dataset():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh"), keras.layers.Dense(1, "sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    snapshot = Probe(model, probe_batch(Batches(), size=20, seed=0)).snapshot(0, 0)
    x, y, weights = (a[:20] for a in arrays())
    expected = model.evaluate(x, y, sample_weight=weights, batch_size=20, verbose=0)
    assert snapshot.loss == pytest.approx(float(expected), rel=1e-5)


# Warnings

EYE = np.eye(3)


@pytest.mark.parametrize(
    "y",
    [
        np.ones(8, int),
        np.zeros((8, 1), bool),
        np.repeat(EYE[1:2], 8, 0),
        np.tile(EYE[2], (8, 4, 1)).astype("float32"),
        {"a": np.arange(8), "b": np.ones(8, int)},
    ],
)
def test_targets_of_one_class_are_reported(y):
    message = (
        "The 8 samples that were taken are all of one class, so they say little about how the model learns. "
        "Shuffle the data before it is cut into batches, or give a sample of all classes as arrays."
    )

    with pytest.warns(UserWarning, match="one class") as reported:
        SaturationMonitor(np.zeros((8, 2)), y)
    assert [str(w.message) for w in reported] == [message]
    assert reported[0].filename == __file__
    assert linecache.getline(__file__, reported[0].lineno).strip() == "SaturationMonitor(np.zeros((8, 2)), y)"


@pytest.mark.parametrize(
    "y",
    [
        None,
        np.arange(8) % 2,
        np.ones((8, 1)),
        np.ones((8, 3)),
        np.repeat(EYE, 3, 0)[:8],
        np.full((8, 4), 0.25),
        np.zeros((8, 3), int) + [0, 1, 1],
    ],
)
def test_other_targets_are_not(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe_batch(np.zeros((8, 2)), y, size=64, seed=0)


def test_one_sample_has_one_class_and_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe_batch(np.zeros((1, 2)), np.ones(1, int), size=64, seed=0)


def test_a_dataset_that_is_sorted_by_class_is_reported():
    x, y, _ = arrays()
    dataset = Again(lambda: [(x[:50], np.sort(y)[:50]), (x[50:], np.sort(y)[50:])])
    with pytest.warns(UserWarning, match="The 40 samples that were taken are all of one class"):
        probe_batch(dataset, size=40, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe_batch(dataset, size=60, seed=0)


# Errors

ARRAYS = "an array, or a list or dict of arrays"
AS_ARRAYS = "Give a few hundred samples as arrays, whatever `fit` is given."
BATCHES = "`x` must be a dataset of batches x, (x, y) or (x, y, sample_weight), arrays with one row a sample, got "
CUT = "Cut it into batches as `fit` needs them, such as `dataset.batch(32)`, or give a few hundred samples as arrays."
X = np.ones((3, 2))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((None,), f"`x` must be {ARRAYS}, got 'NoneType'. {AS_ARRAYS}"),
        ((None, X), f"`x` must be {ARRAYS}, got 'NoneType'. {AS_ARRAYS}"),
        (({},), f"`x` must be {ARRAYS}, got 'dict'. {AS_ARRAYS}"),
        (("text",), f"`x` must be {ARRAYS}, got 'str'. {AS_ARRAYS}"),
        (([1, 2, 3],), f"`x` must be {ARRAYS}, got 'list'. {AS_ARRAYS}"),
        ((np.float32(1),), f"`x` must be {ARRAYS}, got 'float32'. {AS_ARRAYS}"),
        ((np.array(1.0),), f"`x` must be {ARRAYS}, got 'ndarray'. {AS_ARRAYS}"),
        ((np.array(["a", 2], object),), f"`x` must be {ARRAYS}, got 'ndarray'. {AS_ARRAYS}"),
        (([X, np.array(["a", b"b", "c"], object)],), f"`x` must be {ARRAYS}, got 'list'. {AS_ARRAYS}"),
        ((X, Batches()), f"`y` must be {ARRAYS}, got 'Batches'. {AS_ARRAYS}"),
        ((X, X, np.array(1.0)), f"`sample_weight` must be {ARRAYS}, got 'ndarray'. {AS_ARRAYS}"),
        ((Again(lambda: [(X[0], np.array(1))]),), f"{BATCHES}['float64 (2,)', 'int64 ()']. {CUT}"),
        ((Again(lambda: [(X, X[:2])]),), f"{BATCHES}['float64 (3, 2)', 'float64 (2, 2)']. {CUT}"),
        ((Again(lambda: [(X, X, X, X)]),), BATCHES + repr(["float64 (3, 2)"] * 4) + ". " + CUT),
        ((Again(lambda: [(None, X)]),), f"{BATCHES}['float64 (3, 2)']. {CUT}"),
        ((Again(lambda: [()]),), f"{BATCHES}[]. {CUT}"),
        ((Again(lambda: ["text"]),), f"{BATCHES}['str']. {CUT}"),
        ((Again(lambda: [np.array(["a", None], object)]),), f"{BATCHES}['object (2,)']. {CUT}"),
        ((range(3),), f"{BATCHES}['int']. {CUT}"),
    ],
)
def test_what_is_no_array_with_samples_is_reported(data, message):
    with pytest.raises(TypeError) as raised:
        probe_batch(*data, size=8, seed=0)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("x", "name"),
    [((X for _ in range(3)), "generator"), (iter([(X, X)]), "list_iterator"), (map(np.ones, [3]), "map")],
)
def test_what_gives_its_samples_once_is_refused_unread(x, name):
    with pytest.raises(TypeError) as raised:
        probe_batch(x, size=8, seed=0)
    assert str(raised.value) == (
        f"`x` must be arrays, or a dataset that can be read again, got '{name}'. A generator gives its samples once, and `fit` needs them. "
        "Give a few hundred samples as arrays, such as `x[:512], y[:512]`."
    )
    assert next(x) is not None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, np.ones(4)), "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [3, 4]."),
        ((X, None, np.ones(4)), "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [3, 4]."),
        ((X[:0],), "`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got [0]."),
        *(
            (
                (Again(make),),
                "`x` must be a dataset of at least one sample, got 'Again'. It gave none. A file name or a filter may be wrong.",
            )
            for make in (list, lambda: [X[:0], X[:0]])
        ),
        (
            (Batches(0),),
            "`x` must be a dataset of at least one sample, got 'Batches'. It gave none. A file name or a filter may be wrong.",
        ),
        (
            (Batches(), X),
            "`y` must be None where `x` is a dataset (Batches), got 'ndarray'. "
            "As for `fit`, the targets must be part of its batches: (x, y) or (x, y, sample_weight).",
        ),
        (
            (Again(list), None, X),
            "`sample_weight` must be None where `x` is a dataset (Again), got 'ndarray'. "
            "As for `fit`, the sample weights must be part of its batches: (x, y) or (x, y, sample_weight).",
        ),
    ],
)
def test_samples_that_do_not_go_together_are_reported(data, message):
    with pytest.raises(ValueError) as raised:
        probe_batch(*data, size=8, seed=0)
    assert str(raised.value) == message


@pytest.mark.parametrize(("argument", "low"), [("size", 1), ("seed", 0)])
def test_size_and_seed_are_checked(argument, low):
    with pytest.raises(ValueError) as raised:
        probe_batch(X, **{"size": 8, "seed": 0, argument: low - 1})
    assert str(raised.value) == f"`{argument}` must be a whole number of at least {low}, got {low - 1}."
