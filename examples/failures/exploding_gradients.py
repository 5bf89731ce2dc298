"""A recurrent layer that reads digits pixel by pixel and whose gradient explodes, as it is and with two fixes, apart and together.

    python examples/failures/exploding_gradients.py

Prints the figures of docs/failures/exploding_gradients.md and draws its picture.
"""

from typing import Any

import keras
import numpy as np
from page import ALSO, MENDED, THIRD, UNHEALTHY, Figures, digits, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.initializers import Orthogonal
from keras_ext.optimizers import SGD, GradientClipping
from keras_ext.tables.data import Split

STEPS, UNITS, EPOCHS, RATE, STDDEV, THRESHOLD = 64, 64, 10, 0.01, 0.3, 1.0
# Name in the picture: name of the figures, whether the recurrent weights start orthogonal, whether to clip, how to draw it.
NETWORKS: dict[str, tuple[str, bool, bool, dict[str, Any]]] = {
    "large recurrent weights": ("unhealthy", False, False, UNHEALTHY),
    "large, GradientClipping": ("clipped", False, True, THIRD),
    "Orthogonal": ("orthogonal", True, False, ALSO),
    "Orthogonal, GradientClipping": ("both", True, True, MENDED),
}


def pixels() -> Split:
    """Return the digits as sequences of one pixel a step."""
    data = digits()
    return Split(data.x[..., None], data.y, data.x_validation[..., None], data.y_validation)


def network(orthogonal: bool) -> keras.Model:
    """Return a recurrent layer and a softmax over ten classes."""
    recurrent: Any = Orthogonal(seed=1) if orthogonal else keras.initializers.RandomNormal(stddev=STDDEV, seed=1)
    x = inputs = keras.Input((STEPS, 1))
    x = keras.layers.SimpleRNN(UNITS, recurrent_initializer=recurrent, name="recurrent")(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="output")(x))


def on_its_way_back(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Return the length of a gradient after 0, 1, ... steps back from the last state, over that at the start; mean of the samples."""
    kernel, recurrent, bias = model.get_layer("recurrent").get_weights()
    states = [np.zeros((len(x), UNITS), "float32")]
    for step in range(STEPS):
        states.append(np.tanh(x[:, step] @ kernel + states[-1] @ recurrent + bias))
    gradient = np.random.default_rng(0).normal(size=states[-1].shape)
    lengths = [np.linalg.norm(gradient, axis=1)]
    for state in states[:0:-1]:
        gradient = (gradient * (1 - state**2)) @ recurrent.T
        lengths.append(np.linalg.norm(gradient, axis=1))
    return np.mean(np.array(lengths) / lengths[0], axis=1)


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("exploding_gradients"), pixels()
    settings = {"steps": STEPS, "units": UNITS, "epochs": EPOCHS, "rate": RATE, "stddev": STDDEV, "threshold": THRESHOLD}
    for name, value in settings.items():
        figures.number(name, value)
    figures.number("limit", Limits().exploding_gradient)
    figures.number("gain", STDDEV * UNITS**0.5)
    figure, left, right = panels("A gradient on its way back, before the first step", "What the networks learn")
    for label, (key, orthogonal, clip, style) in NETWORKS.items():
        keras.utils.set_random_seed(0)
        model = network(orthogonal)
        if not clip:
            lengths = on_its_way_back(model, data.x)
            figures.number(f"{key}_growth", lengths[-1])
            figures.number(f"{key}_factor", lengths[-1] ** (1 / STEPS))
            left.plot(range(STEPS + 1), lengths, label=label, markevery=8, **style)
        optimizer: Any = SGD(RATE, momentum=0.9)
        if clip:
            optimizer = GradientClipping(optimizer, threshold=THRESHOLD)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        monitor, history = train(model, data, EPOCHS)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        if key == "orthogonal":
            figures.percent("orthogonal_lowest", min(history["val_accuracy"]))
        if key == "unhealthy":
            figures.number("unhealthy_gradient", max(w.gradient_norm for w in monitor.snapshots[0].kernels))
            figures.finding("warning", monitor.findings, "exploding_gradient", "warning")
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], **style, label=f"{label}: {accuracy}")
    left.set(xlabel="steps back", ylabel="length over that at the last step", yscale="log")
    legend_below(left)
    right.set(xlabel="epoch", ylabel="validation accuracy", ylim=(-0.03, 1.03))
    legend_below(right, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
