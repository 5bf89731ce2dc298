"""The courses of the schedules, and what a network reaches with each of them in the same few epochs.

    python examples/learning_rates.py

Draws docs/pictures/learning_rates.png and prints the losses and accuracies on scikit-learn's digits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import matplotlib
import numpy as np
from keras import ops

from keras_ext.initializers import HeNormal
from keras_ext.optimizers import SGD
from keras_ext.schedules import CyclicalLearningRate, OneCycle, Warmup
from keras_ext.tables import load_digits
from keras_ext.tables.data import Split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEEDS, EPOCHS, BATCH = range(5), 12, 32
LOW, HIGH = 0.01, 0.1
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "learning_rates.png"


def schedules(steps: int) -> dict[str, Callable[[], Any]]:
    """Return the schedules by what the picture calls them, for a training of `steps` steps."""
    half = -(-steps // 8)  # of each of four cycles
    return {
        f"constant {LOW:g}": lambda: LOW,
        f"constant {HIGH:g}": lambda: HIGH,
        "CyclicalLearningRate": lambda: CyclicalLearningRate(LOW, HIGH, half),
        'CyclicalLearningRate\n"triangular2"': lambda: CyclicalLearningRate(LOW, HIGH, half, "triangular2"),
        'CyclicalLearningRate\n"exp_range"': lambda: CyclicalLearningRate(LOW, HIGH, half, "exp_range", gamma=0.05 ** (1 / steps)),
        "OneCycle": lambda: OneCycle(HIGH, steps),
        'OneCycle\nanneal="linear"': lambda: OneCycle(HIGH, steps, anneal="linear"),
        "Warmup(CosineDecay)": lambda: Warmup(keras.optimizers.schedules.CosineDecay(HIGH, steps - half), half),
    }


def digits() -> Split:
    """Return the pixels, 0 to 1, and the classes."""
    data = load_digits().split()
    return Split(data.x / 16, data.y, data.x_validation / 16, data.y_validation)


def train(rate: Any, data: Split, seed: int) -> tuple[float, float]:
    """Return the loss on the training data and the accuracy on the validation data after the last epoch."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((64,))
    for _ in range(4):
        x = keras.layers.Dense(64, "relu", kernel_initializer=HeNormal())(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    model.compile(SGD(rate, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(data.x, data.y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    loss, _ = model.evaluate(data.x, data.y, verbose=0)
    _, accuracy = model.evaluate(data.x_validation, data.y_validation, verbose=0)
    return loss, accuracy


def main() -> None:
    """Train, print, draw."""
    data = digits()
    steps = EPOCHS * -(-len(data.x) // BATCH)
    figure, axes = plt.subplots(2, 4, figsize=(12, 5), sharex=True, sharey=True, layout="constrained")
    for axis, (name, make) in zip(axes.flat, schedules(steps).items(), strict=True):
        reached = np.array([train(make(), data, seed) for seed in SEEDS])
        loss, accuracy = np.median(reached, axis=0)
        print(f"{' '.join(name.split()):38} loss {loss:8.1e}   accuracy {accuracy:6.1%}   medians of {len(SEEDS)} trainings")
        rate = make()
        course = [rate if isinstance(rate, float) else float(ops.convert_to_numpy(rate(step))) for step in range(steps)]
        axis.plot(course, color="#1f77b4")
        axis.set_title(name, fontsize=10)
        axis.text(0.97, 0.95, f"loss {loss:.1e}\naccuracy {accuracy:.1%}", transform=axis.transAxes, ha="right", va="top", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylim(0, HIGH * 1.35)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("learning rate", fontsize=10)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


if __name__ == "__main__":
    main()
