"""Networks that are given the tokens that they are to predict, and networks that are not."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ext.callbacks import SaturationMonitor, diagnose
from keras_ext.callbacks.monitor.probe.leakage import LATER, OWN, leak_of, leaks

TOKENS = (np.cumsum(np.random.default_rng(0).integers(1, 4, (64, 9)), axis=1) % 12).astype("int32")
X, NEXT = TOKENS[:, :-1], TOKENS[:, 1:]


def attention(causal):
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(12, 8, embeddings_initializer="random_normal")(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=causal)])
    return keras.Model(inputs, layers.Dense(12)(x))


def stacked(layer):
    return keras.Sequential([keras.Input((None,), dtype="int32"), layers.Embedding(12, 8, embeddings_initializer="random_normal"), layer,
                             layers.Dense(12)])  # fmt: skip


def decoder():
    """Read a sequence and the tokens before each place of the other."""
    source, given = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    read, last = layers.GRU(8, return_state=True)(layers.Embedding(12, 8)(source))
    x = layers.GRU(8, return_sequences=True)(layers.Embedding(12, 8, embeddings_initializer="random_normal")(given), initial_state=last)
    return keras.Model([source, given], layers.Dense(12)(layers.Add()([x, layers.RepeatVector(8)(read)])))


CASES = {
    "causal attention": (lambda: attention(True), X, NEXT, ""),
    "attention without a mask": (lambda: attention(False), X, NEXT, LATER),
    "a GRU": (lambda: stacked(layers.GRU(8, return_sequences=True)), X, NEXT, ""),
    "a GRU from both ends": (lambda: stacked(layers.Bidirectional(layers.GRU(8, return_sequences=True))), X, NEXT, LATER),
    "a causal convolution": (lambda: stacked(layers.Conv1D(8, 3, padding="causal")), X, NEXT, ""),
    "a convolution from both sides": (lambda: stacked(layers.Conv1D(8, X.shape[1], padding="same")), X, NEXT, LATER),
    "targets that are not shifted": (lambda: attention(True), X, X, OWN),
    "an autoencoder of tokens": (lambda: attention(False), X, X, ""),
    "targets with an axis of one": (lambda: attention(False), X, NEXT[..., None], LATER),
    "tokens as floats": (lambda: attention(False), X.astype("float32"), NEXT.astype("float32"), LATER),
    "targets of another kind": (lambda: attention(False), X, NEXT // 4, ""),
    "a decoder of the tokens before": (decoder, [X[:, ::-1], X], NEXT, ""),
    "a decoder of its own targets": (decoder, [X[:, ::-1], NEXT], NEXT, OWN),
    "a copy of the source": (decoder, [NEXT, X], NEXT, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_an_output_must_not_know_is_found_and_nothing_else(case):
    keras.utils.set_random_seed(0)
    build, x, y, expected = CASES[case]
    assert leak_of(build(), x, y) == expected


def test_of_outputs_that_depend_on_nothing_yet_nothing_is_known():
    model = attention(False)
    model.layers[-1].kernel.assign(np.zeros(model.layers[-1].kernel.shape))
    assert leak_of(model, X, NEXT) is None


def test_a_model_that_cannot_be_called_so_leaks_nothing():
    assert leaks(attention(False), ([X, X], NEXT, None)) == ""
    assert leaks(attention(False), (X, NEXT, None)) == LATER
    assert leaks(attention(False), (X, None, None)) == ""


def test_the_model_and_its_random_state_stay_as_they_are():
    keras.utils.set_random_seed(3)
    model = stacked(keras.Sequential([layers.GRU(8, return_sequences=True), layers.BatchNormalization(), layers.Dropout(0.5, seed=1)]))
    before = [np.array(v) for v in model.variables]
    leak_of(model, X, NEXT)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))


@pytest.mark.parametrize(("causal", "expected"), [(False, {"target_leakage"}), (True, set())])
def test_a_network_that_reads_the_answer_is_critical_before_its_first_step(causal, expected):
    keras.utils.set_random_seed(0)
    model = attention(causal)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert {f.symptom for f in diagnose(model, X, NEXT).findings if f.severity == "critical"} == expected
    monitor = SaturationMonitor(X, NEXT, on_critical=None)
    model.fit(X, NEXT, epochs=2, verbose=0, callbacks=[monitor])
    found = [f for f in monitor.findings if f.symptom == "target_leakage"]
    assert [(f.severity, f.step) for f in found] == [("critical", 0)] * len(expected)
