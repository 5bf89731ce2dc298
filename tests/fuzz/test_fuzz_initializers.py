"""Every initializer, whatever it is given: weights of the right shape, or an error in words."""

import fuzzing
import keras
import numpy as np
import pytest
from fuzzing import FLAG, SEED, WHOLE, Fuzzed, comes_back, is_moderate, refused
from hypothesis import strategies as st
from keras import ops

from keras_ext import initializers

# Results, which the package makes.
MADE_BY_US = ("InitializationReport", "InitializedWeight")
SHAPES = ((4, 6), (3, 3, 2, 4), (5,), (2, 3, 4))
GAIN = st.sampled_from([1.0, 0.5, 2, np.float32(0.5), "relu", "tanh", "leaky_relu"])
AXES = st.sampled_from([None, [0], [1], (0, 1), [-1], [0, np.int64(1)]])
COMMON = {
    "seed": SEED | st.builds(keras.random.SeedGenerator, st.just(3)),
    "input_axes": AXES,
    "output_axes": AXES,
    "kind": st.sampled_from([None, "dense", "conv", "depthwise", "conv_transpose", "embedding", "recurrent", "einsum"]),
    "strides": st.sampled_from([1, 2, (2, 2), [1, 2]]),
}
NAMED = {**COMMON, "gain": GAIN | st.none(), "groups": WHOLE}


def owes_weights(initializer, arguments):
    again = comes_back(initializer, arguments)
    for shape in SHAPES:
        drawn = refused(lambda shape=shape: initializer(shape))
        if drawn is None:
            continue
        values = ops.convert_to_numpy(drawn)
        assert values.shape == shape
        assert np.isfinite(values).all() or not is_moderate(arguments)
        if isinstance(initializer.seed, int) and arguments.get("seed") is not None:
            np.testing.assert_array_equal(values, ops.convert_to_numpy(again(shape)))


FUZZED = {
    **{
        name: Fuzzed(getattr(initializers, name), NAMED, owes_weights, found=({"gain": np.float32(0.5)},))
        for name in fuzzing.public(initializers, (*MADE_BY_US, "VarianceScaling", "Orthogonal"))
    },
    "VarianceScaling": Fuzzed(
        initializers.VarianceScaling,
        {
            **NAMED,
            "gain": GAIN,
            "scale": st.sampled_from([1.0, 2, 0.1, np.float32(0.5)]),
            "mode": st.sampled_from(["fan_in", "fan_out", "fan_avg"]),
            "distribution": st.sampled_from(["truncated_normal", "untruncated_normal", "uniform", "normal"]),
        },
        owes_weights,
        found=(
            *({"gain": gain} for gain in (1e308, np.float32(0.5), 10**400)),
            *({"groups": groups} for groups in (1 + 0j, np.array([0.5, 1.0]), np.int64(2), True)),
            *({"scale": scale} for scale in (None, np.nan, 10**400, np.float32(0.5))),
            {"mode": []},
            {"distribution": None},
            {"input_axes": range(3)},
            {"output_axes": b"x"},
            {"kind": np.array(["a", "b"])},
            {"strides": True},
            *({"seed": seed} for seed in (np.int64(5), -1, 2**63, True)),
        ),
    ),
    "Orthogonal": Fuzzed(
        initializers.Orthogonal,
        {**COMMON, "gain": GAIN | st.sampled_from([0, -1.0]), "blocks": WHOLE, "delta": FLAG},
        owes_weights,
        found=({"gain": 1e308}, {"input_axes": range(2), "output_axes": [2]}, {"strides": np.array([])}),
    ),
}


def test_every_initializer_has_a_strategy():
    assert sorted(FUZZED) == fuzzing.public(initializers, MADE_BY_US)


def test_an_initializer_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_an_initializer_works_or_is_refused_in_words_whatever_it_is_given(name):
    fuzzing.deep(name, FUZZED[name])
