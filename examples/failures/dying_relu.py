"""Six relu layers trained at too high a rate, as they are and with three fixes, one of which is none.

    python examples/failures/dying_relu.py

Prints the figures of docs/failures/dying_relu.md and draws its picture.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from page import ALSO, MENDED, UNHEALTHY, Figures, digits, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.initializers import HeNormal
from keras_ext.optimizers import SGD, GradientClipping

LAYERS, UNITS, EPOCHS, HIGH, LOW, THRESHOLD = 6, 64, 10, 0.5, 0.05, 1.0
# Name in the picture: name of the figures, activation, optimizer, how to draw it.
NETWORKS: dict[str, tuple[str, str, Callable[[], Any], dict[str, Any]]] = {
    f"rate {HIGH:g}": ("unhealthy", "relu", lambda: SGD(HIGH), UNHEALTHY),
    f"rate {LOW:g}": ("lower_rate", "relu", lambda: SGD(LOW), MENDED),
    f"rate {HIGH:g}, GradientClipping": ("clipped", "relu", lambda: GradientClipping(SGD(HIGH), threshold=THRESHOLD), ALSO),
    f"rate {HIGH:g}, leaky_relu": ("leaky", "leaky_relu", lambda: SGD(HIGH), {}),
}


def network(activation: str) -> keras.Model:
    """Return the layers and a softmax over ten classes."""
    x = inputs = keras.Input((64,))
    for i in range(LAYERS):
        x = keras.layers.Dense(UNITS, activation, kernel_initializer=HeNormal(seed=i), name=f"layer_{i + 1}")(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="output")(x))


def sums(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return what each unit of the first layer sums up on each sample, before relu."""
    kernel, bias = model.get_layer("layer_1").get_weights()
    return x @ kernel + bias


def draw_death(axis: Any, before: np.ndarray, after: np.ndarray) -> int:
    """Draw the sums of a unit that has died, and return how many have."""
    dead = (after <= 0).all(axis=0)
    # The one with the largest sum before the first step.
    unit = int(np.argmax(np.where(dead, before.max(axis=0), -np.inf)))
    low, high = min(before[:, unit].min(), after[:, unit].min()), before[:, unit].max()
    margin = 0.05 * (high - low)
    bins = np.linspace(low - margin, high + margin, 61)
    axis.axvspan(bins[0], 0, color="black", alpha=0.1, linewidth=0, label="relu gives 0 and has slope 0")
    for values, label, style in ((before, "before the first step", MENDED), (after, "after the last", UNHEALTHY)):
        counts, edges = np.histogram(values[:, unit], bins)
        axis.stairs(counts, edges, color=style["color"], linestyle=style["linestyle"], linewidth=1.4, label=label)
    axis.set(xlabel="sum", ylabel="samples", yscale="log", xlim=(bins[0], bins[-1]))
    return int(dead.sum())


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("dying_relu"), digits()
    settings = {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "high_rate": HIGH, "low_rate": LOW, "threshold": THRESHOLD}
    for name, value in settings.items():
        figures.number(name, value)
    figures.number("limit", Limits().dead)
    figure, left, right = panels("What one unit of layer 1 sums up on each sample", "Share of dead units, in the worst layer")
    for label, (key, activation, optimizer, style) in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = network(activation)
        before = sums(model, data.x)
        model.compile(optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"])
        monitor, history = train(model, data, EPOCHS)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        if key == "leaky":
            figures.finding("leaky_finding", monitor.findings, "non_finite", "critical")
            continue
        figures.percent(f"{key}_dead", history["dead"][-1])
        if key == "unhealthy":
            figures.finding("warning", monitor.findings, "dead_relu", "warning")
            figures.finding("critical", monitor.findings, "dead_relu", "critical")
            figures.number("dead_units", draw_death(left, before, sums(model, data.x)))
        snapshots = [snapshot for snapshot in monitor.snapshots if snapshot.is_regular]
        right.plot([k.epoch for k in snapshots], [max(a.dead for a in k.hidden) for k in snapshots], **style, label=f"{label}: {accuracy}")
    legend_below(left)
    right.set(xlabel="epoch", ylabel="dead", ylim=(-0.03, 1.03))
    legend_below(right, title="validation accuracy at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
