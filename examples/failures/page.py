"""What the scripts share: the digits, a training, and the figures and the picture of a page."""

import argparse
import datetime
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import matplotlib

from keras_ext.callbacks import Finding, SaturationMonitor
from keras_ext.callbacks.monitor.wording import number
from keras_ext.tables import load_digits
from keras_ext.tables.data import Split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Apart in grey too: by brightness, by dashes and by markers.
UNHEALTHY = {"color": "#d9480f", "linestyle": "--", "marker": "o", "markersize": 4}
MENDED = {"color": "#0b2a5b", "linestyle": "-", "marker": "s", "markersize": 4}
ALSO = {"color": "#5a9bd5", "linestyle": "-", "marker": "^", "markersize": 5}
THIRD = {"color": "#7a9e3f", "linestyle": "-.", "marker": "D", "markersize": 4}
plt.rcParams.update({"font.size": 8, "axes.grid": True, "grid.alpha": 0.3, "lines.linewidth": 1.4, "legend.fontsize": 7})
_PACKAGES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def digits() -> Split:
    """Return the pixels, 0 to 1, and the classes."""
    data = load_digits().split()
    return Split(data.x / 16, data.y, data.x_validation / 16, data.y_validation)


def train(model: keras.Model, data: Split, epochs: int) -> tuple[SaturationMonitor, dict[str, list[float]]]:
    """Return the monitor and the history of a training in batches of 32."""
    monitor = SaturationMonitor(data.x, data.y, on_critical=None)
    history = model.fit(
        data.x, data.y, batch_size=32, epochs=epochs, verbose=0, validation_data=(data.x_validation, data.y_validation),
        callbacks=[monitor],
    )  # fmt: skip
    return monitor, history.history


def panels(title: str, other: str) -> tuple[Any, Any, Any]:
    """Return a figure as wide as a page of text, and its two axes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
    left.set_title(title, fontsize=9)
    right.set_title(other, fontsize=9)
    return figure, left, right


def legend_below(axis: Any, columns: int = 1, title: str | None = None) -> None:
    """Put the legend where it hides nothing."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=columns, title=title, title_fontsize=7, frameon=False)


class Figures:
    """The figures that a page of docs/failures quotes: printed, and kept in docs/failures/figures.json with date, backend and versions.

    Args:
        page: name of the page, without its ending.
    """

    def __init__(self, page: str) -> None:
        parser = argparse.ArgumentParser(description=f"Print the figures of docs/failures/{page}.md and draw its picture.")
        docs = Path(__file__).resolve().parents[2] / "docs"
        parser.add_argument("--docs", type=Path, default=docs, help="folder that gets failures/figures.json and the picture")
        self._docs: Path = parser.parse_args().docs
        self._page = page
        self._values: dict[str, str] = {}

    def text(self, name: str, value: str) -> str:
        """Keep and print what the page quotes word by word; return it."""
        if name in self._values:
            raise ValueError(f"there are two figures of the name {name}")
        self._values[name] = value
        # A finding begins with its severity, which is its name here.
        print(value if value.startswith(f"{name}: ") else f"{name}: {value}", flush=True)
        return value

    def number(self, name: str, value: float) -> str:
        """Keep a number with three digits."""
        return self.text(name, number(value))

    def percent(self, name: str, share: float) -> str:
        """Keep a share as a percentage with one digit after the point, but for 0 and 100 %."""
        return self.text(name, f"{100 * share:.1f} %" if 0 < share < 1 else f"{100 * share:.0f} %")

    def finding(self, name: str, findings: Iterable[Finding], symptom: str, severity: str) -> str:
        """Keep the line of the first finding of that symptom and severity."""
        return self.text(name, str(next(f for f in findings if (f.symptom, f.severity) == (symptom, severity))))

    def save(self, figure: Any) -> None:
        """Write the picture and the figures, beside those of the other pages."""
        picture = self._docs / "pictures" / f"failures-{self._page}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, dpi=150)
        path = self._docs / "failures" / "figures.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        pages = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        backend = keras.backend.backend()
        pages[self._page] = {
            "backend": backend,
            "figures": self._values,
            "made": f"{datetime.date.today().isoformat()}, {_PACKAGES[backend]} {importlib.metadata.version(backend)}, "
            f"keras {keras.__version__}, on a CPU",
        }
        path.write_text(json.dumps(pages, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"wrote {picture} and {path}")
