import keras
import numpy as np
import pytest
from keras import ops

from keras_ext.schedules import OneCycle
from keras_ext.schedules.one_cycle import one_cycle, peak_step

EXACT = 5e-7


def course(step, total, top, start, peak, end, anneal):
    """The two halves in float64, as PyTorch's OneCycleLR has them; `top` is the step of the peak."""
    way = {"cosine": lambda a, b, p: b + (a - b) / 2 * (1 + np.cos(np.pi * p)), "linear": lambda a, b, p: a + (b - a) * p}[anneal]
    step = np.minimum(np.asarray(step, "float64"), total - 1)
    return np.where(step <= top, way(start, peak, step / top), way(peak, end, (step - top) / (total - 1 - top)))


def values(step, *arguments):
    return ops.convert_to_numpy(one_cycle(step, *arguments))


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize(
    ("total", "share", "top"), [(100, 0.3, 29), (1000, 0.45, 449), (3, 0.5, 1), (10, 0.99, 8), (10, 0.01, 1), (7, 0.5, 3)]
)
@pytest.mark.parametrize(("start", "peak", "end"), [(0.04, 1.0, 4e-6), (0.95, 0.85, 0.95), (0.0, 2.0, 0.0), (1.0, 1.0, 1.0)])
def test_the_course_is_that_of_the_formula(anneal, total, share, top, start, peak, end):
    assert peak_step(total, share) == top
    steps = np.arange(total + 20)
    wanted = course(steps, total, top, start, peak, end, anneal)
    # NumPy's own 1 + cos has lost its digits where the course is nearly 0.
    np.testing.assert_allclose(values(steps, total, share, start, peak, end, anneal), wanted, rtol=EXACT, atol=1e-14)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("total", [3, 4, 10, 1001, 2**24 + 3, 2**30])
def test_start_peak_and_end_are_exact(anneal, total):
    for share in (1e-9, 0.25, 0.3, 0.5, 0.9999):
        schedule = OneCycle(0.7, total, share, start_divisor=7.0, end_divisor=3.0, anneal=anneal)
        assert 0 < schedule.peak_step < total - 1
        got = ops.convert_to_numpy(schedule(np.array([0, schedule.peak_step, total - 1, total, 2 * total - 1], "int32")))
        last = np.float32(0.7 / 7 / 3)
        np.testing.assert_array_equal(got, np.array([0.7 / 7, 0.7, last, last, last], "float32"))


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_it_rises_and_falls_without_a_jump(anneal):
    schedule = OneCycle(1.0, 2000, anneal=anneal)
    got = np.diff(ops.convert_to_numpy(schedule(np.arange(2000))))
    assert schedule.peak_step == 599
    assert (got[:599] > 0).all()
    assert (got[599:] < 0).all()
    # The steepest place of half a wave has pi / 2 times the mean slope.
    assert np.abs(got).max() <= 0.96 / 599 * (np.pi / 2 if anneal == "cosine" else 1) * 1.001


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_steps_that_float32_does_not_tell_apart(anneal):
    total, share = 2**24 + 2**23, 0.7
    top = peak_step(total, share)
    for near in (0, top, 2**24, total - 1):
        steps = np.arange(max(near - 3, 0), near + 4)
        wanted = course(steps, total, top, 0.04, 1.0, 4e-6, anneal)
        got = values(steps, total, share, 0.04, 1.0, 4e-6, anneal)
        np.testing.assert_allclose(got, wanted, rtol=EXACT, atol=1e-14)
    last = np.diff(values(np.arange(total - 5, total + 2), total, share, 1.0, 1.0, 0.0, "linear"))
    np.testing.assert_allclose(last, [-1 / (total - 1 - top)] * 4 + [0, 0], rtol=EXACT)


def test_momentum_runs_against_the_rate():
    schedule = OneCycle(1.0, 50)
    steps = np.arange(60)
    momentum = values(steps, schedule.total_steps, schedule.warmup_share, 0.95, 0.85, 0.95, schedule.anneal)
    assert momentum.argmin() == schedule.peak_step == ops.convert_to_numpy(schedule(steps)).argmax()
    assert momentum[0] == momentum[49] == momentum[59] == np.float32(0.95)


@pytest.mark.parametrize("number", [5, np.int64(5), np.array([5]), 5.0])
def test_it_takes_numbers_and_arrays(number):
    np.testing.assert_array_equal(np.ravel(values(number, 8, 0.5, 0.0, 1.0, 0.5, "linear")), 0.75)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="imports PyTorch, which takes long")
@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_pytorch_agrees(anneal):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.5, 90, anneal_strategy={"cosine": "cos", "linear": "linear"}[anneal], cycle_momentum=False
    )
    wanted = []
    for _ in range(90):
        wanted.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(wanted) < 90:
            theirs.step()
    np.testing.assert_allclose(ops.convert_to_numpy(OneCycle(0.5, 90, anneal=anneal)(np.arange(90))), wanted, rtol=EXACT)


def test_the_linear_course_by_hand():
    assert [peak_step(*case) for case in ((100, 0.3), (10, 0.05), (3, 0.9))] == [29, 1, 1]
    assert [round(float(one_cycle(step, 9, 0.5, 0.25, 1.0, 0.0, "linear")), 6) for step in (0, 1, 3, 5, 8, 99)] == [
        0.25,
        0.5,
        1.0,
        0.6,
        0.0,
        0.0,
    ]
