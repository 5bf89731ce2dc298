import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.schedules import CyclicalLearningRate, OneCycle, Warmup

EXACT = 4e-7
KERAS = keras.optimizers.schedules
BEHIND = {
    "exponential": lambda: KERAS.ExponentialDecay(0.5, 10, 0.9),
    "cosine": lambda: KERAS.CosineDecay(0.3, 30, warmup_target=0.5, warmup_steps=4),
    "restarts": lambda: KERAS.CosineDecayRestarts(0.5, 7),
    "piecewise": lambda: KERAS.PiecewiseConstantDecay([3, 9], [0.5, 0.25, 0.125]),
    "polynomial": lambda: KERAS.PolynomialDecay(0.5, 9, cycle=True),
    "inverse": lambda: KERAS.InverseTimeDecay(0.5, 3, 0.5),
    "cyclical": lambda: CyclicalLearningRate(0.1, 0.5, 3, "triangular2"),
    "one cycle": lambda: OneCycle(0.5, 20),
    "warm-up": lambda: Warmup(OneCycle(0.5, 20), 4, start=0.01),
}


def rates(schedule, steps):
    return np.array([float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(step, dtype="int32")))) for step in steps])


@pytest.mark.parametrize("name", BEHIND)
def test_what_comes_behind_starts_at_its_own_step_0(name):
    schedule = BEHIND[name]()
    own = np.array([0, 1, 3, 4, 9, 10, 35])
    wanted = rates(schedule, own)
    with_warmup = Warmup(schedule, 6, start=0.02)
    np.testing.assert_array_equal(rates(with_warmup, 6 + own), wanted)
    before = np.array([0, 1, 3, 5])
    np.testing.assert_allclose(rates(with_warmup, before), 0.02 + (wanted[0] - 0.02) * before / 6, rtol=EXACT)


@pytest.mark.parametrize("steps", [1, 5, 1000])
@pytest.mark.parametrize("start", [0.0, 0.01, 0.1])
def test_a_constant_rate(start, steps):
    got = ops.convert_to_numpy(Warmup(0.1, steps, start)(np.arange(2 * steps)))
    np.testing.assert_allclose(got, start + (0.1 - start) * np.minimum(np.arange(2 * steps) / steps, 1), rtol=EXACT)
    assert got[0] == np.float32(start)
    assert (got[steps:] == np.float32(0.1)).all()


def test_a_long_warm_up_and_what_comes_after_it_are_exact_in_steps():
    long = Warmup(CyclicalLearningRate(0.0, 1.0, 3), 2**24 + 1)
    np.testing.assert_array_equal(rates(long, 2**24 + 1 + np.arange(7)), rates(CyclicalLearningRate(0.0, 1.0, 3), range(7)))
    assert rates(Warmup(1.0, 2**24 + 2), [2**23 + 1]) == 0.5
    far = Warmup(CyclicalLearningRate(0.0, 1.0, 3), 1)
    np.testing.assert_array_equal(rates(far, 6 * 2**24 + 1 + np.arange(7)), rates(CyclicalLearningRate(0.0, 1.0, 3), range(7)))


@pytest.mark.parametrize("name", [*BEHIND, "constant"])
def test_the_config_holds_what_comes_behind(name):
    schedule = Warmup(BEHIND[name]() if name in BEHIND else 0.5, 6, 0.02)
    saved = json.loads(json.dumps(KERAS.serialize(schedule)))
    again = KERAS.deserialize(saved)
    assert saved["registered_name"] == "keras_ext>Warmup"
    assert type(again.learning_rate) is type(schedule.learning_rate)
    assert json.dumps(again.get_config()) == json.dumps(schedule.get_config())
    np.testing.assert_array_equal(rates(again, [3, 10]), rates(schedule, [3, 10]))


def test_a_schedule_of_the_users_own():
    class Halving(KERAS.LearningRateSchedule):
        def __init__(self, first):
            self.first = first

        def __call__(self, step):
            return self.first * 0.5 ** ops.cast(step, "float32")

        def get_config(self):
            return {"first": self.first}

    schedule = Warmup(Halving(0.8), 2)
    np.testing.assert_allclose(rates(schedule, range(5)), [0.0, 0.4, 0.8, 0.4, 0.2], rtol=EXACT)
    again = KERAS.deserialize(KERAS.serialize(schedule), custom_objects={"Halving": Halving})
    np.testing.assert_array_equal(rates(again, range(5)), rates(schedule, range(5)))
