"""Two networks whose gradients explode, each trained with and without GradientClipping, all else alike.

    python examples/exploding_gradients.py

An LSTM learns Python's own help texts character by character, and 30 plain layers learn scikit-learn's digits. Draws
docs/pictures/exploding_gradients.png and prints what each training reached.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import keras
import matplotlib
import numpy as np

from keras_ext.initializers import HeNormal
from keras_ext.optimizers import SGD, GradientClipping
from keras_ext.tables import load_digits
from keras_ext.tables.data import Split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEED, BATCH = 0, 32
LENGTH = 100  # characters that the gradient flows back through
CHARACTERS = " abcdefghijklmnopqrstuvwxyz0123456789.,:;()'\"_=+-*/"  # all others count as one more
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "exploding_gradients.png"


@dataclass(frozen=True)
class Task:
    """What to train, on which data, and how. At a tenth of the rates below both networks learn without clipping as well."""

    data: Callable[[], Split]
    network: Callable[[], keras.Model]
    rate: float
    threshold: float
    steps: int


def text() -> Split:
    """Return stretches of the help texts as numbers and, as targets, the character after each."""
    numbers = np.array([CHARACTERS.find(c) + 1 for c in " ".join(" ".join(topics.values()).lower().split())], "int32")
    starts = np.arange(0, len(numbers) - LENGTH, LENGTH)[:, None] + np.arange(LENGTH)
    cut = len(starts) * 9 // 10
    return Split(numbers[starts[:cut]], numbers[starts[:cut] + 1], numbers[starts[cut:]], numbers[starts[cut:] + 1])


def digits() -> Split:
    """Return the pixels, 0 to 1, and the classes."""
    data = load_digits().split()
    return Split(data.x / 16, data.y, data.x_validation / 16, data.y_validation)


def language_model() -> keras.Model:
    """Return an LSTM that gives the next character's logits."""
    x = inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(len(CHARACTERS) + 1, 32)(x)
    x = keras.layers.LSTM(128, return_sequences=True)(x)
    return keras.Model(inputs, keras.layers.Dense(len(CHARACTERS) + 1)(x))


def deep_network() -> keras.Model:
    """Return thirty elu layers with the initial weights for relu, which are a bit too large for elu."""
    x = inputs = keras.Input((64,))
    for _ in range(30):
        x = keras.layers.Dense(64, "elu", kernel_initializer=HeNormal())(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


TASKS = {
    "LSTM, next character": Task(text, language_model, rate=10.0, threshold=0.1, steps=200),
    "30 layers, digits": Task(digits, deep_network, rate=0.02, threshold=1.0, steps=600),
}


def train(task: Task, clip: bool) -> tuple[list[float], list[float]]:
    """Return the loss of each step, up to the first that is not finite, and the validation loss and accuracy after it."""
    keras.utils.set_random_seed(SEED)
    rng, data, model = np.random.default_rng(SEED), task.data(), task.network()
    optimizer = SGD(task.rate, momentum=0.9)
    if clip:
        optimizer = GradientClipping(optimizer, rule="global_norm", threshold=task.threshold)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    losses: list[float] = []
    while len(losses) < task.steps and np.isfinite(losses).all():
        rows = rng.choice(len(data.x), BATCH, replace=False)
        losses.append(float(model.train_on_batch(data.x[rows], data.y[rows], return_dict=True)["loss"]))
        model.reset_metrics()
    return losses, model.evaluate(data.x_validation, data.y_validation, batch_size=256, verbose=0)


def main() -> None:
    """Train, print, draw."""
    figure, axes = plt.subplots(1, len(TASKS), figsize=(12, 5), layout="constrained")
    for axis, (title, task) in zip(axes, TASKS.items(), strict=True):
        drawn: list[float] = []
        for clip, color in ((False, "tab:red"), (True, "tab:blue")):
            losses, (loss, accuracy) = train(task, clip)
            finite = [v for v in losses if np.isfinite(v)]
            drawn += finite
            name = f"GradientClipping(SGD, threshold={task.threshold:g})" if clip else "SGD"
            end = f", not finite from step {len(losses)}" if len(finite) < len(losses) else ""
            print(f"{title:21} {name:38} first loss {losses[0]:.2f}, validation loss {loss:.2f}, accuracy {accuracy:.1%}{end}", flush=True)
            axis.plot(range(1, len(finite) + 1), finite, color=color, linewidth=1.2, label=f"{name}: validation accuracy {accuracy:.0%}")
            if end:
                axis.plot(len(finite), finite[-1], "X", color=color, markersize=11)
                axis.annotate(end.removeprefix(", "), (len(finite), finite[-1]), (10, -4), textcoords="offset points")
        axis.set(title=f"{title}: SGD({task.rate:g}, momentum=0.9)", xlabel="step", ylabel="loss of the batch", xscale="log", yscale="log")
        # Whole decades, so that at least two of them are labelled.
        axis.set_ylim(10 ** np.floor(np.log10(min(drawn))), 10 ** np.ceil(np.log10(max(drawn))))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


if __name__ == "__main__":
    main()
