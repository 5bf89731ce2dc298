"""Recurrent layers that must remember their first step, as they are and with two fixes each.

    python examples/failures/forgetting.py

Prints the figures of docs/failures/forgetting.md and draws its picture.
"""

from typing import Any

import keras
import numpy as np
from page import ALSO, MENDED, THIRD, UNHEALTHY, Figures, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.tables.data import Split

STEPS, SAMPLES, UNITS, EPOCHS, RATE, GAIN, BIAS = 40, 1200, 24, 12, 0.003, 0.3, -3.0
# Name in the picture: name of the figures, how to draw it.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    f"SimpleRNN, gain {GAIN:g}": ("weak", UNHEALTHY),
    "SimpleRNN, gain 1": ("orthogonal", MENDED),
    f"LSTM, forget bias {BIAS:g}": ("closed", THIRD),
    "LSTM": ("lstm", ALSO),
}


def first_step() -> Split:
    """Return sequences whose class is the mark at their first step; the rest is noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2 * SAMPLES)
    x = 0.5 * rng.normal(size=(2 * SAMPLES, STEPS, 3)).astype("float32")
    x[:, :, 2] = 0
    x[:, 0, 2], x[:, 0, 0] = 1, 2 * y - 1
    return Split(x[:SAMPLES], y[:SAMPLES], x[SAMPLES:], y[SAMPLES:])


def network(key: str) -> keras.Model:
    """Return a recurrent layer and a sigmoid."""
    recurrent = keras.initializers.Orthogonal(GAIN if key == "weak" else 1.0, seed=1)
    if key in ("weak", "orthogonal"):
        layer = keras.layers.SimpleRNN(UNITS, recurrent_initializer=recurrent, name="recurrent")
    else:
        layer = keras.layers.LSTM(UNITS, name="recurrent")
    model = keras.Sequential([keras.Input((STEPS, 3)), layer, keras.layers.Dense(1, "sigmoid", name="output")])
    if key == "closed":
        bias = np.zeros(4 * UNITS)
        bias[UNITS : 2 * UNITS] = BIAS
        layer.cell.bias.assign(bias)
    model.compile(keras.optimizers.Adam(RATE), "binary_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("forgetting"), first_step()
    settings = {"steps": STEPS, "units": UNITS, "epochs": EPOCHS, "rate": RATE, "gain": GAIN, "bias": BIAS}
    for name, value in settings.items():
        figures.number(name, value)
    figures.number("limit", Limits().vanishing_ratio)
    figures.number("forgetting", Limits().forget_gate)
    figures.number("window", Limits().window)
    figure, left, right = panels("Gradient at each time step's input, before training", "Loss on the monitor's probe")
    for label, (key, style) in NETWORKS.items():
        keras.utils.set_random_seed(1)
        monitor, history = train(network(key), data, EPOCHS)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        (seen,) = monitor.snapshots[0].recurrent
        figures.number(f"{key}_ratio", seen.ratio)
        line = {name: value for name, value in style.items() if not name.startswith("marker")}
        left.plot(range(1, STEPS + 1), np.maximum(seen.norms, 1e-30), **line, label=label)
        snapshots = [snapshot for snapshot in monitor.snapshots if snapshot.is_regular]
        right.plot([k.epoch for k in snapshots], [k.loss for k in snapshots], **style, label=f"{label}: {accuracy}")
        if key == "closed":
            figures.finding("critical", monitor.findings, "vanishing_through_time", "critical")
            figures.finding("warning", monitor.findings, "poor_initialization", "warning")
    left.set(xlabel="time step", ylabel="gradient norm", yscale="log")
    legend_below(left)
    right.set(xlabel="epoch", ylabel="loss")
    legend_below(right, title="validation accuracy at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
