"""What the monitor says of small trainings whose illness is known: saturation, gates, attention and half precision.

`python -m benchmarks.studies.own_cases` trains each for a few epochs on the digits, on the backend of KERAS_BACKEND.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits

from keras_ext.callbacks import Finding, SaturationMonitor

SAMPLES = 1000
EXPLODING = ("non_finite", "exploding_gradient", "exploding_activation", "exploding_weight")

# A compiled model, inputs, targets, and what `fit` is told.
Setting = tuple[Any, Any, Any, dict[str, Any]]


@dataclass(frozen=True)
class Expected:
    """What a case should get, in words and as a test of its findings."""

    words: str
    holds: Callable[[Sequence[Finding]], bool]


@dataclass(frozen=True)
class Case:
    """One training."""

    name: str
    expected: Expected
    build: Callable[[], Setting]
    policy: str = "float32"


CASES: dict[str, Case] = {}


def case(name: str, expected: Expected, policy: str = "float32") -> Callable[[Callable[[], Setting]], Callable[[], Setting]]:
    """Note a function as the case of that name."""

    def note(build: Callable[[], Setting]) -> Callable[[], Setting]:
        CASES[name] = Case(name, expected, build, policy)
        return build

    return note


def sick(symptoms: Sequence[str], layer: str | None = None, severity: str | None = "critical") -> Expected:
    """Expect one of the symptoms, in that layer if it is given, and a critical finding unless `severity` is None."""

    def holds(findings: Sequence[Finding]) -> bool:
        told = any(f.symptom in symptoms and layer in (None, f.layer) for f in findings)
        return told and (severity is None or any(f.severity == severity for f in findings))

    where = f" in {layer}" if layer else ""
    return Expected(f"{'/'.join(symptoms)}{where}{', and a critical' if severity else ', of any severity'}", holds)


def healthy() -> Expected:
    """Expect nothing critical, and nothing at all before the first step."""
    return Expected(
        "nothing critical, nothing before the first step", lambda findings: all(f.step > 0 and f.severity != "critical" for f in findings)
    )


def without(symptom: str, layer: str) -> Expected:
    """Expect nothing critical, and not that symptom in that layer."""

    def holds(findings: Sequence[Finding]) -> bool:
        return not any(f.severity == "critical" or (f.symptom, f.layer) == (symptom, layer) for f in findings)

    return Expected(f"nothing critical, not {symptom} in {layer}", holds)


def quiet_until(step: int) -> Expected:
    """Expect no finding before that step, and nothing critical."""

    def holds(findings: Sequence[Finding]) -> bool:
        return all(f.step >= step and f.severity != "critical" for f in findings)

    return Expected(f"nothing before step {step}, nothing critical", holds)


def _digits(shape: tuple[int, ...] = (64,), factor: float = 1 / 16) -> tuple[Any, Any]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:SAMPLES]
    return (x[order] * factor).reshape(-1, *shape).astype("float32"), y[order].astype("int32")


def _compiled(model: Any, optimizer: Any = None) -> Any:
    # XLA takes longer to compile these than they take to train.
    jit: Any = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer or keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return model


def _end() -> Any:
    return keras.layers.Dense(10, "softmax", dtype="float32", name="out")


def _dense(depth: int, kind: str, **settings: Any) -> Any:
    net = [keras.layers.Dense(64, kind, name=f"h{i}", **settings) for i in range(1, depth + 1)]
    return keras.Sequential([keras.Input((64,)), *net, _end()])


def _change(weight: Any, factor: float = 1.0, plus: float = 0.0) -> None:
    weight.assign(weight * factor + plus)


@case("saturated tanh, weights x 20", sick(["saturated"], "h2", severity=None))
def saturated_tanh() -> Setting:
    model = _dense(4, "tanh")
    for i in range(1, 5):
        _change(model.get_layer(f"h{i}").kernel, 20.0)
    return _compiled(model, keras.optimizers.SGD(0.01)), *_digits(), {"epochs": 5}


@case("deep sigmoid, inputs to 255", sick(["saturated", "vanishing_gradient"]))
def saturated_sigmoid() -> Setting:
    return _compiled(_dense(6, "sigmoid"), keras.optimizers.SGD(0.01)), *_digits(factor=255 / 16), {"epochs": 5}


def _recurrent(layer: Any, kernel: float = 1.0, bias: float = 0.0) -> Setting:
    model = keras.Sequential([keras.Input((8, 8)), layer, keras.layers.Dense(32, "relu", name="h2"), _end()])
    _change(layer.cell.recurrent_kernel, kernel)
    _change(layer.cell.bias, plus=bias)
    return _compiled(model, keras.optimizers.Adam(3e-3)), *_digits((8, 8)), {"epochs": 5}


@case("healthy LSTM", healthy())
def healthy_lstm() -> Setting:
    return _recurrent(keras.layers.LSTM(32, name="h1"))


@case("LSTM, recurrent kernel x 40", sick(["saturated", "poor_initialization"], "h1", severity=None))
def lstm_kernel() -> Setting:
    return _recurrent(keras.layers.LSTM(32, name="h1"), kernel=40.0)


@case("LSTM, bias + 20", sick(["saturated"], "h1"))
def lstm_open() -> Setting:
    return _recurrent(keras.layers.LSTM(32, name="h1"), bias=20.0)


@case("LSTM, bias - 20", sick(["saturated"], "h1"))
def lstm_closed() -> Setting:
    return _recurrent(keras.layers.LSTM(32, name="h1"), bias=-20.0)


@case("healthy GRU", healthy())
def healthy_gru() -> Setting:
    return _recurrent(keras.layers.GRU(32, name="h1"))


@case("GRU, recurrent kernel x 20", sick(["saturated", "poor_initialization"], "h1", severity=None))
def gru_kernel() -> Setting:
    return _recurrent(keras.layers.GRU(32, name="h1"), kernel=20.0)


@case("GRU, bias + 20", sick(["saturated"], "h1"))
def gru_open() -> Setting:
    return _recurrent(keras.layers.GRU(32, name="h1"), bias=20.0)


@case("GRU, bias - 20", sick(["saturated"], "h1", severity=None))
def gru_closed() -> Setting:
    return _recurrent(keras.layers.GRU(32, name="h1"), bias=-20.0)


def _transformer() -> Any:
    inputs = keras.Input((8, 8))
    x = keras.layers.Dense(32, name="embedding")(inputs)
    x = keras.layers.LayerNormalization()(x + keras.layers.MultiHeadAttention(2, 16, name="attention")(x, x))
    y = keras.layers.Dense(32, name="ff2")(keras.layers.Dense(64, "relu", name="ff1")(x))
    x = keras.layers.LayerNormalization()(x + y)
    return keras.Model(inputs, _end()(keras.layers.Flatten()(x)))


@case("healthy transformer", healthy())
def healthy_transformer() -> Setting:
    return _compiled(_transformer()), *_digits((8, 8)), {"epochs": 4}


@case("transformer, feed-forward bias -10", sick(["dead_relu"], "ff1", severity=None))
def dead_feed_forward() -> Setting:
    model = _transformer()
    _change(model.get_layer("ff1").bias, plus=-10.0)
    return _compiled(model), *_digits((8, 8)), {"epochs": 4}


@case("transformer, queries x 30", without("saturated", "attention"))
def sure_attention() -> Setting:
    model = _transformer()
    _change(model.get_layer("attention").query_dense.kernel, 30.0)
    return _compiled(model), *_digits((8, 8)), {"epochs": 4}


@case("20 tanh layers with BatchNormalization, weights of deviation 1", quiet_until(10))
def normalized_tanh() -> Setting:
    net = []
    for i in range(1, 21):
        wild = keras.initializers.RandomNormal(stddev=1.0)
        net += [keras.layers.Dense(32, kernel_initializer=wild, name=f"h{i}"), keras.layers.BatchNormalization()]
        net.append(keras.layers.Activation("tanh", name=f"h{i}_act"))
    model = keras.Sequential([keras.Input((64,)), *net, _end()])
    return _compiled(model), *_digits(), {"epochs": 4}


def _healthy_mlp() -> Setting:
    return _compiled(_dense(3, "relu", kernel_initializer="he_normal")), *_digits(), {"epochs": 4}


def _exploding_mlp() -> Setting:
    return _compiled(_dense(3, "relu", kernel_initializer="he_normal"), keras.optimizers.SGD(100.0)), *_digits(), {"epochs": 4}


def _dead_mlp() -> Setting:
    model = _dense(3, "relu", kernel_initializer="he_normal")
    _change(model.get_layer("h2").bias, plus=-10.0)
    return _compiled(model), *_digits(), {"epochs": 4}


for _policy in ("float32", "mixed_float16", "mixed_bfloat16"):
    case(f"{_policy}, healthy MLP", healthy(), _policy)(_healthy_mlp)
    case(f"{_policy}, MLP at rate 100", sick([*EXPLODING, "dead_relu"]), _policy)(_exploding_mlp)
    case(f"{_policy}, MLP with bias -10 in h2", sick(["dead_relu"], "h2"), _policy)(_dead_mlp)


def train(what: Case) -> tuple[SaturationMonitor, dict[str, list[float]]]:
    """Train a case and return its monitor and what `fit` logged."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(what.policy)
    try:
        model, x, y, fit = what.build()
        monitor = SaturationMonitor(x, y, on_critical=None)
        return monitor, model.fit(x, y, batch_size=32, verbose=0, callbacks=[monitor], **fit).history
    finally:
        keras.config.set_dtype_policy(before)


def numbers(monitor: SaturationMonitor) -> list[str]:
    """Return a line for each look: what was measured of each layer."""
    lines = []
    for look in monitor.looks:
        hidden = [
            f"{a.layer}{f' {a.part}' if a.part else ''} "
            + " ".join(f"{key} {value:.2g}" for key, value in (("sat", a.saturated), ("dead", a.dead), ("rms", a.rms)) if value)
            for a in look.activations
        ]
        kernels = [f"{w.layer} {w.gradient_norm:.1e} of {w.weight_norm:.1e} scale {w.scale:.2g}" for w in look.kernels]
        lines.append(f"step {look.step}: loss {look.loss:.4g}, spread {look.spread:.2g}; {'; '.join(hidden)}")
        lines.append(f"    gradient norms: {'; '.join(kernels)}")
    return lines


def _told(findings: Sequence[Finding], severity: str) -> str:
    return ", ".join(f"{f.symptom} {f.layer or '-'} (step {f.step})" for f in findings if f.severity == severity) or "-"


@click.command()
@click.option("--only", help="A part of the names of the cases to train.")
@click.option("--numbers", "details", is_flag=True, help="Show what was measured in the cases that are wrong.")
def main(only: str | None, details: bool) -> None:
    """Train the cases and tell what the monitor said of each."""
    wrong = 0
    for what in CASES.values():
        if only is not None and only not in what.name:
            continue
        begin = time.perf_counter()
        monitor, history = train(what)
        ok = bool(monitor.looks) and what.expected.holds(monitor.findings)
        wrong += not ok
        loss, accuracy = history["loss"][-1], history["accuracy"][-1]
        state = f"loss {loss:.3g}" if math.isfinite(loss) else "loss not finite"
        click.echo(f"{'ok   ' if ok else 'WRONG'} {what.name} ({state}, accuracy {accuracy:.0%}, {time.perf_counter() - begin:.0f} s)")
        click.echo(f"      expected: {what.expected.words}")
        click.echo(f"      critical: {_told(monitor.findings, 'critical')}")
        click.echo(f"      warnings: {_told(monitor.findings, 'warning')}")
        if details and not ok:
            click.echo("\n".join(f"      {line}" for line in numbers(monitor)))
    click.echo(f"{keras.backend.backend()}: {wrong} wrong")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.own_cases")
