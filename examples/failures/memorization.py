"""A network whose labels do not belong to its samples, and the same one with the right labels.

    python examples/failures/memorization.py

Prints the figures of docs/failures/memorization.md and draws its picture.
"""

import math

import keras
import numpy as np
from page import MENDED, UNHEALTHY, Figures, digits, legend_below, panels

from keras_ext.callbacks import Limits, SaturationMonitor

LAYERS, UNITS, EPOCHS, CLASSES = 2, 256, 40, 10


def network() -> keras.Model:
    """Return dense layers of relu, and a softmax over ten classes."""
    hidden = [keras.layers.Dense(UNITS, "relu", kernel_initializer="he_normal", name=f"layer_{i + 1}") for i in range(LAYERS)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(CLASSES, "softmax", name="output")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("memorization"), digits()
    mixed_up = np.random.default_rng(0).permutation(data.y)
    for name, value in {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "constant": math.log(CLASSES)}.items():
        figures.number(name, value)
    figures.number("limit_learned", Limits().learned)
    figure, left, right = panels("Loss by epoch", "Validation accuracy")
    for key, y, style in (("mixed_up", mixed_up, UNHEALTHY), ("right", data.y, MENDED)):
        keras.utils.set_random_seed(0)
        model, monitor = network(), SaturationMonitor(data.x, y, on_critical=None)
        history = model.fit(
            data.x, y, epochs=EPOCHS, verbose=0, validation_data=(data.x_validation, data.y_validation), callbacks=[monitor]
        ).history
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        figures.number(f"{key}_loss", history["loss"][-1])
        figures.number(f"{key}_least_validation", min(history["val_loss"]))
        said = "mixed-up labels" if key == "mixed_up" else "right labels"
        left.plot(range(1, EPOCHS + 1), history["loss"], color=style["color"], linestyle=":", label=f"{said}, training")
        left.plot(range(1, EPOCHS + 1), history["val_loss"], **style, label=f"{said}, validation")
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], **style, label=f"{said}: {accuracy}")
        if key == "mixed_up":
            figures.finding("finding", monitor.findings, "memorization", "critical")
    left.axhline(math.log(CLASSES), color="#555555", linewidth=0.8, label="a constant prediction")
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, 8))
    legend_below(left, columns=2)
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(-0.03, 1.03))
    legend_below(right, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
