"""The same deep network twice: unhealthy with sigmoid layers, fixed as the monitor advises.

    python examples/unhealthy_and_fixed.py

Trains on scikit-learn's digits, prints what the monitor found, draws docs/pictures/unhealthy_and_fixed.png, and writes the monitor's
reports, docs/reports/unhealthy.html and docs/reports/fixed.html.
"""

from pathlib import Path

import keras
import matplotlib
import numpy as np

from keras_ext.callbacks import SaturationMonitor
from keras_ext.initializers import GlorotUniform, HeNormal
from keras_ext.optimizers import Adam
from keras_ext.tables import load_digits

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DEPTH, EPOCHS = 12, 10
DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURE = DOCS / "pictures" / "unhealthy_and_fixed.png"


def network(activation: str, initializer: keras.initializers.Initializer) -> keras.Model:
    """Return twelve hidden layers of 64 units and a softmax over ten classes."""
    x = inputs = keras.Input((64,))
    for i in range(DEPTH):
        x = keras.layers.Dense(64, activation, kernel_initializer=initializer.clone(), name=f"layer_{i + 1}")(x)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="output")(x))
    model.compile(Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model: keras.Model, report: Path) -> tuple[SaturationMonitor, list[float]]:
    """Return the monitor of a training, whose page goes to `report`, and the validation accuracy by epoch."""
    data = load_digits().split()
    monitor = SaturationMonitor(data.x / 16, data.y, on_critical=None, report=report)
    history = model.fit(
        data.x / 16, data.y, batch_size=32, epochs=EPOCHS, verbose=0,
        validation_data=(data.x_validation / 16, data.y_validation), callbacks=[monitor],
    )  # fmt: skip
    return monitor, history.history["val_accuracy"]


def gradients(monitor: SaturationMonitor) -> np.ndarray:
    """Return the gradient norms of the kernels, layers by epochs."""
    return np.array([[w.gradient_norm for w in snapshot.kernels] for snapshot in monitor.snapshots if snapshot.is_regular]).T


def main() -> None:
    """Train both, print the findings, draw the picture."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True, layout="constrained")
    image = None
    networks = {
        "unhealthy: sigmoid layers, Glorot initial weights": ("sigmoid", GlorotUniform()),
        "fixed: relu layers, He initial weights": ("relu", HeNormal()),
    }
    for axis, (title, parts) in zip(axes, networks.items(), strict=True):
        keras.utils.set_random_seed(0)
        monitor, accuracy = train(network(*parts), DOCS / "reports" / f"{title.split(':')[0]}.html")
        worst = next((f for f in monitor.findings if f.severity == "critical"), None)
        reported = f"critical: {worst.symptom.replace('_', ' ')}" if worst else "no finding"
        print(f"{title}: validation accuracy {accuracy[-1]:.3f}")
        for finding in monitor.findings:
            print("  ", finding)
        norms = np.log10(np.maximum(gradients(monitor), 1e-12))
        image = axis.imshow(norms, aspect="auto", cmap="viridis", vmin=-9, vmax=1)
        axis.set_title(f"{title}\nvalidation accuracy {accuracy[-1]:.0%}\nthe monitor says: {reported}", fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_yticks(range(0, DEPTH + 1, 2), [f"layer {i + 1}" if i < DEPTH else "output" for i in range(0, DEPTH + 1, 2)])
    if image is not None:
        bar = figure.colorbar(image, ax=axes, label="gradient norm of the layer's weights")
        bar.set_ticks([-9, -6, -3, 0], labels=["0.000000001", "0.000001", "0.001", "1"])
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"picture in {PICTURE}, reports in {DOCS / 'reports'}")


if __name__ == "__main__":
    main()
