import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

STEPS = 100
SHAPES = [(3, 2), (4,), ()]
# The ways in which a step can run: TensorFlow's own kernels are left to XLA's compiler, and JAX compiles the functions without state.
PATHS = {"tensorflow": ["eager", "graph", "xla"], "jax": ["eager", "jit"], "torch": ["eager"]}[keras.backend.backend()]
# The one that takes the least time for many steps.
FAST = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}[keras.backend.backend()]


def sgd(w, g, state, t, learning_rate, momentum=0.0, nesterov=False, dampening=0.0):
    """Sutskever et al. (2013), equations 1 to 4, at the weights that the gradient was taken at."""
    if momentum == 0:
        return w - learning_rate * g
    m = state["m"] = momentum * state.get("m", 0.0) - learning_rate * (1 - dampening) * g
    return w + (momentum * m - learning_rate * g if nesterov else m)


def adagrad(w, g, state, t, learning_rate, initial_accumulator_value=0.1, epsilon=1e-7, epsilon_outside=False):
    """Duchi et al. (2011), figure 1, with Keras's first value and epsilon inside the root; outside is the paper's delta."""
    a = state["a"] = state.get("a", initial_accumulator_value) + g * g
    return w - learning_rate * g / (np.sqrt(a) + epsilon if epsilon_outside else np.sqrt(a + epsilon))


def rmsprop(w, g, state, t, learning_rate, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, epsilon_outside=False):
    """Graves (2013), equations 38 to 45; epsilon outside the root is PyTorch's."""
    n = state["n"] = rho * state.get("n", 0.0) + (1 - rho) * g * g
    mean = state["mean"] = rho * state.get("mean", 0.0) + (1 - rho) * g
    variance = n - (mean * mean if centered else 0.0)
    step = learning_rate * g / (np.sqrt(variance) + epsilon if epsilon_outside else np.sqrt(variance + epsilon))
    m = state["m"] = momentum * state.get("m", 0.0) + step
    return w - m


def adam(
    w, g, state, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, epsilon_root=0.0, bias_correction=True
):  # fmt: skip
    """Kingma and Ba (2015), algorithm 1 with the epsilon hat before section 2.1; Reddi et al. (2018) take the largest second moment."""
    m = state["m"] = beta_1 * state.get("m", 0.0) + (1 - beta_1) * g
    v = state["v"] = beta_2 * state.get("v", 0.0) + (1 - beta_2) * g * g
    largest = state["largest"] = np.maximum(state.get("largest", 0.0), v) if amsgrad else v
    first, second = (1 - beta_1**t, 1 - beta_2**t) if bias_correction else (1.0, 1.0)
    return w - learning_rate * (m / first) / (np.sqrt(largest / second + epsilon_root) + epsilon / np.sqrt(second))


RULES = {"SGD": sgd, "Adagrad": adagrad, "RMSprop": rmsprop, "Adam": adam}


CASES = [
    ("SGD", sgd, {}),
    ("SGD", sgd, {"momentum": 0.9}),
    ("SGD", sgd, {"momentum": 0.9, "nesterov": True}),
    ("SGD", sgd, {"momentum": 1.0}),
    ("SGD", sgd, {"nesterov": True}),
    ("SGD", sgd, {"weight_decay": 0.1, "momentum": 0.5}),
    ("Adagrad", adagrad, {}),
    ("Adagrad", adagrad, {"initial_accumulator_value": 0.0, "epsilon": 0.5}),
    ("Adagrad", adagrad, {"weight_decay": 0.1}),
    ("RMSprop", rmsprop, {}),
    ("RMSprop", rmsprop, {"momentum": 0.9}),
    ("RMSprop", rmsprop, {"centered": True, "epsilon": 1e-3}),
    ("RMSprop", rmsprop, {"centered": True, "momentum": 0.5, "rho": 0.99, "epsilon": 1e-2}),
    ("RMSprop", rmsprop, {"weight_decay": 0.1, "epsilon": 0.5}),
    ("Adam", adam, {}),
    ("Adam", adam, {"amsgrad": True, "beta_2": 0.9}),
    ("Adam", adam, {"beta_1": 0.0, "beta_2": 0.5, "epsilon": 0.1}),
    ("Adam", adam, {"weight_decay": 0.1}),
    ("Adam", adam, {"amsgrad": True, "weight_decay": 0.01, "epsilon": 1e-3}),
    ("SGD", sgd, {"weight_decay": 0.1}),
    # 1 - .999 in float32 is off by 1.3e-5; 1 - .5 is exact.
    ("RMSprop", rmsprop, {"rho": 0.999}),
    ("RMSprop", rmsprop, {"rho": 0.999, "momentum": 0.5}),
    ("RMSprop", rmsprop, {"rho": 0.5, "momentum": 0.5, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {"rho": 0.0}),
    ("Adam", adam, {"beta_2": 0.9}),
    ("Adam", adam, {"beta_1": 0.99, "beta_2": 0.99}),
]
# What Keras's classes do not have.
MORE_THAN_KERAS = [
    ("SGD", sgd, {"momentum": 0.9, "dampening": 0.9}),
    ("SGD", sgd, {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1}),
    ("SGD", sgd, {"momentum": 0.9, "dampening": 1.0}),
    ("Adagrad", adagrad, {"epsilon_outside": True, "epsilon": 0.5}),
    ("Adagrad", adagrad, {"epsilon_outside": True, "initial_accumulator_value": 0.0, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {"epsilon_outside": True, "epsilon": 0.5}),
    ("RMSprop", rmsprop, {"epsilon_outside": True, "momentum": 0.9}),
    ("RMSprop", rmsprop, {"epsilon_outside": True, "centered": True, "epsilon": 0.1, "rho": 0.99, "momentum": 0.5}),
    ("Adam", adam, {"epsilon_root": 0.1}),
    ("Adam", adam, {"epsilon_root": 1e-3, "epsilon": 0.0, "beta_2": 0.9}),
    ("Adam", adam, {"epsilon_root": 0.1, "epsilon": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    ("Adam", adam, {"bias_correction": False}),
    ("Adam", adam, {"bias_correction": False, "amsgrad": True, "epsilon_root": 1e-3, "beta_1": 0.5, "beta_2": 0.9}),
]
RATES = {
    "constant": (0.05, lambda t: 0.05),
    "schedule": (lambda: keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), lambda t: 0.1 * 0.9 ** ((t - 1) / 10)),
}


def problem():
    """First weights, and gradients whose size changes over time, with steps on which all of them are 0."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in SHAPES]
    size = 10.0 ** rng.uniform(-2, 1, STEPS) * (rng.random(STEPS) > 0.1)
    return weights, [[np.asarray(s * rng.normal(size=shape)).astype("float32") for shape in SHAPES] for s in size]


def stepper(optimizer, variables, path):
    """A function that takes one step along a list of gradients, the given way."""
    optimizer.build(variables)
    if path == "jit":
        import jax

        apply = jax.jit(optimizer.stateless_apply)

        def step(gradients):
            weights, state = apply([v.value for v in optimizer.variables], gradients, [v.value for v in variables])
            for variable, value in zip([*variables, *optimizer.variables], [*weights, *state], strict=True):
                variable.assign(value)

        return step

    def step(gradients):
        optimizer.apply(gradients, variables)

    if path == "eager":
        return step
    import tensorflow as tf

    return tf.function(step, jit_compile=path == "xla")


def run(optimizer, steps=STEPS, path="eager"):
    weights, gradients = problem()
    variables = [keras.Variable(w.astype("float32")) for w in weights]
    step = stepper(optimizer, variables, path)
    for of_step in gradients[:steps]:
        step([ops.convert_to_tensor(g) for g in of_step])
    return [ops.convert_to_numpy(v) for v in variables]


@pytest.mark.parametrize(
    ("name", "rule", "arguments", "rate", "path"),
    # Run eagerly the kernels and formulas are those of the traced steps.
    [(*case, "constant", path) for case in CASES + MORE_THAN_KERAS for path in (PATHS[1:] or PATHS)]
    + [(*case, "constant", PATHS[0]) for case in CASES[1::6]]
    + [(*case, "schedule", FAST) for case in CASES if "weight_decay" in case[2]],
)
def test_100_steps_follow_the_rule(name, rule, arguments, rate, path):
    given, rate_at = RATES[rate]
    got = run(getattr(optimizers, name)(given() if callable(given) else given, **arguments), path=path)
    arguments = dict(arguments)
    decay = arguments.pop("weight_decay", 0.0)
    weights, gradients = problem()
    states = [{} for _ in weights]
    for t, of_step in enumerate(gradients, 1):
        # Decoupled decay (Loshchilov and Hutter 2019) comes first in Keras.
        weights = [w - decay * rate_at(t) * w for w in weights]
        weights = [rule(w, g.astype("float64"), s, t, rate_at(t), **arguments) for w, g, s in zip(weights, of_step, states, strict=True)]
    for mine, wanted in zip(got, weights, strict=True):
        # 100 float32 steps round by 6e-8 of what they add up, at most 100.
        np.testing.assert_allclose(mine, wanted, rtol=2e-5, atol=2e-5)


MORE = [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.1}, {"use_ema": True, "ema_overwrite_frequency": 7}]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [(name, arguments) for name, _, arguments in CASES] + [(name, more) for name in ("SGD", "Adagrad", "RMSprop", "Adam") for more in MORE],
)
def test_steps_equal_those_of_keras(name, arguments):
    ours, theirs = (run(getattr(module, name)(0.05, **arguments), 30) for module in (optimizers, keras.optimizers))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-6, atol=2e-6)


def rosenbrock(w):
    """Rosenbrock (1960): a bent valley, 2500 times as steep across as along it; the least value is at (1, 1)."""
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2, np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


def beale(w):
    """Beale (1958): a flat basin with its least value at (3, 0.5) and steep walls around."""
    x, y = w
    parts = [(c - x + x * y**k, y**k - 1, k * x * y ** (k - 1)) for k, c in enumerate((1.5, 2.25, 2.625), 1)]
    return sum(f * f for f, _, _ in parts), np.array([sum(2 * f * by_x for f, by_x, _ in parts), sum(2 * f * by_y for f, _, by_y in parts)])


SURFACES = [(rosenbrock, (-1.2, 1.0)), (beale, (1.0, 1.0))]
DESCENTS = [
    ("SGD", 3e-4, {}),
    ("SGD", 3e-4, {"momentum": 0.9}),
    ("SGD", 3e-4, {"momentum": 0.9, "nesterov": True}),
    ("SGD", 3e-3, {"momentum": 0.9, "dampening": 0.9}),
    ("Adagrad", 0.3, {}),
    ("Adagrad", 0.3, {"epsilon_outside": True}),
    ("RMSprop", 1e-2, {"epsilon": 1e-2}),
    ("RMSprop", 1e-2, {"epsilon": 0.1, "centered": True, "momentum": 0.5}),
    ("RMSprop", 1e-2, {"epsilon_outside": True, "epsilon": 0.1}),
    ("Adam", 2e-2, {}),
    ("Adam", 2e-2, {"amsgrad": True, "epsilon_root": 1e-3}),
    ("Adam", 2e-3, {"bias_correction": False, "beta_2": 0.9}),
]


def trajectory(name, surface, start, rate, arguments, steps, noise=0.0, seed=0):
    """The weights after each step of the rule in float64; `noise` is a relative error of all numbers, the rate's the same in each step."""
    rng = np.random.default_rng(seed)
    weights, state, seen = np.array(start), {}, []
    rate = rate * (1 + 100 * noise * rng.normal())
    for t in range(1, steps + 1):
        gradient = surface(weights)[1] * (1 + noise * rng.normal(size=2))
        weights = RULES[name](weights, gradient, state, t, rate, **arguments) * (1 + noise * rng.normal(size=2))
        state = {slot: value * (1 + noise * rng.normal(size=2)) for slot, value in state.items()}
        seen.append(weights)
    return np.array(seen)


@pytest.mark.parametrize(("surface", "start"), SURFACES)
@pytest.mark.parametrize(("name", "rate", "arguments"), DESCENTS)
def test_descents_stay_as_near_the_float64_path_as_their_conditioning_allows(name, rate, arguments, surface, start):
    exact = trajectory(name, surface, start, rate, arguments, 300)
    # What a float64 run does whose numbers are off as those of float32, 6e-8; the rate by 6e-6, as 1 - .999 is off by 1.3e-5 there, and
    # its root enters. Such runs are apart by up to a few times the largest of five. Where that is more than 1e-3 nothing can be reported:
    # RMSprop, whose steps do not get smaller, goes to and fro across a valley, and forgets where it came from.
    runs = [trajectory(name, surface, start, rate, arguments, 300, 6e-8, seed) for seed in range(5)]
    apart = np.maximum.accumulate(np.abs(np.array(runs) - exact).max(axis=(0, 2)))
    steps = int((apart < 1e-3).sum())
    assert steps >= 40
    assert surface(exact[steps - 1])[0] < 0.75 * surface(np.array(start))[0]
    variable = keras.Variable(np.array(start, "float32"))
    step = stepper(getattr(optimizers, name)(rate, **arguments), [variable], FAST)
    for t in range(steps):
        gradient = surface(ops.convert_to_numpy(variable).astype("float64"))[1]
        step([ops.convert_to_tensor(gradient.astype("float32"))])
        np.testing.assert_allclose(ops.convert_to_numpy(variable), exact[t], rtol=0, atol=4 * apart[t] + 1e-6, err_msg=f"step {t + 1}")


def test_centered_rmsprop_stays_finite_where_rounding_makes_a_variance_negative():
    # Of a gradient that does not change the variance goes to 0, and float32 keeps 1e8 to 8 only: Keras takes the root of -8.
    gradient = np.random.default_rng(0).uniform(1e2, 1e4, 500).astype("float32")
    ends = []
    for module in (keras.optimizers, optimizers):
        variable = keras.Variable(np.zeros(500, "float32"))
        step = stepper(module.RMSprop(1e-3, rho=0.5, centered=True), [variable], FAST)
        for _ in range(60):
            step([ops.convert_to_tensor(gradient)])
        ends.append(ops.convert_to_numpy(variable))
    theirs, ours = ends
    assert np.isnan(theirs).any()
    assert np.isfinite(ours).all()
    # 60 steps of at most 1e-3 * g / sqrt(1e-7), all of them down.
    assert (ours < 0).all()
    assert (ours > -60 * 1e-3 * gradient / np.sqrt(1e-7)).all()


def test_no_decay_of_the_squares_at_all_leaves_them_at_0():
    variable = keras.Variable([1.0])
    optimizers.RMSprop(0.1, rho=1.0, epsilon=0.25).apply([ops.convert_to_tensor([1.0])], [variable])
    np.testing.assert_allclose(ops.convert_to_numpy(variable), [0.8], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("name", "rule"), [("SGD", sgd), ("Adagrad", adagrad), ("RMSprop", rmsprop), ("Adam", adam)])
def test_half_precision_weights_follow_the_rule_and_keep_their_dtype(name, rule, dtype):
    variable = keras.Variable([1.0, -2.0], dtype=dtype)
    optimizer = getattr(optimizers, name)(0.125)
    wanted, gradient, state = np.array([1.0, -2.0]), np.array([0.5, 0.25]), {}
    for t in range(1, 4):
        optimizer.apply([ops.convert_to_tensor(gradient.astype("float32"))], [variable])
        wanted = rule(wanted, gradient, state, t, 0.125)
    assert keras.backend.standardize_dtype(variable.dtype) == dtype
    # Each step is rounded to a half unit in the last place at 2, and is itself right to a few units of its own.
    got = ops.convert_to_numpy(ops.cast(variable, "float32"))
    np.testing.assert_allclose(got, wanted, atol={"float16": 0.01, "bfloat16": 0.05}[dtype])


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "RMSprop", "Adam"])
def test_defaults_are_those_of_keras(name):
    ours, theirs = (getattr(module, name)(name="same").get_config() for module in (optimizers, keras.optimizers))
    assert {key: ours[key] for key in theirs} == theirs


UNIT = "`{}` must be a number in {}, got {}."
AT_LEAST_0 = "`{}` must be a finite number of at least 0, got {}."
ABOVE_0 = "`{}` must be a finite number above 0, got {}. None switches it off."


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SGD", {"momentum": 1.5}, "`momentum` must be a float between [0, 1]. Received: momentum=1.5."),
        ("SGD", {"momentum": "0.9"}, "`momentum` must be a float between [0, 1]. Received: momentum='0.9'."),
        ("SGD", {"nesterov": 1}, "`nesterov` must be True or False, got 1."),
        ("Adagrad", {"initial_accumulator_value": -0.1}, AT_LEAST_0.format("initial_accumulator_value", -0.1)),
        ("Adagrad", {"epsilon": float("inf")}, AT_LEAST_0.format("epsilon", "inf")),
        ("RMSprop", {"rho": 1.1}, UNIT.format("rho", "[0, 1]", 1.1)),
        ("RMSprop", {"momentum": -0.1}, UNIT.format("momentum", "[0, 1]", -0.1)),
        ("RMSprop", {"epsilon": -1e-7}, AT_LEAST_0.format("epsilon", -1e-07)),
        ("RMSprop", {"centered": "no"}, "`centered` must be True or False, got 'no'."),
        ("Adam", {"beta_1": 1.0}, UNIT.format("beta_1", "[0, 1)", 1.0)),
        ("Adam", {"beta_2": float("nan")}, UNIT.format("beta_2", "[0, 1)", "nan")),
        ("Adam", {"epsilon": None}, AT_LEAST_0.format("epsilon", None)),
        ("Adam", {"amsgrad": 0}, "`amsgrad` must be True or False, got 0."),
        ("SGD", {"learning_rate": -0.5}, AT_LEAST_0.format("learning_rate", -0.5)),
        ("Adam", {"learning_rate": float("nan")}, AT_LEAST_0.format("learning_rate", "nan")),
        ("Adagrad", {"learning_rate": float("inf")}, AT_LEAST_0.format("learning_rate", "inf")),
        ("RMSprop", {"weight_decay": -0.1}, AT_LEAST_0.format("weight_decay", -0.1)),
        ("Adam", {"clipnorm": 0}, ABOVE_0.format("clipnorm", 0)),
        ("SGD", {"clipvalue": -1.0}, ABOVE_0.format("clipvalue", -1.0)),
        ("Adagrad", {"global_clipnorm": 0.0}, ABOVE_0.format("global_clipnorm", 0.0)),
        ("RMSprop", {"loss_scale_factor": 0.0}, ABOVE_0.format("loss_scale_factor", 0.0)),
        ("SGD", {"gradient_accumulation_steps": 1}, "`gradient_accumulation_steps` must be a whole number of at least 2, got 1."),
        ("Adam", {"gradient_accumulation_steps": 2.5}, "`gradient_accumulation_steps` must be a whole number of at least 2, got 2.5."),
        ("SGD", {"dampening": 1.5}, UNIT.format("dampening", "[0, 1]", 1.5)),
        (
            "SGD",
            {"momentum": 0.9, "nesterov": True, "dampening": 0.5},
            "`dampening` must be 0 with nesterov=True, got 0.5. There is no published rule for both.",
        ),
        ("Adagrad", {"epsilon_outside": 1}, "`epsilon_outside` must be True or False, got 1."),
        ("RMSprop", {"epsilon_outside": None}, "`epsilon_outside` must be True or False, got None."),
        ("Adam", {"epsilon_root": -1.0}, AT_LEAST_0.format("epsilon_root", -1.0)),
        ("Adam", {"bias_correction": "yes"}, "`bias_correction` must be True or False, got 'yes'."),
        ("SGD", {"lazy": 1}, "`lazy` must be True or False, got 1."),
        ("RMSprop", {"master_weights": 0}, "`master_weights` must be True or False, got 0."),
        ("Adam", {"exclude_norms_and_biases": 1}, "`exclude_norms_and_biases` must be True or False, got 1."),
        ("SGD", {"learning_rate_multipliers": {"a": -1}}, AT_LEAST_0.format("learning_rate_multipliers['a']", -1)),
        (
            "Adam",
            {"learning_rate_multipliers": {"(": 1.0}},
            "`learning_rate_multipliers` must be a dict of regular expressions and factors "
            "(missing ), unterminated subpattern at position 0), got '('. For instance {\"encoder/\": 0.1}.",
        ),
        (
            "SGD",
            {"exclude_from_weight_decay": ["bias", "["]},
            "`exclude_from_weight_decay` must be a list of regular expressions (unterminated character set at position 0), got '['. "
            'For instance ["bias", "norm/"].',
        ),
    ],
)
def test_wrong_arguments_are_refused_by_name(name, arguments, message):
    with pytest.raises(ValueError) as caught:
        getattr(optimizers, name)(**arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Adagrad", {"lazy": True}, "Adagrad takes no `lazy`: by its rule a row without a gradient stays as it is."),
        (
            "SGD",
            {"learning_rate_multipliers": [0.1]},
            '`learning_rate_multipliers` must be a dict of regular expressions and factors, got [0.1]. For instance {"encoder/": 0.1}.',
        ),
        (
            "Adam",
            {"exclude_from_weight_decay": "bias"},
            '`exclude_from_weight_decay` must be a list of regular expressions, got \'bias\'. For instance ["bias", "norm/"].',
        ),
        (
            "RMSprop",
            {"exclude_from_weight_decay": [3]},
            '`exclude_from_weight_decay` must be a list of regular expressions, got [3]. For instance ["bias", "norm/"].',
        ),
    ],
)
def test_arguments_of_a_wrong_type_are_refused_by_name(name, arguments, message):
    with pytest.raises(TypeError) as caught:
        getattr(optimizers, name)(**arguments)
    assert str(caught.value) == message
