"""Gradients that name rows: with `lazy` the other rows are left alone, without it the step is that of the whole gradient."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

BACKEND = keras.backend.backend()
PATHS = {"tensorflow": ["eager", "graph", "xla"], "jax": ["eager", "jit"], "torch": ["eager"]}[BACKEND]
ROWS, WIDTH = 6, 3
# Rows 3 and 4 are named only once, and late; ids repeat, and stand in no order.
IDS = [[2, 0, 2, 0], [1, 5, 2, 5], [1, 1, 1, 0], [0, 0, 3, 2], [4, 2, 4, 1], [0, 5, 5, 5]]


def sgd(w, g, state, t, rate, momentum=0.0, nesterov=False):
    if not momentum:
        return w - rate * g, {}
    m = momentum * state.get("m", 0.0) - rate * g
    return w + (momentum * m - rate * g if nesterov else m), {"m": m}


def adagrad(w, g, state, t, rate):
    a = state.get("a", 0.1) + g * g
    return w - rate * g / np.sqrt(a + 1e-7), {"a": a}


def rmsprop(w, g, state, t, rate, momentum=0.0, centered=False, epsilon=1e-7):
    n = 0.9 * state.get("n", 0.0) + 0.1 * g * g
    mean = 0.9 * state.get("mean", 0.0) + 0.1 * g
    m = momentum * state.get("m", 0.0) + rate * g / np.sqrt(n - (mean * mean if centered else 0) + epsilon)
    return w - m, {"n": n, "mean": mean, "m": m}


def adam(w, g, state, t, rate, amsgrad=False, beta_2=0.9):
    m = 0.9 * state.get("m", 0.0) + 0.1 * g
    v = beta_2 * state.get("v", 0.0) + (1 - beta_2) * g * g
    high = np.maximum(state.get("high", 0.0), v) if amsgrad else v
    return w - rate * (m / (1 - 0.9**t)) / (np.sqrt(high / (1 - beta_2**t)) + 1e-7 / np.sqrt(1 - beta_2**t)), {"m": m, "v": v, "high": high}


RULES = {"SGD": sgd, "Adagrad": adagrad, "RMSprop": rmsprop, "Adam": adam}
LAZY = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "epsilon": 1e-2}),
    ("Adam", {"beta_2": 0.9}),
    ("Adam", {"beta_2": 0.9, "amsgrad": True}),
]


def parts():
    """For each step one row of gradient for each id."""
    rng = np.random.default_rng(0)
    return [(rng.uniform(0.5, 1.5, (len(ids), WIDTH)) * (-1) ** t).astype("float32") for t, ids in enumerate(IDS)]


def whole(ids, rows):
    table = np.zeros((ROWS, WIDTH))
    np.add.at(table, ids, rows.astype("float64"))
    return table


def first_table():
    return np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype("float32")


def stepper(optimizer, table, path):
    """A function that takes one step along the rows of the ids: named ones on TensorFlow, whose embeddings give them."""
    optimizer.build([table])
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def named(rows, ids):
            optimizer.apply([tf.IndexedSlices(rows, ids, tf.constant([ROWS, WIDTH]))], [table])

        function = named if path == "eager" else tf.function(named, jit_compile=path == "xla")
        return lambda ids, rows: function(tf.constant(rows), tf.constant(ids))
    if path == "eager":
        return lambda ids, rows: optimizer.apply([ops.convert_to_tensor(whole(ids, rows).astype("float32"))], [table])
    import jax

    apply = jax.jit(optimizer.stateless_apply)

    def step(ids, rows):
        state = [v.value for v in optimizer.variables]
        (weight,), state = apply(state, [ops.convert_to_tensor(whole(ids, rows).astype("float32"))], [table.value])
        for variable, value in zip([table, *optimizer.variables], [weight, *state], strict=True):
            variable.assign(value)

    return step


def arrays(variables):
    # NumPy alone has no bfloat16; float32 holds every one of its numbers. A copy: on PyTorch the array would be the variable's own memory.
    return [np.array(ops.convert_to_numpy(ops.cast(v, "float32"))) for v in variables]


def of_rows(optimizer, table):
    """The table, and all that the optimizer keeps by row."""
    return arrays([v for v in [table, *optimizer.variables] if tuple(v.shape) == (ROWS, WIDTH)])


def lazily(name, arguments, decay=0.0, rate=0.125):
    """The table after each step of the rule on the touched rows alone, in float64."""
    table, states, tables = first_table().astype("float64"), [{} for _ in range(ROWS)], []
    for t, (ids, rows) in enumerate(zip(IDS, parts(), strict=True), 1):
        for row in set(ids):
            step = RULES[name](table[row] * (1 - rate * decay), whole(ids, rows)[row], states[row], t, rate, **arguments)
            table[row], states[row] = step
        tables.append(table.copy())
    return tables


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("decay", [None, 0.1])
@pytest.mark.parametrize(("name", "arguments"), LAZY)
def test_touched_rows_follow_the_rule_and_the_others_stay_bit_for_bit(name, arguments, decay, path):
    table = keras.Variable(first_table())
    optimizer = getattr(optimizers, name)(0.125, lazy=True, weight_decay=decay, **arguments)
    step = stepper(optimizer, table, path)
    for ids, rows, wanted in zip(IDS, parts(), lazily(name, arguments, decay or 0.0), strict=True):
        before = of_rows(optimizer, table)
        # All but iterations and rate.
        assert len(before) == 1 + len(optimizer.variables) - 2
        step(ids, rows)
        idle = np.setdiff1d(np.arange(ROWS), ids)
        after = of_rows(optimizer, table)
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(new[idle].view("int32"), old[idle].view("int32"))
        assert (after[0][ids] != before[0][ids]).all()
        # Six float32 steps of about the rate each.
        np.testing.assert_allclose(arrays([table])[0], wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("path", PATHS)
def test_adagrad_leaves_rows_alone_without_being_asked(path):
    table = keras.Variable(first_table())
    optimizer = optimizers.Adagrad(0.125)
    step = stepper(optimizer, table, path)
    for ids, rows, wanted in zip(IDS, parts(), lazily("Adagrad", {}), strict=True):
        before = of_rows(optimizer, table)
        step(ids, rows)
        idle = np.setdiff1d(np.arange(ROWS), ids)
        for old, new in zip(before, of_rows(optimizer, table), strict=True):
            np.testing.assert_array_equal(new[idle], old[idle])
        np.testing.assert_allclose(arrays([table])[0], wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "arguments"), LAZY[1::2])
def test_rows_of_a_half_precision_table_move_by_their_float32_masters(name, arguments, path):
    table = keras.Variable(first_table(), dtype="bfloat16")
    start = arrays([table])[0]
    # Steps of less than the weights' last bit, 2^-8 of them.
    optimizer = getattr(optimizers, name)(2.0**-11, lazy=True, master_weights=True, **arguments)
    full = keras.Variable(start)
    exact = getattr(optimizers, name)(2.0**-11, lazy=True, **arguments)
    step, exact_step = stepper(optimizer, table, path), stepper(exact, full, path)
    for ids, rows in zip(IDS, parts(), strict=True):
        before = of_rows(optimizer, table)
        step(ids, rows)
        exact_step(ids, rows)
        idle = np.setdiff1d(np.arange(ROWS), ids)
        *after, masters = of_rows(optimizer, table)
        for old, new in zip(before[:-1], after, strict=True):
            np.testing.assert_array_equal(new[idle], old[idle])
        # A master is 0 until it is first wanted, and then the weight.
        assert ((masters == before[-1]) | (masters == before[0]))[idle].all()
    got, wanted = arrays([table])[0], arrays([full])[0]
    assert np.abs(wanted - start).max() > 2.0**-11
    # Half a unit in the last place of 8 bits, and the float32 rounding.
    np.testing.assert_allclose(got, wanted, rtol=2.0**-8 * 1.001, atol=1e-6)
    # Each row is named at least once.
    np.testing.assert_allclose(masters, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam"])
def test_fit_leaves_the_rows_alone_that_a_batch_does_not_name(name):
    arguments = {"weight_decay": 0.1, **({} if name == "Adam" else {"momentum": 0.9})}
    embedding = keras.layers.Embedding(ROWS, WIDTH)
    model = keras.Sequential([keras.Input((2,), dtype="int32"), embedding, keras.layers.Dense(1)])
    optimizer = getattr(optimizers, name)(0.05, lazy=True, **arguments)
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    # Row 5 first, never again.
    model.fit(np.array([[5, 5], [0, 1]]), rng.normal(size=(2, 2, 1)), verbose=0)
    start = of_rows(optimizer, embedding.embeddings)
    model.fit(rng.integers(0, 3, (8, 2)), rng.normal(size=(8, 2, 1)), batch_size=4, epochs=3, verbose=0)
    ends = of_rows(optimizer, embedding.embeddings)
    assert len(ends) > 1
    for old, new in zip(start, ends, strict=True):
        np.testing.assert_array_equal(new[3:], old[3:])
        assert (new[:3] != old[:3]).any(axis=1).all()
        assert np.isfinite(new).all()
    assert (start[1][5] != 0).all()


def test_fit_with_accumulated_gradients_leaves_rows_alone():
    embedding = keras.layers.Embedding(ROWS, WIDTH)
    model = keras.Sequential([keras.Input((2,), dtype="int32"), embedding])
    optimizer = optimizers.Adam(0.05, lazy=True, gradient_accumulation_steps=2)
    model.compile(optimizer, "mse")
    rng = np.random.default_rng(0)
    model.fit(np.array([[5, 5], [0, 1]]), rng.normal(size=(2, 2, WIDTH)), batch_size=1, verbose=0)
    start = arrays([embedding.embeddings])[0]
    model.fit(rng.integers(0, 3, (8, 2)), rng.normal(size=(8, 2, WIDTH)), batch_size=1, verbose=0)
    end = arrays([embedding.embeddings])[0]
    np.testing.assert_array_equal(end[3:], start[3:])
    assert (end[:3] != start[:3]).all()


def test_other_weights_of_two_axes_take_the_dense_rule_where_no_row_is_zero():
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(5, 4, 3)).astype("float32")
    ends = []
    for lazy in (False, True):
        kernel, bias = keras.Variable(start), keras.Variable(start[0])
        optimizer = optimizers.Adam(0.1, lazy=lazy)
        for t, gradient in enumerate(gradients):
            # A number of a weight of one axis is no row: it goes on without a gradient.
            of_bias = gradient[0] * (t == 0)
            optimizer.apply([ops.convert_to_tensor(gradient), ops.convert_to_tensor(of_bias)], [kernel, bias])
        ends.append(arrays([kernel, bias]))
    for dense, lazy in zip(*ends, strict=True):
        np.testing.assert_allclose(lazy, dense, rtol=0, atol=2e-6)


COMMON = [
    {},
    {"clipnorm": 0.5},
    {"global_clipnorm": 0.5},
    {"clipvalue": 0.3},
    {"weight_decay": 0.1},
    {"loss_scale_factor": 8.0},
    {"gradient_accumulation_steps": 2},
    {"gradient_accumulation_steps": 3, "clipnorm": 0.5, "weight_decay": 0.1},
]
DENSE = [
    ("SGD", {"momentum": 0.9}),
    ("SGD", {}),
    ("Adagrad", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True, "epsilon": 1e-2}),
    ("Adam", {"beta_2": 0.9}),
]


def densely(name, arguments, common, rate):
    """The table after all steps of the rule on the whole gradient, in float64."""
    table, state, waiting, t = first_table().astype("float64"), {}, [], 0
    for ids, rows in zip(IDS, parts(), strict=True):
        waiting.append(whole(ids, rows) / common.get("loss_scale_factor", 1.0))
        if len(waiting) < common.get("gradient_accumulation_steps", 1):
            continue
        gradient, waiting, t = np.mean(waiting, axis=0), [], t + 1
        bound = common.get("clipnorm") or common.get("global_clipnorm")
        if bound:
            gradient = gradient * min(1.0, bound / np.sqrt((gradient**2).sum()))
        if "clipvalue" in common:
            gradient = np.clip(gradient, -common["clipvalue"], common["clipvalue"])
        table, state = RULES[name](table * (1 - rate * common.get("weight_decay", 0.0)), gradient, state, t, rate, **arguments)
    return table


@pytest.mark.parametrize("path", [pytest.param("graph", marks=pytest.mark.slow), "xla"] if BACKEND == "tensorflow" else PATHS[-1:])
@pytest.mark.parametrize("common", COMMON, ids=lambda common: "-".join(common) or "plain")
@pytest.mark.parametrize(("name", "arguments"), DENSE)
def test_without_lazy_named_rows_step_as_the_whole_gradient_does(name, arguments, common, path):
    table = keras.Variable(first_table())
    step = stepper(getattr(optimizers, name)(0.01, **arguments, **common), table, path)
    for ids, rows in zip(IDS, parts(), strict=True):
        step(ids, rows)
    got = arrays([table])[0]
    wanted = densely(name, arguments, common, 0.01)
    assert np.abs(wanted - first_table()).max() > 1e-3
    # Six steps round a table of about 1 by 6e-8 each, and the steps of about 0.01 by less.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)
