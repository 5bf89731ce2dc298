"""Every layer, whatever it is given: a layer that works, or an error in words."""

from fractions import Fraction

import fuzzing
import keras
import numpy as np
import pytest
from fuzzing import FLAG, NAME, SEED, SHARE, WHOLE, Fuzzed, can_be_saved, comes_back, is_moderate, refused
from hypothesis import strategies as st
from keras import ops

from keras_ext import initializers, layers, tables

INITIALIZER = st.sampled_from(["zeros", "ones", keras.initializers.Constant(0.5), initializers.HeNormal(seed=1)])
PENALTY = st.sampled_from([None, "l2", keras.regularizers.L1(0.1)])
CONSTRAINT = st.sampled_from([None, "non_neg", keras.constraints.MaxNorm(2.0)])
BASE = {
    "name": NAME,
    "dtype": st.sampled_from([None, "float32", "mixed_bfloat16", "float16", keras.DTypePolicy("mixed_float16")]),
    "trainable": FLAG,
    "activity_regularizer": st.sampled_from([None, "l2"]),
}
COLUMNS = [
    {"name": "a", "mean": 0.5, "variance": 2.0},
    {"name": "b", "vocabulary": ["x", "y"]},
    {"name": "c", "mean": np.float32(1), "variance": 1},
    {"name": "d", "mean": 2, "variance": 0.5, "gaps": True},
]


def works_on(*shape, **training):
    """Return the law of a layer that keeps the shape of its input."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")

    def owes(layer, arguments):
        parts = {name: value for name, value in arguments.items() if name.endswith(("initializer", "regularizer", "constraint"))}
        if not can_be_saved(parts):
            return
        for each in (layer, comes_back(layer, arguments)):
            y = refused(lambda each=each: each(x, **training))
            if y is not None:
                y = ops.convert_to_numpy(ops.cast(y, "float32"))
                assert y.shape == shape
                assert np.isfinite(y).all() or not is_moderate(arguments)

    return owes


def owes_features(layer, arguments):
    again = comes_back(layer, arguments) if can_be_saved({"": arguments.get("activity_regularizer")}) else layer
    if not layer.columns:
        return
    assert again.columns == layer.columns
    table = {c.name: [c.vocabulary[0], "?"] if hasattr(c, "vocabulary") else [c.mean, c.mean + 1] for c in layer.columns}
    x = refused(lambda: layer.encode(table))
    if x is not None:
        assert ops.convert_to_numpy(layer(x)).shape == (2, layer.units)


def owes_a_score(metric, arguments):
    """Hold the law of a metric of classes: right predictions have a score, and its config gives it again."""
    classes = metric.classes or 3
    if classes > 1000:  # its predictions alone would take megabytes to terabytes
        return
    again = type(metric).from_config(metric.get_config())
    for each in (metric, again):
        predicted = np.eye(classes, dtype="float32") if metric.classes else np.arange(3.0)[:, None]
        each.update_state(np.arange(classes), predicted)
    first, second = (np.asarray(ops.convert_to_numpy(each.result())) for each in (metric, again))
    np.testing.assert_array_equal(first, second)


CLASSES = st.integers(2, 5) | st.just(np.int64(3))
DROPOUT = {"rate": SHARE, "seed": SEED, "monte_carlo": FLAG, "stream": st.none() | st.integers(0, 3), **BASE}
FORMAT = st.sampled_from([None, "channels_last", "channels_first"])
FUZZED = {
    "BatchNormalization": Fuzzed(
        layers.BatchNormalization,
        {
            "axis": st.sampled_from([-1, 1, 0, (1,), (1, 2), [-1, -2], np.int64(2)]),
            "momentum": SHARE,
            "epsilon": st.sampled_from([0, 1e-3, 1, np.float32(0.1)]),
            **dict.fromkeys(("center", "scale", "renorm", "debias", "synchronized"), FLAG),
            **dict.fromkeys(("beta_initializer", "gamma_initializer", "moving_mean_initializer"), INITIALIZER),
            "moving_variance_initializer": st.sampled_from(["ones", keras.initializers.Constant(0.5)]),
            **dict.fromkeys(("beta_regularizer", "gamma_regularizer"), PENALTY),
            **dict.fromkeys(("beta_constraint", "gamma_constraint"), CONSTRAINT),
            "renorm_clipping": st.sampled_from([None, {}, {"rmin": 0.5, "rmax": 2.0, "dmax": 1.0}, {"rmax": None}]),
            "renorm_momentum": SHARE,
            "virtual_batch_size": st.none() | WHOLE,
            **BASE,
        },
        works_on(4, 3, 2, training=True),
        found=(
            {"momentum": 10**400},
            {"momentum": np.float32(0.5), "epsilon": Fraction(1, 2), "virtual_batch_size": np.int64(3)},
            {"beta_initializer": 3},
            {"moving_variance_initializer": None, "renorm": True},
            {"gamma_regularizer": {}},
            {"beta_constraint": object},
            {"dtype": "nothing"},
            {"dtype": {"class_name": "Nothing"}},
            {"activity_regularizer": "nothing"},
            {"name": "a.b"},
            {"synchronized": np.array([0.5, 1.0])},
            {"renorm_clipping": np.nan},
            {"renorm": True, "renorm_clipping": {"rmax": "a"}},
        ),
    ),
    "BalancedAccuracy": Fuzzed(
        tables.BalancedAccuracy, {"classes": CLASSES}, owes_a_score, ("classes",), found=({"classes": 10**9}, {"classes": 2**63})
    ),
    "TargetMetric": Fuzzed(
        tables.TargetMetric,
        {
            "metric": st.sampled_from(["accuracy", "balanced_accuracy", "auc", "f1_score"]),
            "classes": CLASSES,
            "scale": st.sampled_from([1, 0.5, np.float32(2)]),
            "offset": st.sampled_from([0, -1.5, np.int64(3)]),
        },
        owes_a_score,
        ("metric", "classes"),
        found=({"metric": None, "classes": 2}, {"metric": "balanced_accuracy", "classes": 10**9}, {"metric": "f1_score", "classes": 2**63}),
    ),
    "PredictionInterval": Fuzzed(
        tables.PredictionInterval,
        {"radii": st.sampled_from([{0.5: 1.0}, [(0.9, 2), (0.5, 0.0)], {np.float64(0.5): np.float32(1.5)}]), **BASE},
        works_on(4, 1),
        ("radii",),
    ),
    "ClassNames": Fuzzed(
        tables.ClassNames,
        {"names": st.lists(st.text(max_size=3), unique=True, min_size=2, max_size=3), **BASE},
        works_on(4, 2),
        ("names",),
        found=({"names": np.array(0.5)}, {"names": ["a", "b"], "dtype": "nothing"}),
    ),
    "Dropout": Fuzzed(
        layers.Dropout,
        {"noise_shape": st.sampled_from([None, (None, 1, None), [3, 2], (1, 1, 1), (5,), ()]), **DROPOUT},
        works_on(4, 3, 2, training=True),
        ("rate",),
        found=(
            {"rate": 10**400},
            {"rate": np.float32(0.5), "stream": np.int64(3), "seed": np.int64(5)},
            {"rate": 0.5, "seed": 2**31},
            {"rate": 0.5, "seed": 2**63},
            {"rate": 0.5, "seed": -1},
            {"rate": 0.5, "noise_shape": (np.int64(4), 1, 1)},
        ),
    ),
    "SpatialDropout1D": Fuzzed(layers.SpatialDropout1D, DROPOUT, works_on(4, 3, 2, training=True), ("rate",)),
    "SpatialDropout2D": Fuzzed(layers.SpatialDropout2D, {"data_format": FORMAT, **DROPOUT}, works_on(2, 3, 2, 2, training=True), ("rate",)),
    "SpatialDropout3D": Fuzzed(
        layers.SpatialDropout3D, {"data_format": FORMAT, **DROPOUT}, works_on(2, 3, 2, 2, 1, training=True), ("rate",)
    ),
    "TableFeatures": Fuzzed(
        tables.TableFeatures,
        {"columns": st.none() | st.lists(st.sampled_from(COLUMNS), unique_by=lambda c: c["name"], min_size=1), **BASE},
        owes_features,
        found=(
            {"columns": np.array(2)},
            {"columns": [{"name": "a", "vocabulary": np.array(0.5)}]},
            {"columns": [{**COLUMNS[0], "gaps": 1}]},
        ),
    ),
}


def test_every_layer_has_a_strategy():
    assert sorted(FUZZED) == sorted([*fuzzing.public(layers), *fuzzing.public(tables, ("Table",))])


def test_a_layer_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_a_layer_works_or_is_refused_in_words_whatever_it_is_given(name):
    fuzzing.deep(name, FUZZED[name])
