"""Networks that predict the next pixel and see it, and one that does not.

    python examples/failures/target_leakage.py

Prints the figures of docs/failures/target_leakage.md and draws its picture.
"""

import keras
import numpy as np
from page import ALSO, MENDED, UNHEALTHY, Figures, legend_below, panels

from keras_ext.callbacks import SaturationMonitor
from keras_ext.tables import load_digits

LAYERS, FILTERS, KERNEL, EPOCHS, TOKENS, HIDDEN = 2, 32, 9, 12, 17, 32


def network(padding: str) -> keras.Model:
    """Return convolutions over the sequence of pixels, and a softmax over the next one's value at each place."""
    hidden = [keras.layers.Conv1D(FILTERS, KERNEL, padding=padding, activation="relu", name=f"layer_{i + 1}") for i in range(LAYERS)]
    embedding = keras.layers.Embedding(TOKENS, 16, name="embedding")
    model = keras.Sequential([keras.Input((63,), dtype="int32"), embedding, *hidden, keras.layers.Dense(TOKENS, "softmax", name="output")])
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    return model


def loss_in_use(model: keras.Model, pixels: np.ndarray) -> float:
    """Return what the prediction of a pixel costs where those behind it are not known yet, as when an image is written pixel by pixel."""
    costs = []
    for place in range(8, pixels.shape[1] - 1, 8):
        known = pixels[:, :-1].copy()
        known[:, place + 1 :] = 0
        probabilities = keras.ops.convert_to_numpy(model(known))[np.arange(len(pixels)), place, pixels[:, place + 1]]
        costs.append(-np.log(np.maximum(probabilities, 1e-7)).mean())
    return float(np.mean(costs))


def main() -> None:
    """Train, print, draw."""
    figures, split = Figures("target_leakage"), load_digits().split()
    pixels, held_out = (x.astype("int32") for x in (split.x, split.x_validation))
    for name, value in {"layers": LAYERS, "filters": FILTERS, "kernel": KERNEL, "epochs": EPOCHS}.items():
        figures.number(name, value)
    figure, left, right = panels("Training loss by epoch", "Loss where later pixels are not known")
    cases = (
        ("both sides", "same", pixels[:, 1:], UNHEALTHY),
        ("not shifted", "causal", pixels[:, :-1], ALSO),
        ("causal", "causal", pixels[:, 1:], MENDED),
    )
    for place, (key, padding, y, style) in enumerate(cases):
        keras.utils.set_random_seed(0)
        model, monitor = network(padding), SaturationMonitor(pixels[:, :-1], y, on_critical=None)
        history = model.fit(pixels[:, :-1], y, epochs=EPOCHS, verbose=0, callbacks=[monitor]).history
        name = key.replace(" ", "_")
        figures.number(f"{name}_loss", history["loss"][-1])
        in_use = loss_in_use(model, held_out)
        said = figures.number(f"{name}_in_use", in_use)
        left.plot(range(1, EPOCHS + 1), history["loss"], **style, label=key)
        right.bar(place, in_use, color=style["color"], label=f"{key}: {said}")
        if key != "causal":
            figures.finding(f"{name}_finding", monitor.findings, "target_leakage", "critical")
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    legend_below(left, columns=3)
    right.set(ylabel="loss", xticks=[])
    legend_below(right, columns=2)
    figures.save(figure)


if __name__ == "__main__":
    main()
