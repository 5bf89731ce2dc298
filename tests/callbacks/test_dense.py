"""Text, sparse and ragged samples: what the probe takes of them, and fits that are observed on them."""

import keras
import numpy as np
import pytest
import scipy.sparse

from keras_ext.callbacks import SaturationMonitor
from keras_ext.callbacks.monitor.probe import dense
from keras_ext.callbacks.monitor.probe.samples import probe_batch

RNG = np.random.default_rng(0)
NUMBERS = np.where(RNG.random((40, 6, 5)) < 0.2, RNG.normal(size=(40, 6, 5)), 0.0).astype("float32")
WORDS = np.array(["a good film", "bad", "très bon", ""] * 10)
LABELS = np.array([1, 0, 1, 0] * 10)


class Again:
    """A dataset of batches of 8 of the arrays, which can be read again."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return (tuple(a[i : i + 8] for a in self.arrays) for i in range(0, 40, 8))


def chosen(n, size):
    return np.sort(np.random.default_rng(0).permutation(n)[:size])


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.coo_array, scipy.sparse.dok_matrix])
def test_sparse_matrices_become_dense(kind):
    taken, labels, _ = probe_batch(kind(NUMBERS[:, 0]), LABELS, size=9, seed=0)
    np.testing.assert_array_equal(taken, NUMBERS[chosen(40, 9), 0])
    np.testing.assert_array_equal(labels, LABELS[chosen(40, 9)])
    if kind is scipy.sparse.csr_matrix:
        taken, _, _ = probe_batch(Again(kind(NUMBERS[:, 0]), LABELS), size=20, seed=0)
        np.testing.assert_array_equal(taken, NUMBERS[:20, 0])


def test_sparse_tensors_of_the_backend_become_dense():
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        sparse = tf.sparse.from_dense(NUMBERS)
    elif keras.backend.backend() == "jax":
        from jax.experimental import sparse as jax_sparse

        sparse = jax_sparse.BCOO.fromdense(NUMBERS)
    else:
        import torch

        sparse = torch.tensor(NUMBERS).to_sparse()
    taken, _, _ = probe_batch(sparse, size=9, seed=0)
    np.testing.assert_array_equal(taken, NUMBERS[chosen(40, 9)])


def test_numbers_at_one_place_add_up():
    twice = scipy.sparse.coo_matrix((np.array([1.0, 2.0, 4.0]), (np.array([0, 0, 1]), np.array([1, 1, 0]))), shape=(2, 3))
    np.testing.assert_array_equal(probe_batch(twice, size=2, seed=0)[0], [[0, 3, 0], [4, 0, 0]])


def test_of_wide_sparse_samples_few_are_made_dense(monkeypatch):
    monkeypatch.setattr(dense, "_MOST_DENSE", 12)
    assert len(probe_batch(scipy.sparse.csr_matrix(NUMBERS[:, 0]), size=20, seed=0)[0]) == 2


def test_text_in_arrays_of_objects_becomes_text():
    for given in (WORDS.astype(object), np.array([w.encode() for w in WORDS], object)):
        taken, _, _ = probe_batch(given, LABELS, size=40, seed=0)
        assert taken.dtype.kind == ("U" if isinstance(given[0], str) else "S")
        assert list(taken) == list(given)


@pytest.mark.needs_tensorflow
def test_of_ragged_samples_those_of_the_median_length_are_taken_and_cut():
    import tensorflow as tf

    rows = [list(range(100 * i, 100 * i + 1 + i % 5)) for i in range(40)]  # of 1 to 5 numbers: the median is 3
    expected = [row[:3] for row in rows if len(row) >= 3]
    taken, labels, _ = probe_batch(tf.ragged.constant(rows), LABELS, size=40, seed=0)
    np.testing.assert_array_equal(taken, expected)
    np.testing.assert_array_equal(labels, [label for row, label in zip(rows, LABELS, strict=True) if len(row) >= 3])
    dataset = tf.data.Dataset.from_tensor_slices((tf.ragged.constant(rows), LABELS)).batch(8)
    taken, _, _ = probe_batch(dataset, size=10, seed=0)
    # The first batch decides: half of its samples have 2 numbers or more.
    np.testing.assert_array_equal(taken, [row[:2] for row in rows if len(row) >= 2][:10])
    deep, _, _ = probe_batch(tf.ragged.constant([[[1, 2], [3]], [[4]], [[5], [6, 7]]]), size=3, seed=0)
    np.testing.assert_array_equal(deep, [[[1, 2], [3, 0]], [[5, 0], [6, 7]]])


def observed(model, x, y=None, given=None):
    """Return the monitor of a fit on `x` and `y`."""
    model.compile("adam", "binary_crossentropy")
    monitor = SaturationMonitor(x if given is None else given, y, on_critical=None)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor])
    assert all(np.isfinite(snapshot.loss) for snapshot in monitor.snapshots)
    return monitor


@pytest.mark.needs_tensorflow
def test_fits_on_text_on_ragged_and_on_sparse_tensors_are_observed():
    import tensorflow as tf

    def of_text():
        vectorization = keras.layers.TextVectorization(max_tokens=20, output_sequence_length=4)
        vectorization.adapt(WORDS)
        embedding = keras.layers.Embedding(20, 8, name="embedding")
        ends = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1, "sigmoid")]
        return keras.Sequential([keras.Input((), dtype="string"), vectorization, embedding, *ends])

    text, dataset = tf.constant(WORDS), tf.data.Dataset.from_tensor_slices((WORDS, LABELS)).batch(8)
    for monitor in (
        observed(of_text(), text, LABELS), observed(of_text(), text, LABELS, WORDS.astype(object)), observed(of_text(), dataset),
    ):  # fmt: skip
        assert len(monitor.snapshots) >= 3
        assert "embedding" in monitor.snapshots[-1].layers
    ragged = tf.ragged.constant([[1, 2, 3], [4, 5]] * 20)
    layers = [keras.layers.Embedding(20, 8), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1, "sigmoid")]
    assert len(observed(keras.Sequential([keras.Input((None,), dtype="int32", ragged=True), *layers]), ragged, LABELS).snapshots) >= 3
    sparse = tf.sparse.from_dense(NUMBERS[:, 0])
    layers = [keras.layers.Dense(4, "relu"), keras.layers.Dense(1, "sigmoid")]
    assert len(observed(keras.Sequential([keras.Input((5,), sparse=True), *layers]), sparse, LABELS).snapshots) >= 3
