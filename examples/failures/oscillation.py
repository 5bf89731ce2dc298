"""A softmax on raw pixels, trained at too high a rate, as it is and fixed in three ways.

    python examples/failures/oscillation.py

Prints the figures of docs/failures/oscillation.md and draws its picture.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from page import ALSO, MENDED, THIRD, UNHEALTHY, Figures, legend_below, panels, train

from keras_ext.callbacks import LearningRateFinder, Limits
from keras_ext.optimizers import SGD
from keras_ext.schedules import OneCycle
from keras_ext.tables import load_digits
from keras_ext.tables.data import Split

CLASSES, EPOCHS, LATE, BATCH, RATE = 10, 12, 6, 32, 1.0
STEPS, HIGHEST = 200, 1000.0  # of the range test


def network(rate: Any) -> keras.Model:
    """Return one layer that starts at zero, where every class is as probable as any other."""
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(CLASSES, kernel_initializer="zeros", name="output")])
    model.compile(SGD(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def steepest(x: np.ndarray) -> float:
    """Return the largest eigenvalue of the Hessian of that network's loss at its start: E[x x'] times the covariance of one choice."""
    with_bias = np.c_[x, np.ones(len(x))]
    return float(np.linalg.eigvalsh(with_bias.T @ with_bias / len(x))[-1]) / CLASSES


def main() -> None:
    """Find rates, train, print, draw."""
    figures, raw = Figures("oscillation"), load_digits().split()
    scaled = Split(raw.x / 16, raw.y, raw.x_validation / 16, raw.y_validation)
    for name, value in {"epochs": EPOCHS, "late": LATE, "batch": BATCH, "rate": RATE}.items():
        figures.number(name, value)
    figures.number("limit", Limits().oscillating_loss)
    figures.number("window", Limits().window)
    figures.number("darkest", raw.x.min())
    figures.number("brightest", raw.x.max())
    figures.number("without_mean", steepest(raw.x - raw.x.mean(axis=0)))
    figure, left, right = panels("LearningRateFinder on the untrained network", "Loss on the monitor's probe")
    suggested = RATE
    for key, label, data, style in (("raw", "pixels 0 to 16", raw, UNHEALTHY), ("scaled", "pixels 0 to 1", scaled, THIRD)):
        keras.utils.set_random_seed(0)
        curve = LearningRateFinder(data.x, data.y, batch_size=BATCH, max_learning_rate=HIGHEST, steps=STEPS).find(network(RATE))
        largest = 2 / steepest(data.x)
        figures.number(f"{key}_steepest", steepest(data.x))
        bound = figures.number(f"{key}_largest", largest)
        figures.number(f"{key}_lowest_loss_at", curve.lowest_loss_at or 0.0)
        if key == "raw":
            suggested = curve.suggested or RATE
            figures.number("suggested", suggested)
        smoothed = curve.smoothed
        left.plot(curve.rates[: len(smoothed)], smoothed, color=style["color"], linestyle=style["linestyle"], label=label)
        left.axvline(largest, color=style["color"], linestyle=":", label=f"2 / steepest curvature: {bound}")
    steps = EPOCHS * -(-len(raw.x) // BATCH)
    figures.number("peak", 3 * suggested)
    networks: dict[str, tuple[str, Split, Callable[[], Any], dict[str, Any]]] = {
        f"rate {RATE:g}": ("unhealthy", raw, lambda: RATE, UNHEALTHY),
        "suggested rate": ("found", raw, lambda: suggested, MENDED),
        "OneCycle": ("cycle", raw, lambda: OneCycle(3 * suggested, steps), ALSO),
        f"rate {RATE:g}, pixels 0 to 1": ("scaled", scaled, lambda: RATE, THIRD),
    }
    for label, (key, data, rate, style) in networks.items():
        keras.utils.set_random_seed(0)
        monitor, history = train(network(rate()), data, EPOCHS)
        late = history["val_accuracy"][-LATE:]
        lowest, highest = figures.percent(f"{key}_lowest", min(late)), figures.percent(f"{key}_highest", max(late))
        snapshots = [snapshot for snapshot in monitor.snapshots if snapshot.is_regular]
        losses = [snapshot.loss for snapshot in snapshots[-LATE:]]
        figures.number(f"{key}_lowest_loss", min(losses))
        figures.number(f"{key}_highest_loss", max(losses))
        right.plot([k.epoch for k in snapshots], [k.loss for k in snapshots], **style, label=f"{label}: {lowest} to {highest}")
        if key == "unhealthy":
            figures.finding("warning", [*monitor.findings, *monitor.passed], "oscillating_loss", "warning")
    left.set(xlabel="learning rate", ylabel="loss, smoothed", xscale="log")
    legend_below(left)
    right.set(xlabel="epoch", ylabel="loss", yscale="log")
    legend_below(right, title=f"validation accuracy of the last {LATE} epochs")
    figures.save(figure)


if __name__ == "__main__":
    main()
