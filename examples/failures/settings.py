"""A network that is sound, under settings that keep it from learning, and as it is.

    python examples/failures/settings.py

Prints the figures of docs/failures/settings.md and draws its picture.
"""

from typing import Any

import keras
from page import ALSO, MENDED, THIRD, UNHEALTHY, Figures, digits, legend_below, panels, train

from keras_ext.callbacks import Limits
from keras_ext.initializers import HeNormal

LAYERS, UNITS, EPOCHS, RATE = 3, 64, 10, 0.001
LOW, DECAY, DROPOUT, MOMENTUM = 1e-7, 200.0, 0.99, 0.9999
# Name in the picture: name of the figures, the finding's symptom, how to draw it.
TRAININGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "as it should be": ("healthy", "", MENDED),
    "trainable=False": ("frozen", "frozen", UNHEALTHY),
    f"learning_rate={LOW:g}": ("slow", "small_step", ALSO),
    f"weight_decay={DECAY:g}": ("decay", "strong_decay", THIRD),
    f"Dropout({DROPOUT:g})": ("dropout", "heavy_dropout", {"color": "#868e96", "linestyle": ":"}),
    f"momentum={MOMENTUM:g}": ("momentum", "stale_statistics", {"color": "#9c36b5", "linestyle": "-.", "marker": "v", "markersize": 4}),
}


def network(key: str) -> keras.Model:
    """Return dense layers with batch normalization, and a softmax over ten classes."""
    model = keras.Sequential([keras.Input((64,))])
    for i in range(LAYERS):
        model.add(keras.layers.Dense(UNITS, kernel_initializer=HeNormal(seed=i), name=f"layer_{i + 1}"))
        model.add(keras.layers.BatchNormalization(momentum=MOMENTUM if key == "momentum" else 0.9, name=f"norm_{i + 1}"))
        model.add(keras.layers.ReLU())
    model.add(keras.layers.Dropout(DROPOUT if key == "dropout" else 0.0, name="dropout"))
    model.add(keras.layers.Dense(10, "softmax", name="output"))
    model.trainable = key != "frozen"
    decay = DECAY if key == "decay" else None
    model.compile(
        keras.optimizers.Adam(LOW if key == "slow" else RATE, weight_decay=decay), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def main() -> None:
    """Train, print, draw."""
    figures, data, limits = Figures("settings"), digits(), Limits()
    settings = {"layers": LAYERS, "units": UNITS, "epochs": EPOCHS, "rate": RATE, "low_rate": LOW, "decay": DECAY}
    for name, value in {**settings, "dropout": DROPOUT}.items():
        figures.number(name, value)
    figures.text("momentum", f"{MOMENTUM:g}")
    for name in ("small_step", "strong_decay", "heavy_dropout", "stale_statistics"):
        figures.number(f"limit_{name}", getattr(limits, name))
    figure, left, right = panels("Loss on the monitor's probe", "Validation accuracy")
    for label, (key, symptom, style) in TRAININGS.items():
        keras.utils.set_random_seed(0)
        monitor, history = train(network(key), data, EPOCHS)
        accuracy = figures.percent(f"{key}_accuracy", history["val_accuracy"][-1])
        snapshots = [snapshot for snapshot in monitor.snapshots if snapshot.is_regular]
        figures.number(f"{key}_loss", snapshots[-1].loss)
        left.plot([k.epoch for k in snapshots], [k.loss for k in snapshots], **style, label=label)
        right.plot(range(1, EPOCHS + 1), history["val_accuracy"], **style, label=f"{label}: {accuracy}")
        if symptom:
            found = sorted((f for f in monitor.findings if f.symptom == symptom), key=lambda f: f.severity)
            figures.text(f"{key}_finding", str(found[0]))
    left.set(xlabel="epoch", ylabel="loss")
    legend_below(left, columns=2)
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(-0.03, 1.03))
    legend_below(right, columns=2, title="at the end")
    figures.save(figure)


if __name__ == "__main__":
    main()
