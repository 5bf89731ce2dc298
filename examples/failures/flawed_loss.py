"""Losses written by hand: one of the wrong sign, and one that compares each prediction with all targets.

    python examples/failures/flawed_loss.py

Prints the figures of docs/failures/flawed_loss.md and draws its picture.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from page import MENDED, UNHEALTHY, Figures, digits, legend_below, panels

from keras_ext.callbacks import SaturationMonitor

LAYERS, UNITS, EPOCHS = 2, 64, 12


def likelihood(y: Any, p: Any) -> Any:
    """Return the logarithm of the probability that a network gives the right class of two."""
    return ops.mean(y * ops.log(p + 1e-7) + (1 - y) * ops.log(1 - p + 1e-7), axis=-1)


def negative_likelihood(y: Any, p: Any) -> Any:
    """Return what is to fall: the negative of it."""
    return -likelihood(y, p)


def broadcast_error(y: Any, p: Any) -> Any:
    """Return the mean squared difference of shapes (n,) and (n, 1), which is that of all pairs."""
    return ops.mean(ops.square(ops.reshape(y, (-1,)) - p))


def squared_error(y: Any, p: Any) -> Any:
    """Return the mean squared difference of one shape."""
    return ops.mean(ops.square(y - p))


def trained(loss: Callable[..., Any], end: str | None, x: Any, y: Any) -> tuple[keras.Model, SaturationMonitor, list[Any]]:
    """Return a network that was trained with a loss, its monitor, and its predictions for all samples after each epoch."""
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(UNITS, "relu", kernel_initializer="he_normal", name=f"layer_{i + 1}") for i in range(LAYERS)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(1, end, name="output")])
    model.compile("adam", loss)
    monitor, seen = SaturationMonitor(x, y, on_critical=None), []
    noted = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(ops.convert_to_numpy(model(x))))
    model.fit(x, y, epochs=EPOCHS, verbose=0, callbacks=[monitor, noted])
    return model, monitor, seen


def main() -> None:
    """Train, print, draw."""
    figures, data = Figures("flawed_loss"), digits()
    for name, value in {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS}.items():
        figures.number(name, value)
    is_even = (data.y % 2 == 0).astype("float32")[:, None]
    ink = data.x.sum(axis=1, keepdims=True)
    ink = ((ink - ink.mean()) / ink.std()).astype("float32")
    figure, left, right = panels("Accuracy by epoch: is the digit even?", "R2 by epoch: how much ink?")
    cases = (
        ("likelihood", likelihood, "sigmoid", left, UNHEALTHY),
        ("negative likelihood", negative_likelihood, "sigmoid", left, MENDED),
        ("(n,) minus (n, 1)", broadcast_error, None, right, UNHEALTHY),
        ("one shape", squared_error, None, right, MENDED),
    )
    for label, loss, end, axis, style in cases:
        y = is_even if end else ink
        _, monitor, seen = trained(loss, end, data.x, y)
        score = [float(((p > 0.5) == y).mean()) if end else float(1 - np.mean((p - y) ** 2) / np.var(y)) for p in seen]
        said = (figures.percent if end else figures.number)(loss.__name__, score[-1])
        axis.plot(range(1, EPOCHS + 1), score, **style, label=f"{label}: {said}")
        if style is UNHEALTHY:
            figures.finding(f"{loss.__name__}_finding", monitor.findings, "flawed_loss", "critical")
    for axis, label in ((left, "accuracy"), (right, "R2")):
        axis.set(xlabel="epoch", ylabel=label, ylim=(-0.05, 1.05))
        legend_below(axis, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
