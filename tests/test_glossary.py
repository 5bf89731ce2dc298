"""Each constructor of the glossary works, and those that promise the classical formula compute it."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_ext import initializers, layers, optimizers, schedules, search

PAGE = (Path(__file__).resolve().parent.parent / "docs/glossary.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
NAMES = ("keras", "initializers", "layers", "optimizers", "schedules", "search")
CODES = sorted({code for row in ROWS for code in re.findall(r"`([^`]+)`", " ".join(row)) if code.split(".")[0] in NAMES})
TERMS = (
    "unit saturation", "exponentially weighted average", "learning rate decay", "internal covariate shift", "Kaiming", "overshoot",
    "symmetry breaking", "skip connection", "local minimum", "hyperparameter tuning",
)  # fmt: skip
DEEP = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
SCOPE = {
    **{"keras": keras, "initializers": initializers, "layers": layers, "optimizers": optimizers, "schedules": schedules, "search": search},
    **{"model": DEEP, "x": np.random.default_rng(0).normal(size=(64, 3)).astype("float32"), "y": np.zeros((64, 1), "float32")},
}


@pytest.mark.parametrize("term", TERMS)
def test_the_glossary_has_the_term(term):
    assert any(term.lower() in " ".join(row[:2]).lower() for row in ROWS)


@pytest.mark.parametrize("code", CODES)
def test_a_constructor_works(code):
    assert eval(code, dict(SCOPE)) is not None


def momentum(w, g, s, t):
    s["m"] = 0.95 * s.get("m", 0) - 0.01 * g
    return w + s["m"]


def averaged(w, g, s, t):
    s["v"] = 0.95 * s.get("v", 0) + 0.05 * g
    return w - 0.01 * s["v"]


def nesterov(w, g, s, t):
    s["m"] = 0.95 * s.get("m", 0) - 0.01 * g
    return w + 0.95 * s["m"] - 0.01 * g


def adagrad(w, g, s, t):
    s["a"] = s.get("a", 0) + g**2
    return w - 0.01 * g / (np.sqrt(s["a"]) + 1e-7)


def rmsprop(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    return w - 0.001 * g / (np.sqrt(s["v"]) + 1e-7)


def moments(g, s):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    return s["m"], s["v"]


def adam(w, g, s, t):
    m, v = moments(g, s)
    return w - 0.001 * (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))


def adam_as_it_is(w, g, s, t):
    m, v = moments(g, s)
    return w - 0.001 * m / (np.sqrt(v) + 1e-7)


FORMULAS = {
    "gradient descent": lambda w, g, s, t: w - 0.01 * g,
    "momentum, heavy ball": momentum,
    "momentum as an exponentially weighted average": averaged,
    "Nesterov momentum": nesterov,
    "Adagrad": adagrad,
    "RMSProp": rmsprop,
    "Adam": adam,
    "Adam without bias correction": adam_as_it_is,
}


@pytest.mark.parametrize("method", FORMULAS)
def test_the_right_column_is_the_classical_formula(method):
    (row,) = (row for row in ROWS if row[0] == method)
    found = re.findall(r"`(optimizers[^`]+)`", row[3]) or re.findall(r"`(optimizers[^`]+)`", row[2])
    optimizer = eval(found[0], dict(SCOPE))
    rng = np.random.default_rng(0)
    w = np.linspace(-1, 1, 5)
    variable, state = keras.Variable(w, dtype="float32"), {}
    for t in range(1, 31):
        g = rng.normal(size=5)
        w = FORMULAS[method](w, g, state, t)
        optimizer.apply([ops.convert_to_tensor(g, "float32")], [variable])
    # 30 steps, each rounded to float32 a few times.
    np.testing.assert_allclose(variable.numpy(), w, rtol=0, atol=30 * 4 * 2.0**-24)
