"""What a search takes whose trials have one structure and share their programs, against KerasTuner alone; and how this and its memory
depend on the trials at once.

`python -m benchmarks.studies.shared_programs` draws docs/pictures/together.png of the kept results.
"""

import resource
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from benchmarks import apart, searching, store
from benchmarks.comparison import interleave
from benchmarks.figure import Spread, ratios
from benchmarks.registry import BENCHMARKS
from benchmarks.store import Table
from keras_ext import layers
from keras_ext.callbacks import SaturationMonitor
from keras_ext.initializers import HeNormal, LecunNormal
from keras_ext.search import watch

ALONE, SHARED = "KerasTuner alone", "watched, shared programs"
# Of each trial, for the curve over the trials at once.
EPOCHS_OF_CURVE = 10


def _mlp(dropout: float, scale: float) -> list[Any]:
    """Return four layers of 64 with batch normalization and dropout."""
    found = []
    for _ in range(4):
        dense = keras.layers.Dense(64, kernel_initializer=HeNormal(gain=scale))
        found += [dense, layers.BatchNormalization(), keras.layers.Activation("relu"), layers.Dropout(dropout)]
    return found


def _lstm(dropout: float, scale: float) -> list[Any]:
    """Return two LSTM layers of 64 on the rows of a picture."""
    first = keras.layers.LSTM(64, return_sequences=True, kernel_initializer=LecunNormal(gain=scale))
    return [keras.layers.Reshape((8, 8)), first, keras.layers.LSTM(64), layers.Dropout(dropout)]


def _cnn(dropout: float, scale: float) -> list[Any]:
    """Return three convolutions of 32, 32 and 64 filters."""
    found: list[Any] = [keras.layers.Reshape((8, 8, 1))]
    for filters, stride in ((32, 1), (32, 2), (64, 2)):
        weights = HeNormal(gain=scale)
        found.append(keras.layers.Conv2D(filters, 3, stride, "same", activation="relu", kernel_initializer=weights))
    return [*found, keras.layers.Flatten(), layers.Dropout(dropout)]


HIDDEN = {"mlp": _mlp, "lstm": _lstm, "cnn": _cnn}


def build(network: str, hp: Any) -> keras.Model:
    """Return a network of one structure, whose rate, momentum, weight decay, dropout and first scale are free."""
    rate, scale = hp.Float("rate", 1e-4, 1e-1, sampling="log"), hp.Float("scale", 0.3, 3.0, sampling="log")
    dropout, momentum = hp.Float("dropout", 0.05, 0.5), hp.Float("momentum", 0.8, 0.95)
    decay = hp.Float("weight_decay", 1e-4, 1e-1, sampling="log")
    hidden = HIDDEN[network](dropout, scale)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Rescaling(1 / 16), *hidden, keras.layers.Dense(10, "softmax")])
    optimizer = keras.optimizers.AdamW(rate, beta_1=momentum, weight_decay=decay)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def searched(way: str, network: str, trials: int, epochs: int, together: Any = "auto") -> tuple[float, float]:
    """Run the search one way, and return its seconds and the best score."""
    split, _, held_out = searching.digits()
    objective = keras_tuner.Objective("val_accuracy", "max")
    with searching.quiet_tuner(keras_tuner.RandomSearch, partial(build, network), objective=objective, max_trials=trials, seed=1) as tuner:
        if way != ALONE:
            watch(tuner, SaturationMonitor(split.x, split.y, on_critical=None), seed=0, together=together)
        began = time.perf_counter()
        tuner.search(split.x, split.y, validation_data=held_out, epochs=epochs, verbose=0)
        return time.perf_counter() - began, max(float(trial.score) for trial in tuner.oracle.trials.values())


def of_trials_at_once(count: int, trials: int) -> tuple[float, float]:
    """Search with so many trials at once, and return the seconds of a trial and the most MiB that this process has had."""
    seconds, _ = searched(SHARED, "mlp", max(count, trials), EPOCHS_OF_CURVE, count)
    return seconds / max(count, trials), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(rounds: int, trials: int, epochs: int, network: str = "mlp", at_once: Sequence[int] = ()) -> dict[str, Any]:
    """Run the search each way in turn, and return the seconds and last best scores; and seconds and memory by trials at once."""
    best = dict[str, float]()

    def timed(way: str) -> float:
        seconds, best[way] = searched(way, network, trials, epochs)
        return seconds

    samples = {way: partial(timed, way) for way in (SHARED, ALONE)}
    kept = {"trials": trials, "epochs": epochs, "seconds": interleave(samples, rounds, rounds, 0.0), "best": best}
    if at_once and keras.backend.backend() != "tensorflow":
        found = {str(n): apart.run(of_trials_at_once, n, trials) for n in at_once}
        kept |= {name: {n: each[i] for n, each in found.items()} for i, name in enumerate(("at_once", "peak_mib"))}
    return kept


def table(kept: dict[str, Any]) -> Table:
    """Return a row for each way to search."""
    seconds = kept["seconds"]
    curve: Table = {f"{n} at once": {"seconds of a trial": took} for n, took in kept.get("at_once", {}).items()}
    for n, mib in kept.get("peak_mib", {}).items():
        curve[f"{n} at once"]["peak MiB"] = mib
    return curve | {
        way: {
            "seconds": Spread.of(took),
            "rounds": len(took),
            "over KerasTuner alone": ratios(took, seconds[ALONE]),
            "best accuracy": kept["best"][way],
        }
        for way, took in seconds.items()
    }


def draw(path: Path) -> None:
    """Draw the seconds of a trial on each backend, and by trials at once with the memory of the process."""
    from matplotlib.figure import Figure

    folder = Path(__file__).parents[1] / "results"
    names = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
    kept = {backend: store.load(folder, BENCHMARKS["shared_programs"], backend) or {} for backend in names}
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    bars, *curves = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    for row, (way, colour) in enumerate(((ALONE, "tab:gray"), (SHARED, "tab:blue"))):
        seconds = [statistics.median(each["seconds"][way]) / each["trials"] for each in kept.values()]
        places = [backend + 0.38 * row for backend in range(len(names))]
        bars.bar_label(bars.barh(places, seconds, 0.36, color=colour, label=way), fmt="{:.1f}", padding=2, fontsize=8)
    bars.set_yticks([backend + 0.19 for backend in range(len(names))], list(names.values()))
    bars.invert_yaxis()
    bars.set(xlabel="seconds of a trial of 30 epochs")
    bars.margins(x=0.12)
    bars.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    labels = {"at_once": f"seconds of a trial of {EPOCHS_OF_CURVE} epochs", "peak_mib": "peak memory, MiB"}
    for axes, (name, label) in zip(curves, labels.items(), strict=True):
        for backend, marker in (("jax", "s--"), ("torch", "o-")):
            if name in kept[backend]:
                measured = kept[backend][name]
                axes.plot([int(n) for n in measured], list(measured.values()), marker, color="tab:blue", label=names[backend])
        axes.set(xlabel="trials at once", ylabel=label, ylim=(0, None))
        axes.legend(frameon=False, fontsize=8)
    curves[0].set(xscale="log")
    curves[0].set_xticks([int(n) for n in kept["jax"]["at_once"]], list(kept["jax"]["at_once"]))
    curves[0].minorticks_off()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    draw(Path(__file__).parents[2] / "docs" / "pictures" / "together.png")
