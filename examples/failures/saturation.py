"""Six tanh layers whose first weights are too large, as they are and fixed in three ways.

    python examples/failures/saturation.py

Prints the figures of docs/failures/saturation.md and draws its picture.
"""

from typing import Any

import keras
import numpy as np
from page import ALSO, MENDED, THIRD, UNHEALTHY, Figures, digits, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.initializers import HeNormal, initialize
from keras_ext.layers import BatchNormalization
from keras_ext.optimizers import SGD

LAYERS, UNITS, EPOCHS, RATE, STDDEV = 6, 64, 10, 0.01, 1.0
SHOWN = 20  # sums from minus to plus so many are drawn
# Name in the picture: name of the figures, activation, first weights in place of the large ones, whether to normalize, how to draw it.
NETWORKS: dict[str, tuple[str, str, Any, bool, dict[str, Any]]] = {
    "large first weights": ("unhealthy", "tanh", None, False, UNHEALTHY),
    'initialize(model, "auto")': ("initialize", "tanh", "auto", False, MENDED),
    "large, BatchNormalization": ("normalized", "tanh", None, True, ALSO),
    "relu, HeNormal": ("relu", "relu", HeNormal(), False, THIRD),
}


def network(activation: str, normalized: bool) -> keras.Model:
    """Return the layers and a softmax over ten classes."""
    x = inputs = keras.Input((64,))
    for i in range(LAYERS):
        large = keras.initializers.RandomNormal(stddev=STDDEV, seed=i)
        x = keras.layers.Dense(UNITS, None if normalized else activation, kernel_initializer=large, name=f"layer_{i + 1}")(x)
        if normalized:
            x = keras.layers.Activation(activation)(BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="output")(x))


def sums(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return what the units of the last hidden layer sum up, before tanh."""
    z = x
    for i in range(LAYERS):
        kernel, bias = model.get_layer(f"layer_{i + 1}").get_weights()
        z = (np.tanh(z) if i else z) @ kernel + bias
    return z.ravel()


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("saturation"), digits()
    for name, value in {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "rate": RATE, "stddev": STDDEV}.items():
        figures.number(name, value)
    edge = np.arctanh(np.sqrt(1 - Limits().slope))
    figures.percent("slope_share", Limits().slope)
    figures.number("edge", edge)
    figures.number("limit", Limits().saturated)
    figures.number("theory_sums", UNITS**0.5 * STDDEV)
    figure, left, right = panels(f"What units of layer {LAYERS} sum up, before the first step", "Share saturated, in the worst layer")
    z = np.linspace(-SHOWN, SHOWN, 801)
    left.plot(z, 1 - np.tanh(z) ** 2, color="black", label="slope of tanh")
    for side in (-1, 1):
        left.axvspan(side * edge, side * SHOWN, color="black", alpha=0.1, linewidth=0, label="saturated" if side > 0 else None)
    for label, (key, activation, first, normalized, style) in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = network(activation, normalized)
        if first is not None:
            initialize(model, first, seed=0)
        if activation == "tanh" and not normalized:
            before = sums(model, data.x)
            figures.number(f"{key}_sums", float(before.std()))
            counts, edges = np.histogram(before, bins=160, range=(-SHOWN, SHOWN))
            left.stairs(counts / counts.max(), edges, color=style["color"], linestyle=style["linestyle"], linewidth=1.4, label=label)
        model.compile(SGD(RATE, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
        monitor, history = train(model, data, EPOCHS)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        figures.percent(f"{key}_saturation", history["saturation"][-1])
        if key == "unhealthy":
            figures.finding("warning", monitor.findings, "saturated", "warning")
        if key == "relu":
            figures.percent("relu_dead", history["dead"][-1])
        snapshots = [snapshot for snapshot in monitor.snapshots if snapshot.is_regular]
        right.plot(
            [k.epoch for k in snapshots], [max(a.saturated for a in k.hidden) for k in snapshots], **style, label=f"{label}: {accuracy}"
        )
    left.set(xlabel="sum", ylabel="slope; number of sums over the largest", xlim=(-SHOWN, SHOWN))
    legend_below(left, 2)
    right.set(xlabel="epoch", ylabel="saturation", ylim=(-0.03, 1.03))
    legend_below(right, title="validation accuracy at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
