import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import optimizers

STEPS = 100
SHAPES = [(3, 2), (4,), ()]


def sgd(w, g, state, t, learning_rate, momentum=0.0, nesterov=False):
    """Sutskever et al. (2013), equations 1 to 4, at the weights that the gradient was taken at."""
    if momentum == 0:
        return w - learning_rate * g
    m = state["m"] = momentum * state.get("m", 0.0) - learning_rate * g
    return w + (momentum * m - learning_rate * g if nesterov else m)


def adagrad(w, g, state, t, learning_rate, initial_accumulator_value=0.1, epsilon=1e-7):
    """Duchi et al. (2011), figure 1, with Keras's first value and epsilon inside the root."""
    a = state["a"] = state.get("a", initial_accumulator_value) + g * g
    return w - learning_rate * g / np.sqrt(a + epsilon)


def rmsprop(w, g, state, t, learning_rate, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False):
    """Graves (2013), equations 38 to 45."""
    n = state["n"] = rho * state.get("n", 0.0) + (1 - rho) * g * g
    mean = state["mean"] = rho * state.get("mean", 0.0) + (1 - rho) * g
    step = learning_rate * g / np.sqrt(n - (mean * mean if centered else 0.0) + epsilon)
    m = state["m"] = momentum * state.get("m", 0.0) + step
    return w - m


def adam(w, g, state, t, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False):
    """Kingma and Ba (2015), the efficient form before section 2.1; Reddi et al. (2018) take the largest second moment."""
    m = state["m"] = beta_1 * state.get("m", 0.0) + (1 - beta_1) * g
    v = state["v"] = beta_2 * state.get("v", 0.0) + (1 - beta_2) * g * g
    largest = state["largest"] = np.maximum(state.get("largest", 0.0), v) if amsgrad else v
    return w - learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) * m / (np.sqrt(largest) + epsilon)


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


def run(optimizer, steps=STEPS):
    weights, gradients = problem()
    variables = [keras.Variable(w.astype("float32")) for w in weights]
    for of_step in gradients[:steps]:
        optimizer.apply([ops.convert_to_tensor(g) for g in of_step], variables)
    return [ops.convert_to_numpy(v) for v in variables]


@pytest.mark.parametrize(
    ("name", "rule", "arguments", "rate"),
    [(*case, "constant") for case in CASES] + [(*case, "schedule") for case in CASES if "weight_decay" in case[2]],
)
def test_100_steps_follow_the_rule(name, rule, arguments, rate):
    given, rate_at = RATES[rate]
    got = run(getattr(optimizers, name)(given() if callable(given) else given, **arguments))
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
    ],
)
def test_wrong_arguments_are_refused_by_name(name, arguments, message):
    with pytest.raises(ValueError) as caught:
        getattr(optimizers, name)(**arguments)
    assert str(caught.value) == message
