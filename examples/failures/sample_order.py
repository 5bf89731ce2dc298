"""A network that gets its samples sorted by class, and the same one that gets them shuffled.

    python examples/failures/sample_order.py

Prints the figures of docs/failures/sample_order.md and draws its picture.
"""

import keras
import numpy as np
from page import MENDED, UNHEALTHY, Figures, digits, legend_below, panels

from keras_ext.callbacks import Limits, SaturationMonitor

LAYERS, UNITS, EPOCHS, RATE = 2, 64, 10, 0.1


def network() -> keras.Model:
    """Return dense layers of relu, and a softmax over ten classes."""
    hidden = [keras.layers.Dense(UNITS, "relu", kernel_initializer="he_normal", name=f"layer_{i + 1}") for i in range(LAYERS)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10, "softmax", name="output")])
    model.compile(keras.optimizers.SGD(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Train, print, draw."""
    figures, data, limits = Figures("sample_order"), digits(), Limits()
    order = np.argsort(data.y, kind="stable")
    x, y = data.x[order], data.y[order]
    for name, value in {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "rate": RATE}.items():
        figures.number(name, value)
    for name in ("sorted_samples", "training_loss_share"):
        figures.number(f"limit_{name}", getattr(limits, name))
    figure, left, right = panels("Loss by epoch", "Validation accuracy")
    for shuffle, style in ((False, UNHEALTHY), (True, MENDED)):
        keras.utils.set_random_seed(0)
        key, model, monitor = "shuffled" if shuffle else "sorted", network(), SaturationMonitor(x, y, on_critical=None)
        history = model.fit(
            x, y, epochs=EPOCHS, shuffle=shuffle, verbose=0, validation_data=(data.x_validation, data.y_validation), callbacks=[monitor]
        ).history
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        figures.number(f"{key}_batches", history["loss"][-1])
        snapshots = [snapshot for snapshot in monitor.snapshots if snapshot.is_regular]
        figures.number(f"{key}_probe", snapshots[-1].loss)
        left.plot([k.epoch for k in snapshots], [k.loss for k in snapshots], **style, label=f"{key}, on all samples")
        left.plot(range(1, EPOCHS + 1), history["loss"], color=style["color"], linestyle=":", label=f"{key}, on the batches")
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], **style, label=f"{key}: {accuracy}")
        if not shuffle:
            figures.finding("finding", monitor.findings, "sorted_samples", "critical")
    left.set(xlabel="epoch", ylabel="loss")
    legend_below(left, columns=2)
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(-0.03, 1.03))
    legend_below(right, columns=2, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
