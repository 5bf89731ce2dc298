"""How far the signal and the gradient reach through 30 layers before the first step, by activation and initializer.

    python examples/initial_scales.py

Draws docs/pictures/initial_scales.png and prints the scale of the last layer's output and of the first layer's gradient.
"""

from pathlib import Path

import keras
import matplotlib
import numpy as np

from keras_ext import initializers
from keras_ext.callbacks import SaturationMonitor

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DEPTH, WIDTH, SAMPLES = 30, 128, 256
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "initial_scales.png"
ACTIVATIONS = ("sigmoid", "tanh", "relu")
INITIALIZERS = {
    "RandomNormal(.01)": keras.initializers.RandomNormal(stddev=0.01),
    "FanInUniform": initializers.FanInUniform(),
    "XavierNormal, LecunNormal": initializers.XavierNormal(),  # the same where a layer is as wide as the one before
    "HeNormal": initializers.HeNormal(),
    "Orthogonal": initializers.Orthogonal(),
    "Orthogonal(gain=activation)": None,
}


def network(activation: str) -> keras.Model:
    """Return thirty layers of equal width and one output."""
    x = inputs = keras.Input((WIDTH,))
    for i in range(DEPTH):
        x = keras.layers.Dense(WIDTH, activation, name=f"layer_{i + 1}")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, name="output")(x))
    model.compile(keras.optimizers.SGD(0.0), "mse")  # the biases stay 0
    return model


def scales(model: keras.Model) -> tuple[list[float], list[float]]:
    """Return the root mean square of each layer's output and of its kernel's gradient, as the monitor saw them before the first step."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, WIDTH)).astype("float32")
    y = rng.normal(size=(SAMPLES, 1)).astype("float32")
    monitor = SaturationMonitor(x, y, on_critical=None)
    model.fit(x, y, batch_size=SAMPLES, epochs=1, verbose=0, callbacks=[monitor])
    first = monitor.snapshots[0]
    return [a.rms for a in first.activations], [w.gradient_norm / WIDTH for w in first.kernels[:DEPTH]]


def main() -> None:
    """Measure, print, draw."""
    figure, axes = plt.subplots(2, len(ACTIVATIONS), figsize=(11, 7), sharex=True, sharey="row", layout="constrained")
    layers = range(1, DEPTH + 1)
    for column, activation in zip(axes.T, ACTIVATIONS, strict=True):
        model = network(activation)
        for name, initializer in INITIALIZERS.items():
            initializers.initialize(model, initializer or initializers.Orthogonal(gain=activation), seed=1)
            outputs, gradients = scales(model)
            print(f"{activation:8} {name:28} output of layer {DEPTH} {outputs[-1]:8.1e}   gradient of layer 1 {gradients[0]:8.1e}")
            for axis, values in zip(column, (outputs, gradients), strict=True):
                # What is zero in float32 has no place on a logarithmic axis.
                axis.plot(layers, [v if v > 1e-30 else np.nan for v in values], label=name)
        column[0].set_title(activation)
        column[1].set_xlabel("layer")
    axes[0, 0].set_ylabel("output, root mean square")
    axes[1, 0].set_ylabel("kernel's gradient, root mean square")
    for axis in axes.flat:
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


if __name__ == "__main__":
    main()
