"""Four networks that do not learn, and what `keras_ext.repair` makes of them.

    python examples/repaired.py

Trains on scikit-learn's digits, prints the changes, and draws docs/pictures/repaired.png.
"""

from pathlib import Path

import keras
import matplotlib
import numpy as np

import keras_ext
from keras_ext.tables import load_digits

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EPOCHS = 10
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "repaired.png"


def network(
    depth: int = 2, activation: str = "relu", optimizer: keras.optimizers.Optimizer | str = "adam", start: str = "glorot_uniform"
) -> keras.Model:
    """Return hidden layers of 32 units and a softmax over ten classes."""
    model = keras.Sequential([keras.Input((64,))])
    for i in range(depth):
        model.add(keras.layers.Dense(32, activation, kernel_initializer=start, name=f"layer_{i + 1}"))
    model.add(keras.layers.Dense(10, "softmax", name="output"))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def main() -> None:
    """Repair and train all, print the changes, draw the picture."""
    data = load_digits().split()
    networks = {
        "ten sigmoid layers": (1 / 16, {"depth": 10, "activation": "sigmoid"}),
        "kernels of zeros": (1 / 16, {"start": "zeros"}),
        "SGD with a rate of 5": (1 / 16, {"optimizer": keras.optimizers.SGD(5.0)}),
        "inputs of up to 16,000, sigmoid": (1000, {"activation": "sigmoid", "optimizer": keras.optimizers.SGD(0.01)}),
    }
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True, layout="constrained")
    for axis, (title, (scale, parts)) in zip(axes, networks.items(), strict=True):
        keras.utils.set_random_seed(0)
        given = network(**parts)
        x = (data.x * scale).astype("float32")
        done = keras_ext.repair(given, x, data.y)
        print(f"{title}\n{done}\n")
        for model, name, color in ((given, "given", "tab:red"), (done.model, "repaired", "tab:blue")):
            loss = model.fit(x, data.y, epochs=EPOCHS, verbose=0).history["loss"]
            axis.plot(range(1, EPOCHS + 1), np.clip(loss, 1e-3, 10), color=color, label=name)
        axis.set(title=title, xlabel="epoch", yscale="log")
        axis.text(0.5, 0.03, ", ".join(c.remedy for c in done.changes), transform=axis.transAxes, ha="center", fontsize=7)
    axes[0].set_ylabel("training loss")
    axes[0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
