"""The rules that snapshot further than a threshold, against their papers in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers
from keras_ext.optimizers import GradientClipping
from keras_ext.optimizers.clipping_rules import AdaptiveClipping, Clipped, ClippingRule, PercentileClipping, ZScoreClipping


def clipped_by(rule, sequence, stepper=None, weights=None, names=None):
    """What arrives at the inner optimizer, step by step: descent at rate 1 moves by minus the gradient."""
    first = weights or [np.zeros(np.shape(g)) for g in sequence[0]]
    names = names or ["w"] * len(first)
    variables = [keras.Variable(np.asarray(w, "float32"), name=name) for w, name in zip(first, names, strict=True)]
    optimizer = GradientClipping(keras.optimizers.SGD(1.0), rule)
    optimizer.build(variables)
    step = stepper(optimizer, variables) if stepper else lambda g: optimizer.apply([ops.convert_to_tensor(a) for a in g], variables)
    found = []
    for gradients in sequence:
        for v, w in zip(variables, first, strict=True):
            v.assign(np.asarray(w, "float32"))
        step([np.asarray(g, "float32") for g in gradients])
        found.append([w - ops.convert_to_numpy(v).astype("float64") for w, v in zip(first, variables, strict=True)])
    return found, optimizer


def norm_of(arrays):
    return np.sqrt(sum(np.sum(np.square(np.asarray(a, "float64"))) for a in arrays))


def sequence_of_norms(seed=0, steps=60):
    """Gradients of two weights whose joint norms vary, with spikes."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(steps):
        parts = [rng.normal(size=(3, 2)), rng.normal(size=4)]
        size = (1 + 0.2 * rng.normal()) * (50.0 if i % 13 == 12 and i > 26 else 1.0)
        found.append([np.asarray(p * size / norm_of(parts), "float32") for p in parts])
    return found


@pytest.mark.parametrize(("percentile", "history"), [(10.0, 1000), (50.0, 16), (99.5, 7), (100.0, 1000)])
def test_percentile_follows_autoclip(percentile, history, stepper):
    sequence = sequence_of_norms()
    got, optimizer = clipped_by(PercentileClipping(percentile, history), sequence, stepper)
    norms, clipped = [], 0
    for step, gradients in zip(got, sequence, strict=True):
        norms.append(norm_of(gradients))
        # Seetharaman et al., algorithm 1: the percentile of the norms so far, this one included.
        limit = np.percentile(norms[-history:], percentile)
        clipped += norms[-1] > limit * (1 + 1e-6)
        np.testing.assert_allclose(norm_of(step), min(norms[-1], limit), rtol=2e-6)
        np.testing.assert_allclose(step[0] / norm_of(step), gradients[0] / norms[-1], atol=1e-6)
    assert optimizer.clipped_steps == clipped
    if percentile == 10.0:
        assert clipped > 40


def zclip(norms, threshold, decay, warmup):
    """Kumar et al. (2025): the z-score of the norm, the reciprocal adjustment, and moving moments of what is left."""
    mean = variance = 0.0
    early, found = [], []
    for norm in norms:
        if len(early) < warmup:
            early.append(norm)
            found.append(norm)
            mean, variance = np.mean(early), np.var(early)
            continue
        z = (norm - mean) / (np.sqrt(variance) + 1e-6)
        size = mean + threshold**2 / z * np.sqrt(variance) if z > threshold else norm
        found.append(size)
        mean = decay * mean + (1 - decay) * size
        variance = decay * variance + (1 - decay) * (size - mean) ** 2
    return found


@pytest.mark.parametrize(("threshold", "decay", "warmup"), [(2.5, 0.97, 25), (1.5, 0.9, 5), (3.0, 0.5, 2)])
def test_zscore_follows_zclip(threshold, decay, warmup, stepper):
    sequence = sequence_of_norms()
    got, optimizer = clipped_by(ZScoreClipping(threshold, decay, warmup), sequence, stepper)
    norms = [norm_of(gradients) for gradients in sequence]
    wanted = zclip(norms, threshold, decay, warmup)
    # A deviation is a difference of norms: where they nearly agree their rounding counts more.
    np.testing.assert_allclose([norm_of(step) for step in got], wanted, rtol=1e-5)
    changed = sum(w < n * (1 - 1e-6) for w, n in zip(wanted, norms, strict=True))
    assert optimizer.clipped_steps == changed > 0
    assert max(wanted[warmup:]) < 10


def unit_axes(shape, name):
    if len(shape) < 2:
        return None
    return tuple(range(1, len(shape))) if name == "embeddings" else tuple(range(len(shape) - 1))


@pytest.mark.parametrize("threshold", [0.01, 0.5])
def test_adaptive_follows_agc(threshold, stepper):
    rng = np.random.default_rng(0)
    names = ["kernel", "bias", "filters", "embeddings", "logits"]
    weights = [rng.normal(size=s).astype("float32") * k for s, k in (((5, 4), 1), ((4,), 0), ((3, 3, 2, 4), 0.1), ((6, 3), 2), ((4, 2), 1))]
    weights[0][:, 1] = 0
    gradients = [(rng.normal(size=w.shape) * 10.0 ** rng.uniform(-4, 1, w.shape[-1])).astype("float32") for w in weights]
    (got,), optimizer = clipped_by(AdaptiveClipping(threshold, exclude=["logits$"]), [gradients], stepper, weights, names)
    untouched = True
    for mine, w, g, name in zip(got, weights, gradients, names, strict=True):
        if name == "logits":
            wanted = g
        else:
            # Brock et al., equation 3, with the units of its section 4.1.
            axes = unit_axes(w.shape, name)
            size, of_weights = (np.sqrt(np.sum(np.square(a.astype("float64")), axis=axes, keepdims=axes is not None)) for a in (g, w))
            limit = threshold * np.maximum(of_weights, 1e-3)
            wanted = np.where(size > limit, g * limit / np.maximum(size, 1e-30), g)
            untouched &= np.array_equal(wanted, g)
        # What is measured is a difference of weights, rounded at their size.
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=3e-7 * np.abs(w).max() + 1e-12)
    assert not untouched
    assert optimizer.clipped_steps == 1


@pytest.mark.needs_tensorflow
@pytest.mark.parametrize("rule", ["adaptive", "percentile", "zscore"])
def test_sparse_gradients_are_clipped_as_dense_ones_and_stay_sparse(rule):
    import tensorflow as tf

    seen = []

    class Seeing(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            seen.append(type(grads[0]))
            super().apply(grads, trainable_variables)

    tables = []
    for sparse in (True, False):
        table = keras.Variable(np.ones((6, 3), "float32"), name="embeddings")
        optimizer = GradientClipping(Seeing(0.1), rule)
        for i in range(4):
            rows = tf.IndexedSlices(tf.ones((4, 3)) * (i + 1.0), tf.constant([0, 0, 2, 5]), tf.constant([6, 3]))
            optimizer.apply([rows if sparse else tf.convert_to_tensor(rows)], [table])
        tables.append(table.numpy())
    np.testing.assert_allclose(*tables, rtol=1e-6)
    assert (tables[0][[1, 3, 4]] == 1).all()
    assert (tables[0][[0, 2, 5]] != 1).all()
    assert issubclass(seen[0], tf.IndexedSlices)


@keras.saving.register_keras_serializable(package="tests")
class SignOfTheFirst(ClippingRule):
    """A rule of a user's own, with a state."""

    def __init__(self, threshold=None, offset=0.0):
        super().__init__(threshold)
        self.offset = offset

    def first_state(self):
        return {"seen": np.zeros((), "float32")}

    def clip(self, gradients, variables, norm, state):
        return Clipped([ops.sign(g) * self.threshold + self.offset for g in gradients], norm > 0, {"seen": state["seen"] + norm})

    def get_config(self):
        return {**super().get_config(), "offset": self.offset}


def test_a_rule_of_ones_own_is_used_and_saved_with_its_state(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(GradientClipping(keras.optimizers.SGD(1.0), SignOfTheFirst(0.25)), "mse")
    before = model.get_weights()
    model.fit(np.ones((4, 2)), np.full((4, 1), 100.0), verbose=0)
    np.testing.assert_allclose(np.concatenate([(a - b).ravel() for a, b in zip(model.get_weights(), before, strict=True)]), 0.25)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert isinstance(again.rule, SignOfTheFirst)
    assert (again.rule.threshold, again.rule.offset) == (0.25, 0.0)
    state = [float(ops.convert_to_numpy(o._rule_state[0])) for o in (model.optimizer, again)]
    assert state[0] == state[1] > 0


@pytest.mark.parametrize("rule", ["adaptive", "percentile", "zscore"])
def test_a_saved_rule_goes_on_as_if_it_had_not_been_saved(rule, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(256, 3)).astype("float32"), rng.normal(size=(256, 1)).astype("float32")
    y[248:] *= 100
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
    model.compile(GradientClipping(optimizers.Adam(0.01), rule), "mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.optimizer.threshold == {"adaptive": 0.01, "percentile": 10.0, "zscore": 2.5}[rule]
    for m in (model, again):
        m.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for mine, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)
    assert again.optimizer.clipped_steps == model.optimizer.clipped_steps > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaptiveClipping(epsilon=0), "`epsilon` must be a finite number above 0, got 0."),
        (lambda: AdaptiveClipping(exclude="logits"), "`exclude` must be a list of regular expressions, got 'logits'."),
        (lambda: AdaptiveClipping(exclude=["("]), "`exclude` must be a list of regular expressions ("),
        (lambda: PercentileClipping(0), "`threshold` must be a number in (0, 100], got 0."),
        (lambda: PercentileClipping(history=1), "`history` must be a whole number of at least 2, got 1."),
        (lambda: ZScoreClipping(decay=1.0), "`decay` must be a number in (0, 1), got 1.0."),
        (lambda: ZScoreClipping(warmup=1), "`warmup` must be a whole number of at least 2, got 1."),
        (lambda: GradientClipping("sgd", ZScoreClipping(), 2.0), "`threshold` must be None with a rule that has its own, got 2.0."),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_rules_round_trip_through_their_config():
    for rule in (AdaptiveClipping(0.1, 0.2, ["a"]), PercentileClipping(20, 30), ZScoreClipping(3, 0.5, 6)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rule))
        assert again.get_config() == rule.get_config()
