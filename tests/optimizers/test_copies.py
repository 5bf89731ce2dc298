"""Copies of an optimizer go on where it is."""

import copy
import json
import pickle
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

SHAPES = [(3, 2), (2,)]
CASES = [
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"weight_decay": 0.1, "use_ema": True, "exclude_norms_and_biases": True}),
    ("Adagrad", {"learning_rate_multipliers": {"a": 0.5}}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "epsilon": 1e-2}),
    ("Adam", {"amsgrad": True, "clipnorm": 1.0}),
    ("Adam", {"gradient_accumulation_steps": 3}),
]
every_case = pytest.mark.parametrize(("name", "arguments"), CASES)
HOW = {"deepcopy": copy.deepcopy, "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer))}
every_way = pytest.mark.parametrize("copied", HOW.values(), ids=HOW)
RATES = """
def a_tenth():
    return 0.1
"""


def start(dtype="float32"):
    rng = np.random.default_rng(0)
    # The name is in the patterns above.
    return [keras.Variable(rng.normal(size=shape), dtype=dtype, name=f"a{i}") for i, shape in enumerate(SHAPES)]


def steps(optimizer, variables, first, last):
    """The steps from `first` to `last`, and the weights after each of them."""
    seen = []
    for t in range(first, last):
        rng = np.random.default_rng(t)
        optimizer.apply([ops.convert_to_tensor(rng.normal(size=shape).astype("float32")) for shape in SHAPES], variables)
        seen.append(arrays(variables))
    return seen


def arrays(variables):
    # A copy: on PyTorch the array would be the variable's own memory.
    return [np.array(ops.convert_to_numpy(ops.cast(v, "float32"))) for v in variables]


def assert_equal(got, wanted):
    for mine, other in zip(keras.tree.flatten(got), keras.tree.flatten(wanted), strict=True):
        np.testing.assert_array_equal(mine, other)


def set_to(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@every_way
@every_case
def test_a_copy_takes_the_next_steps_as_the_original_does(name, arguments, copied):
    variables = start()
    optimizer = getattr(optimizers, name)(0.1, **arguments)
    steps(optimizer, variables, 0, 5)
    optimizer.learning_rate = 0.05
    again, kept = copied(optimizer), arrays(variables)
    assert again is not optimizer
    assert_equal(arrays(again.variables), arrays(optimizer.variables))
    wanted = steps(optimizer, variables, 5, 15)
    # The original's steps have not moved the copy's state, nor does the copy move the original's.
    state = arrays(optimizer.variables)
    set_to(variables, kept)
    assert_equal(steps(again, variables, 5, 15), wanted)
    assert_equal(arrays(again.variables), state)
    assert_equal(arrays(optimizer.variables), state)
    steps(again, variables, 15, 16)
    assert_equal(arrays(optimizer.variables), state)


@every_way
@pytest.mark.parametrize(("name", "arguments"), CASES[::2])
def test_a_copy_before_the_first_step_starts_as_the_original_does(name, arguments, copied):
    optimizer = getattr(optimizers, name)(0.1, **arguments)
    optimizer.learning_rate = 0.05
    again = copied(optimizer)
    assert not again.built
    wanted = steps(optimizer, start(), 0, 5)
    assert_equal(steps(again, start(), 0, 5), wanted)


@every_way
def test_a_copy_of_a_copy_that_has_no_weights_yet_keeps_the_state(copied):
    variables = start()
    optimizer = optimizers.Adam(0.1)
    steps(optimizer, variables, 0, 5)
    again = copied(pickle.loads(pickle.dumps(optimizer)))
    assert_equal(arrays(again.variables), arrays(optimizer.variables))
    kept = arrays(variables)
    wanted = steps(optimizer, variables, 5, 8)
    set_to(variables, kept)
    assert_equal(steps(again, variables, 5, 8), wanted)


@every_way
def test_a_copy_of_half_precision_keeps_its_master_weights(copied):
    variables = start("bfloat16")
    optimizer = optimizers.SGD(1e-4, momentum=0.9, master_weights=True)
    steps(optimizer, variables, 0, 5)
    again, kept = copied(optimizer), arrays(variables)
    wanted = steps(optimizer, variables, 5, 15)
    set_to(variables, kept)
    assert_equal(steps(again, variables, 5, 15), wanted)
    assert_equal(arrays(again.variables), arrays(optimizer.variables))


@every_way
def test_a_schedule_goes_on_where_it_is(copied):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5, staircase=True)
    variables = start()
    optimizer = optimizers.Adam(schedule)
    steps(optimizer, variables, 0, 5)
    again = copied(optimizer)
    np.testing.assert_allclose(float(ops.convert_to_numpy(again.learning_rate)), 0.05, rtol=1e-6)
    kept = arrays(variables)
    wanted = steps(optimizer, variables, 5, 15)
    set_to(variables, kept)
    assert_equal(steps(again, variables, 5, 15), wanted)


def test_a_function_goes_along_as_it_is():
    rates = iter(np.linspace(0.1, 0.2, 30))
    optimizer = optimizers.SGD(lambda: next(rates), momentum=0.9)
    variables = start()
    steps(optimizer, variables, 0, 3)
    again = copy.deepcopy(optimizer)
    before = next(rates)
    # Both ask the same function.
    steps(again, variables, 3, 4)
    assert next(rates) - before > 1.5 * 0.1 / 29


def test_a_deep_copy_moves_the_weights_that_are_copied_with_it():
    variables = start()
    optimizer = optimizers.Adam(0.1)
    steps(optimizer, variables, 0, 5)
    copies, again = copy.deepcopy((variables, optimizer))
    kept = arrays(variables)
    moved = steps(again, copies, 5, 8)
    assert_equal(arrays(variables), kept)
    assert_equal(moved, steps(optimizer, variables, 5, 8))


def test_keras_own_class_begins_again():
    variables = start()
    theirs = keras.optimizers.Adam(0.1)
    steps(theirs, variables, 0, 5)
    again = copy.deepcopy(theirs)
    assert int(theirs.iterations) == 5
    assert int(again.iterations) == 0
    kept = arrays(variables)
    wanted = steps(theirs, variables, 5, 6)
    set_to(variables, kept)
    assert np.abs(steps(again, start(), 5, 6)[0][0] - wanted[0][0]).max() > 1e-3


NEXT_STEPS = """
import json, pickle, sys
sys.path[:0] = sys.argv[2:]
import numpy as np
import test_copies

with open(sys.argv[1], "rb") as file:
    report = {}
    for name, (optimizer, weights) in pickle.load(file).items():
        variables = test_copies.start()
        test_copies.set_to(variables, weights)
        seen = test_copies.steps(optimizer, variables, 5, 15)
        report[name] = [[w.tolist() for w in seen[-1]], [v.tolist() for v in test_copies.arrays(optimizer.variables)]]
print(json.dumps(report))
"""


def test_a_new_process_goes_on_from_a_pickle(in_new_process, tmp_path, monkeypatch):
    (tmp_path / "rates.py").write_text(RATES)
    monkeypatch.syspath_prepend(tmp_path)
    import rates

    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    made = {f"{name} {i}": getattr(optimizers, name)(0.1, **arguments) for i, (name, arguments) in enumerate(CASES)}
    made |= {"schedule": optimizers.Adam(schedule), "function": optimizers.RMSprop(rates.a_tenth)}
    saved, wanted = {}, {}
    for key, optimizer in made.items():
        variables = start()
        steps(optimizer, variables, 0, 5)
        saved[key] = (optimizer, arrays(variables))
    (tmp_path / "optimizers.pickle").write_bytes(pickle.dumps(saved))
    for key, optimizer in made.items():
        variables = start()
        set_to(variables, saved[key][1])
        # The same weights in other variables: the optimizer knows its own alone.
        again = pickle.loads(pickle.dumps(optimizer))
        wanted[key] = [steps(again, variables, 5, 15)[-1], arrays(again.variables)]
    sys.modules.pop("rates")
    printed = in_new_process(NEXT_STEPS, tmp_path / "optimizers.pickle", tmp_path, __file__.rpartition("/")[0])
    report = json.loads(printed.splitlines()[-1])
    assert list(report) == list(made)
    for key, parts in report.items():
        for mine, other in zip(
            keras.tree.flatten([list(map(np.array, part)) for part in parts]), keras.tree.flatten(wanted[key]), strict=True
        ):
            np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-7, err_msg=key)


def stepped_adam():
    variables = start()
    optimizer = optimizers.Adam(0.1, name="mine")
    steps(optimizer, variables, 0, 5)
    return optimizer, variables


WRONG = (
    "The optimizer 'mine' was copied with 6 variables of the shapes (), (), (3, 2), (3, 2), (2,), (2,), and has {} on these weights. "
    "Build it on the weights, in their order, that it had."
)


@pytest.mark.parametrize(
    ("shapes", "described"),
    [
        ([(2,), (3, 2)], "6 variables of the shapes (), (), (2,), (2,), (3, 2), (3, 2)"),
        ([(3, 2)], "4 variables of the shapes (), (), (3, 2), (3, 2)"),
        ([(3, 2), (2,), ()], "8 variables of the shapes (), (), (3, 2), (3, 2), (2,), (2,), (), ()"),
    ],
)
def test_other_weights_are_refused_and_the_right_ones_taken_after_that(shapes, described):
    optimizer, variables = stepped_adam()
    again = pickle.loads(pickle.dumps(optimizer))
    others = [keras.Variable(np.zeros(shape, "float32")) for shape in shapes]
    with pytest.raises(ValueError) as caught:
        again.build(others)
    assert str(caught.value) == WRONG.format(described)
    kept = arrays(variables)
    wanted = steps(optimizer, variables, 5, 8)
    set_to(variables, kept)
    assert_equal(steps(again, variables, 5, 8), wanted)
    assert_equal(arrays(again.variables), arrays(optimizer.variables))


def test_a_rate_that_is_set_before_the_copy_has_weights_counts():
    optimizer, variables = stepped_adam()
    again = pickle.loads(pickle.dumps(optimizer))
    again.learning_rate = 0.01
    steps(again, variables, 5, 6)
    np.testing.assert_allclose(float(ops.convert_to_numpy(again.learning_rate)), 0.01, rtol=1e-6)


def test_a_model_trains_on_with_a_pickled_optimizer():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3)).astype("float32"), rng.normal(size=(16, 1)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="tanh"), keras.layers.Dense(1)])
    model.compile(optimizers.Adam(0.05, amsgrad=True), "mse")
    model.fit(x, y, verbose=0)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    again.compile(pickle.loads(pickle.dumps(model.optimizer)), "mse")
    for each in (model, again):
        each.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    assert int(again.optimizer.iterations) == 7
    for mine, wanted in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=1e-6)


@every_way
@pytest.mark.parametrize("inner", [lambda: keras.optimizers.SGD(0.1), lambda: optimizers.Adam(0.1)], ids=["without slots", "with slots"])
def test_a_copy_of_gradient_clipping_goes_on_and_refuses_other_weights(inner, copied):
    variables = start()
    optimizer = optimizers.GradientClipping(inner(), "zscore")
    steps(optimizer, variables, 0, 3)
    again, unbuilt = copied(optimizer), pickle.loads(pickle.dumps(optimizer))
    with pytest.raises(ValueError, match="Build it on the weights, in their order, that it had"):
        unbuilt.build(variables[:1])
    kept = arrays(variables)
    wanted = steps(optimizer, variables, 3, 6)
    for each in (again, unbuilt):
        set_to(variables, kept)
        assert_equal(steps(each, variables, 3, 6), wanted)
        assert_equal(arrays(each.variables), arrays(optimizer.variables))
        assert each.steps == 6
