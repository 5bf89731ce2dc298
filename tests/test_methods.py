"""The methods of the course texts: each in the table of docs/methods.md has a class, a test and an example that exist, and some laws."""

import importlib
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ext
from keras_ext.callbacks import diagnose

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "methods.md"
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else [])
    if line.startswith("|") and not line.startswith(("|---", "| method"))
]
NAMED = (
    "MLP", "step", "linear", "sigmoid", "tanh", "ReLU", "leaky ReLU", "PReLU", "softmax", "full-batch", "stochastic", "mini-batch",
    "momentum", "Adagrad", "Adadelta", "RMSProp", "Adam", "backpropagation", "vanishing", "exploding", "saturation", "LSTM", "residual",
    "grid", "random search", "Bayesian", "genetic", "number of layers", "number of neurons", "learning rate", "batch size", "progressive",
    "cyclic", "zero", "constant", "random weights", "fan-in", "Xavier", "He ", "LeCun", "orthogonal", "batch normalization", "L1", "L2",
    "dropout", "by value", "by norm",
)  # fmt: skip


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("name", NAMED)
def test_the_table_has_the_method(name):
    assert any(name.lower() in f"{row[0].lower()} " for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(row):
    _, classes, tests, examples = row
    assert code(classes)
    assert code(tests)
    assert code(examples)
    for dotted in code(classes):
        module, _, name = dotted.partition("(")[0].rpartition(".")
        assert hasattr(_module(module), name), dotted
    for test in code(tests):
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / "tests" / path).read_text(encoding="utf-8"), test
    for example in code(examples):
        assert (ROOT / example.split("#")[0]).exists(), example


def _module(name):
    """Return `keras_ext.search.MLP`'s module, or for a name inside a class that class."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


Z = np.linspace(-4, 4, 33).astype("float32")


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("linear", lambda z: z),
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("tanh", np.tanh),
        ("relu", lambda z: np.maximum(z, 0)),
        ("leaky_relu", lambda z: np.where(z > 0, z, 0.2 * z)),
        ("softmax", lambda z: np.exp(z) / np.exp(z).sum()),
    ],
)
def test_an_activation_is_its_formula(name, formula):
    found = keras.ops.convert_to_numpy(keras.activations.get(name)(keras.ops.convert_to_tensor(Z[None])))
    # A few roundings of float32.
    np.testing.assert_allclose(found[0], formula(Z.astype("float64")), rtol=2e-6, atol=1e-7)


def test_prelu_learns_its_slope():
    """Of `y = -z` for negative z the slope is -1."""
    x = -np.abs(np.random.default_rng(0).normal(size=(256, 1))).astype("float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.PReLU()])
    model.compile(keras_ext.optimizers.SGD(0.2), "mse")
    model.fit(x, -x, epochs=30, batch_size=64, verbose=0)
    assert model.layers[0].alpha.numpy()[0] == pytest.approx(-1, abs=1e-3)


def test_a_step_has_no_slope_and_the_monitor_says_so():
    x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
    y = (x[:, :1] > 0).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, name="below"),
            keras.layers.Activation(lambda z: keras.ops.cast(z > 0, "float32")),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile("sgd", "binary_crossentropy")
    found = diagnose(model, x, y)
    assert [(f.symptom, f.layer, f.value) for f in found.findings] == [("vanishing_gradient", "below", 0.0)]


class Network(keras.Model):
    """Every layer of ours that has a gradient, with an LSTM and a residual connection; all of it is smooth."""

    def __init__(self):
        super().__init__()
        he, orthogonal = keras_ext.initializers.HeNormal(seed=1), keras_ext.initializers.Orthogonal(seed=2)
        self.dense = keras.layers.Dense(6, kernel_initializer=he)
        self.norm = keras_ext.layers.BatchNormalization()
        self.block = keras.layers.Dense(6, "tanh", kernel_initializer=keras_ext.initializers.XavierUniform(seed=3))
        self.dropout = keras_ext.layers.Dropout(0.3, seed=4)
        self.spatial = keras_ext.layers.SpatialDropout1D(0.3, seed=5)
        self.lstm = keras.layers.LSTM(4, kernel_initializer=keras_ext.initializers.LecunNormal(seed=6), recurrent_initializer=orthogonal)
        self.last = keras.layers.Dense(2, "softmax", kernel_initializer=keras_ext.initializers.GlorotUniform(seed=7))

    def call(self, x, training=False):
        x = keras.ops.silu(self.norm(self.dense(x), training=training))
        x = x + self.block(self.dropout(x, training=training))
        x = self.spatial(keras.ops.reshape(x, (-1, 3, 2)), training=training)
        return self.last(self.lstm(x))


def test_backpropagation_gives_the_slopes_of_a_whole_network(differentiate):
    """Along random directions through all weights, against differences of five points, which err by the fourth power of the step.

    Of a loss of about 3 in float32 they leave 3 * 2^-24 * 18 / (12 * step), 1e-5, times the few operations at its end.
    """
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(8, 5)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
    model = Network()
    model(x)
    state = [(v, v.numpy().copy()) for v in model.variables if not any(v is t for t in model.trainable_variables)]

    def reset():
        for variable, value in state:
            variable.assign(value)

    def loss(at):
        reset()
        y = keras.ops.convert_to_numpy(model(at, training=True)).astype("float64")
        return float((y * weight).sum())

    reset()
    _, found = differentiate(model, x, weight)
    step, weights = 0.02, [v.numpy().copy() for v in model.trainable_variables]
    for _ in range(2):
        ways = [rng.normal(size=w.shape) / np.sqrt(w.size) for w in weights]
        values = {}
        for k in (-2, -1, 1, 2):
            for variable, value, way in zip(model.trainable_variables, weights, ways, strict=True):
                variable.assign(value + k * step * way)
            values[k] = loss(x)
        slope = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
        assert sum((g * way).sum() for g, way in zip(found[1:], ways, strict=True)) == pytest.approx(slope, abs=1e-4)
