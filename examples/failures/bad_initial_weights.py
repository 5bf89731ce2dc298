"""Ten relu layers whose first weights are too small or too large, and the same after `initialize(model, "auto")`.

    python examples/failures/bad_initial_weights.py

Prints the figures of docs/failures/bad_initial_weights.md and draws its picture.
"""

from typing import Any

import keras
from page import MENDED, THIRD, UNHEALTHY, Figures, digits, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.initializers import initialize
from keras_ext.optimizers import SGD

LAYERS, UNITS, EPOCHS, RATE, SMALL, LARGE = 10, 64, 10, 0.01, 0.01, 1.0
# Name in the picture: name of the figures, standard deviation of the first weights, whether to draw them again, how to draw it.
NETWORKS: dict[str, tuple[str, float, bool, dict[str, Any]]] = {
    f"standard deviation {SMALL:g}": ("small", SMALL, False, UNHEALTHY),
    f"standard deviation {LARGE:g}": ("large", LARGE, False, THIRD),
    'initialize(model, "auto")': ("fixed", SMALL, True, MENDED),
}


def network(stddev: float) -> keras.Model:
    """Return the layers and a softmax over ten classes."""
    x = inputs = keras.Input((64,))
    for i in range(LAYERS):
        first = keras.initializers.RandomNormal(stddev=stddev, seed=i)
        x = keras.layers.Dense(UNITS, "relu", kernel_initializer=first, name=f"layer_{i + 1}")(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="output")(x))


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("bad_initial_weights"), digits()
    settings = {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "rate": RATE, "small": SMALL, "large": LARGE}
    for name, value in settings.items():
        figures.number(name, value)
    figures.number("he", (2 / UNITS) ** 0.5)
    figures.number("limit", Limits().initial_scale)
    figure, left, right = panels("The signal before the first step", "What the networks learn")
    layers = range(1, LAYERS + 1)
    for label, (key, stddev, again, style) in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = network(stddev)
        if again:
            initialize(model, "auto", seed=0)
        model.compile(SGD(RATE, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
        monitor, history = train(model, data, EPOCHS)
        outputs = [a.rms for a in monitor.snapshots[0].activations][:LAYERS]
        figures.number(f"{key}_output", outputs[-1])
        figures.number(f"{key}_factor", (outputs[-1] / outputs[0]) ** (1 / (LAYERS - 1)))
        if not again:
            theory = (UNITS / 2) ** 0.5 * stddev
            figures.number(f"{key}_theory", theory)
            predicted = [outputs[0] * theory**i for i in range(LAYERS)]
            left.plot(layers, predicted, ":", color="black", label="He et al., equation 9" if key == "small" else None)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        left.plot(layers, outputs, **style, label=label)
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], **style, label=f"{label}: {accuracy}")
        if key == "small":
            figures.finding("warning", monitor.findings, "poor_initialization", "warning")
            figures.finding("critical", monitor.findings, "poor_initialization", "critical")
        if key == "large":
            figures.finding("large_warning", monitor.findings, "exploding_activation", "warning")
    left.set(xlabel="layer", ylabel="root mean square of the output", yscale="log", xticks=layers)
    legend_below(left, 2)
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(-0.03, 1.03))
    legend_below(right, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
