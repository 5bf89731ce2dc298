import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.schedules import CyclicalLearningRate

# Sums of two numbers that are each a few roundings off.
EXACT = 4e-7


def smith(step, low, high, step_size, scale):
    """Smith 2017, section 3, in float64; `scale` is a function of step and cycle."""
    step = np.asarray(step, "float64")
    cycle = np.floor(1 + step / (2 * step_size))
    x = np.abs(step / step_size - 2 * cycle + 1)
    return low + (high - low) * np.maximum(0, 1 - x) * scale(step, cycle)


SCALES = {
    "triangular": lambda step, cycle: 1.0,
    "triangular2": lambda step, cycle: 0.5 ** (cycle - 1),
    "exp_range": lambda step, cycle: 0.999**step,
}


def rates(schedule, steps):
    return np.array([float(ops.convert_to_numpy(schedule(int(step)))) for step in steps])


def make(mode, low=0.001, high=0.3, step_size=7):
    return CyclicalLearningRate(low, high, step_size, mode, 0.999 if mode == "exp_range" else None)


@pytest.mark.parametrize("mode", SCALES)
@pytest.mark.parametrize(("low", "high", "step_size"), [(0.001, 0.3, 7), (0.0, 2.0, 1), (1e-7, 1.0, 50)])
def test_the_course_is_the_papers(mode, low, high, step_size):
    steps = np.arange(2000)
    got = ops.convert_to_numpy(make(mode, low, high, step_size)(steps))
    # Of gamma, its logarithm times the step is rounded, and the exponential of it: 2 at step 2000.
    rtol = EXACT * (1 + 2 * (mode == "exp_range"))
    # XLA takes numbers below float32's smallest normal one for 0.
    np.testing.assert_allclose(got, smith(steps, low, high, step_size, SCALES[mode]), rtol=rtol, atol=2.0**-126)


@pytest.mark.parametrize("mode", SCALES)
def test_one_step_is_as_many_steps_at_once(mode):
    steps = [0, 1, 6, 7, 8, 13, 14, 15, 500]
    # A vector's quotients may be rounded otherwise.
    np.testing.assert_allclose(rates(make(mode), steps), ops.convert_to_numpy(make(mode)(np.array(steps))), rtol=2.0**-22)


@pytest.mark.parametrize("step_size", [1, 7, 1000, 2**24 + 1])
def test_lowest_and_highest_are_exact(step_size):
    for mode in SCALES:
        schedule = make(mode, 0.1, 0.7, step_size)
        lows = [2 * k * step_size for k in (0, 1, 5, 20) if 2 * k * step_size < 2**31]
        np.testing.assert_array_equal(rates(schedule, lows), np.float32(0.1))
    schedule = make("triangular", 0.1, 0.7, step_size)
    np.testing.assert_array_equal(rates(schedule, [(2 * k + 1) * step_size for k in (0, 1, 20)]), np.float32(0.7))
    assert rates(make("triangular2", 0.1, 0.7, step_size), [step_size]) == np.float32(0.7)


def test_heights_halve_with_each_cycle():
    peaks = rates(CyclicalLearningRate(0.0, 1.0, 5, "triangular2"), 5 + 10 * np.arange(20))
    np.testing.assert_allclose(peaks, 0.5 ** np.arange(20), rtol=EXACT)


@pytest.mark.parametrize("step_size", [3, 7, 1000])
def test_a_cycle_repeats_for_ever(step_size):
    """Where float32 no longer reports a step from the next: 2**24, and the end of 32 bits."""
    schedule, cycle = make("triangular", step_size=step_size), 2 * step_size
    first = ops.convert_to_numpy(schedule(np.arange(cycle)))
    for far in (2**24 // cycle * cycle, 2**28 // cycle * cycle, (2**31 - 1) // cycle * cycle - cycle):
        np.testing.assert_array_equal(ops.convert_to_numpy(schedule(far + np.arange(cycle))), first)


@pytest.mark.parametrize("mode", SCALES)
def test_the_paper_far_out(mode):
    steps = 2**24 + np.arange(30)
    gamma = 1 - 1e-7
    schedule = CyclicalLearningRate(0.1, 0.7, 7, mode, gamma if mode == "exp_range" else None)
    scale = {**SCALES, "exp_range": lambda step, cycle: gamma**step}[mode]
    np.testing.assert_allclose(rates(schedule, steps), smith(steps, 0.1, 0.7, 7, scale), rtol=2 * EXACT)


def test_neighbours_differ_by_one_part_of_the_way():
    course = rates(make("triangular", 0.1, 0.7, 50), range(500))
    np.testing.assert_allclose(np.abs(np.diff(course)), 0.6 / 50, rtol=2e-5)  # 0.7 is 50 times as large as what is reported apart


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int8", "float32"])
def test_steps_come_in_any_dtype(dtype):
    schedule = CyclicalLearningRate(0.0, 1.0, 100)
    assert float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(np.array(50, dtype))))) == 0.5


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float32"])
def test_half_precision_as_floatx_costs_no_digits(floatx):
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        rate = make("triangular2")(2**17 + 5)
    finally:
        keras.config.set_floatx(before)
    assert keras.backend.standardize_dtype(rate.dtype) == "float32"
    np.testing.assert_allclose(float(rate), smith(2**17 + 5, 0.001, 0.3, 7, SCALES["triangular2"]), rtol=EXACT)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="imports PyTorch, which takes long")
@pytest.mark.parametrize("mode", SCALES)
def test_pytorch_agrees(mode):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs = torch.optim.lr_scheduler.CyclicLR(optimizer, 0.001, 0.3, 7, mode=mode, gamma=0.999, cycle_momentum=False)
    wanted = []
    for _ in range(60):
        wanted.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    np.testing.assert_allclose(rates(make(mode), range(60)), wanted, rtol=EXACT)
