"""Ten sigmoid layers whose gradient fades, as they are and fixed in two ways.

    python examples/failures/vanishing_gradients.py

Prints the figures of docs/failures/vanishing_gradients.md and draws its picture.
"""

from typing import Any

import keras
from page import ALSO, MENDED, UNHEALTHY, Figures, digits, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.initializers import GlorotUniform, HeNormal
from keras_ext.layers import BatchNormalization
from keras_ext.optimizers import Adam

LAYERS, UNITS, EPOCHS, RATE = 10, 64, 15, 0.001
THEORY = 4  # one over the steepest slope of sigmoid
# Name in the picture: name of the figures, activation, first weights, whether to normalize, how to draw it.
NETWORKS: dict[str, tuple[str, str, Any, bool, dict[str, Any]]] = {
    "sigmoid, GlorotUniform": ("unhealthy", "sigmoid", GlorotUniform, False, UNHEALTHY),
    "relu, HeNormal": ("relu", "relu", HeNormal, False, MENDED),
    "sigmoid, BatchNormalization": ("normalized", "sigmoid", GlorotUniform, True, ALSO),
}


def network(activation: str, initializer: Any, normalized: bool) -> keras.Model:
    """Return the layers and a softmax over ten classes."""
    x = inputs = keras.Input((64,))
    for i in range(LAYERS):
        x = keras.layers.Dense(UNITS, None if normalized else activation, kernel_initializer=initializer(seed=i), name=f"layer_{i + 1}")(x)
        if normalized:
            x = keras.layers.Activation(activation)(BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="output")(x))


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("vanishing_gradients"), digits()
    for name, value in {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "rate": RATE, "theory": THEORY}.items():
        figures.number(name, value)
    figures.number("factors", LAYERS - 1)
    figures.number("theory_of_all", THEORY ** (1 - LAYERS))
    figures.number("limit_ratio", Limits().vanishing_ratio)
    figure, left, right = panels("Gradients before the first step", "What the networks learn")
    layers = range(1, LAYERS + 1)
    for label, (key, activation, initializer, normalized, style) in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = network(activation, initializer, normalized)
        model.compile(Adam(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
        monitor, history = train(model, data, EPOCHS)
        norms = [w.gradient_norm for w in monitor.snapshots[0].kernels][:LAYERS]
        # Without the first layer, whose inputs are the pixels.
        figures.number(f"{key}_factor", (norms[-1] / norms[1]) ** (1 / (LAYERS - 2)))
        figures.number(f"{key}_ratio", monitor.snapshots[0].gradient_ratio)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        left.plot(layers, norms, **style, label=label)
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], **style, label=f"{label}: {accuracy}")
        if key == "unhealthy":
            left.plot(layers, [norms[-1] / THEORY ** (LAYERS - i) for i in layers], ":", color="black", label="a quarter a layer")
            figures.finding("warning", monitor.findings, "vanishing_gradient", "warning")
            figures.finding("critical", monitor.findings, "vanishing_gradient", "critical")
    left.set(xlabel="layer", ylabel="norm of the kernel's gradient", yscale="log", xticks=layers)
    legend_below(left, 2)
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(-0.03, 1.03))
    legend_below(right, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
