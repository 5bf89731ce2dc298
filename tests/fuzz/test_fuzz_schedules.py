"""Every schedule, of rates and of batches, whatever it is given: a course, or an error in words."""

import fuzzing
import keras
import numpy as np
import pytest
from fuzzing import FLAG, WHOLE, Fuzzed, comes_back, is_moderate, refused
from hypothesis import strategies as st
from keras import ops

from keras_ext import schedules

# Has no constructor of its own.
ABSTRACT = ("Schedule",)
NUMBER = st.sampled_from([0.1, 1, 0.5, np.float32(2)])
STEPS = st.sampled_from([3, 10, 1000, np.int64(7)])
X, Y = np.arange(14.0).reshape(7, 2), np.arange(7.0)
ARRAYS = {
    "x": st.sampled_from([X, [X, X], {"a": X}, (X,)]),
    "y": st.sampled_from([None, Y, [Y], {"b": Y}]),
    "sample_weight": st.sampled_from([None, Y]),
}


def owes_a_course(schedule, arguments):
    again = comes_back(schedule, arguments)
    for step in (0, 1, 5, 10**6):
        rate = float(ops.convert_to_numpy(schedule(step)))
        assert (np.isfinite(rate) and rate >= 0) or not is_moderate(arguments)
        assert float(ops.convert_to_numpy(again(step))) == rate or not np.isfinite(rate)
    assert float(ops.convert_to_numpy(keras.optimizers.SGD(schedule).learning_rate)) == float(ops.convert_to_numpy(schedule(0)))


def owes_batches(data, arguments):
    batches = [refused(lambda i=i: data[i]) for i in range(len(data))]
    for batch in batches:
        sizes = {len(a) for a in keras.tree.flatten(batch) if a is not None}
        assert len(sizes) == 1
    assert len(batches) >= 1


FUZZED = {
    "CyclicalLearningRate": Fuzzed(
        schedules.CyclicalLearningRate,
        {
            "min_learning_rate": st.sampled_from([0, 0.01, np.float32(0.1)]),
            "max_learning_rate": NUMBER,
            "step_size": STEPS,
            "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
            "gamma": st.sampled_from([None, 1, 0.5, 0.99994]),
        },
        owes_a_course,
        ("min_learning_rate", "max_learning_rate", "step_size"),
        found=({"min_learning_rate": 0, "max_learning_rate": 1e308, "step_size": 3},),
    ),
    "OneCycle": Fuzzed(
        schedules.OneCycle,
        {
            "max_learning_rate": NUMBER,
            "total_steps": STEPS,
            "warmup_share": st.sampled_from([0.3, 0.01, np.float32(0.9)]),
            "start_divisor": st.sampled_from([1, 25.0]),
            "end_divisor": st.sampled_from([1, 1e4]),
            "anneal": st.sampled_from(["cosine", "linear"]),
        },
        owes_a_course,
        ("max_learning_rate", "total_steps"),
        found=({"max_learning_rate": 1e308, "total_steps": 3},),
    ),
    "Warmup": Fuzzed(
        schedules.Warmup,
        {
            "learning_rate": NUMBER | st.builds(schedules.OneCycle, st.just(0.1), st.just(9)),
            "steps": STEPS,
            "start": st.sampled_from([0, 0.05]),
        },
        owes_a_course,
        ("learning_rate", "steps"),
        found=({"learning_rate": 1e308, "steps": 3},),
    ),
    "FullBatch": Fuzzed(
        schedules.FullBatch, {**ARRAYS, "micro_batch": WHOLE}, owes_batches, ("x", "micro_batch"), ({"x": X, "micro_batch": 10**400},)
    ),
    "GrowingBatches": Fuzzed(
        schedules.GrowingBatches,
        {
            **ARRAYS,
            "batch_sizes": st.sampled_from([{0: 2}, {0: 1, 3: 7}, {np.int64(0): np.int64(2)}]),
            "remainder": st.sampled_from(["drop", "pad"]),
            "shuffle": FLAG,
            "seed": st.integers(0, 9),
            "workers": st.sampled_from([1, 2]),
            "use_multiprocessing": st.just(False),
            "max_queue_size": st.just(10),
        },
        owes_batches,
        ("x", "batch_sizes"),
        found=({"x": X, "batch_sizes": {0: 2}, "workers": "a"},),
    ),
}


def test_every_schedule_has_a_strategy():
    assert sorted(FUZZED) == fuzzing.public(schedules, ABSTRACT)


def test_a_schedule_works_or_is_refused_in_words():
    fuzzing.quick(FUZZED)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZED)
def test_a_schedule_works_or_is_refused_in_words_whatever_it_is_given(name):
    fuzzing.deep(name, FUZZED[name])
