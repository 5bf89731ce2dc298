"""What a search saves by stopping hopeless trials: the same trials with the monitor and without, beside other ways to stop early.

`python -m benchmarks.studies.hopeless_trials --folder runs` searches what the folder lacks and reports; killed, it goes on.
"""

import functools
import json
import multiprocessing
import multiprocessing.connection
import os
import queue
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from benchmarks.measuring import machine
from benchmarks.studies import frame
from benchmarks.studies.pruners import PRUNERS, pruned
from keras_ext import initializers, layers, optimizers
from keras_ext.callbacks import SaturationMonitor
from keras_ext.search import results, watch
from keras_ext.search.trial_run import seed_of_trial

ALONE, MONITOR, PATIENCE, HYPERBAND = "alone", "monitor", "early stopping", "hyperband"
BAYESIAN, BAYESIAN_MONITOR = "bayesian", "bayesian with monitor"
WAYS = (MONITOR, PATIENCE, HYPERBAND, *PRUNERS, BAYESIAN, BAYESIAN_MONITOR)
# Of the trials without the monitor, those that the monitor must not stop.
BEST = 0.1
# A trial is hopeless if, trained to its end, it is no better than always the same class, by so much.
MARGIN = 0.05

INITIALIZERS = {
    name: getattr(initializers, name)
    for name in ("XavierNormal", "XavierUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform", "Orthogonal")
}


@dataclass(frozen=True)
class Data:
    """Inputs of unit scale and class numbers, 20 % of them for validation."""

    x: np.ndarray
    y: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray

    @property
    def commonest(self) -> float:
        """Return the validation accuracy of always the same class."""
        return float(np.bincount(self.y_validation).max() / len(self.y_validation))


@functools.cache
def data_of(name: str, seed: int) -> Data:
    """Return the digits or the breast cancer data of scikit-learn, split by `seed`."""
    x, y = (load_digits if name == "digits" else load_breast_cancer)(return_X_y=True)
    x, xv, y, yv = train_test_split(x, y, test_size=0.2, random_state=seed, stratify=y)
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    return Data((x - mean) / deviation, y.astype("int32"), (xv - mean) / deviation, yv.astype("int32"))


def build(hp: Any, features: int, classes: int) -> keras.Model:
    """Return a network of the whole space, of which a good part cannot learn."""
    activation = hp.Choice("activation", ["sigmoid", "tanh", "relu"])
    initializer, normalization = INITIALIZERS[hp.Choice("initializer", list(INITIALIZERS))], hp.Choice("normalization", ["none", "batch"])
    model = keras.Sequential([keras.Input((features,))])
    for _ in range(hp.Int("layers", 1, 20)):
        model.add(keras.layers.Dense(64, kernel_initializer=initializer()))
        if normalization == "batch":
            model.add(layers.BatchNormalization())
        model.add(keras.layers.Activation(activation))
    model.add(keras.layers.Dense(classes, "softmax"))
    optimizer = hp.Choice("optimizer", ["sgd", "adam"])
    rate = hp.Float("rate", 1e-4, 10.0, sampling="log")
    chosen: Any = optimizers.SGD(rate, momentum=0.9) if optimizer == "sgd" else optimizers.Adam(rate)
    if hp.Choice("clipping", ["none", "global_norm"]) == "global_norm":
        chosen = optimizers.GradientClipping(chosen, threshold=1.0)
    model.compile(chosen, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@dataclass(frozen=True)
class Trial:
    """One trial as it went; `score` is its best validation accuracy, `cpu_seconds` the work of all cores."""

    score: float
    seconds: float
    cpu_seconds: float
    epochs: int
    stopped: str
    hyperparameters: dict[str, Any]


def search(name: str, seed: int, way: str, trials: int, epochs: int, folder: Path) -> dict[str, Trial]:
    """Return the trials of one search by their numbers; those that the folder holds are not trained again."""
    data = data_of(name, seed)
    space = functools.partial(build, features=data.x.shape[1], classes=int(data.y.max()) + 1)
    path = _folder(folder, name, seed, way)
    # Seconds, those of all cores, and epochs of each trial.
    log = path / "log.json"
    took: dict[str, tuple[float, float, int]] = json.loads(log.read_text()) if log.exists() else {}
    common: dict[str, Any] = {
        "objective": keras_tuner.Objective("val_accuracy", "max"), "seed": seed + 1, "directory": str(path), "project_name": "trials",
        "max_consecutive_failed_trials": 10**9,
    }  # fmt: skip
    if way == HYPERBAND:
        tuner: Any = keras_tuner.Hyperband(space, max_epochs=epochs, **common)
    else:
        kind = keras_tuner.BayesianOptimization if way in (BAYESIAN, BAYESIAN_MONITOR) else keras_tuner.RandomSearch
        tuner = kind(space, max_trials=trials, **common)
    if way in (MONITOR, BAYESIAN_MONITOR):
        watch(tuner, SaturationMonitor(data.x, data.y, on_critical="stop"), seed=seed)
    run = tuner.run_trial

    def timed(trial: Any, *args: Any, **kwargs: Any) -> Any:
        # As `watch` does, so that all begin alike.
        keras.utils.set_random_seed(seed_of_trial(seed, trial.trial_id))
        begin, begin_cpu = time.perf_counter(), time.process_time()
        found = run(trial, *args, **kwargs)
        took[trial.trial_id] = time.perf_counter() - begin, time.process_time() - begin_cpu, len(found[0].history["loss"])
        log.write_text(json.dumps(took))
        return found

    tuner.run_trial = timed
    callbacks = [keras.callbacks.EarlyStopping("val_accuracy", patience=3)] if way == PATIENCE else []
    held_out = (data.x_validation, data.y_validation)
    tuner.search(data.x, data.y, batch_size=32, epochs=epochs, validation_data=held_out, verbose=0, callbacks=callbacks)
    found = {r.trial: r for r in results(tuner)}
    return {
        t: Trial(r.score or 0.0, *took.get(t, (0.0, 0.0, 0)), r.ended if r.symptoms else "", r.hyperparameters)
        for t, r in sorted(found.items())
    }


def side_by_side(name: str, seed: int, ways: Sequence[str], trials: int, epochs: int, folder: Path) -> dict[str, dict[str, Trial]]:
    """Return the searches of one seed by their ways, each in a process and on a core of its own, as many at once as there are cores.

    What one leaves in memory slows nobody else, and what else the machine does slows alike those that run at the time: with more ways than
    cores, and after the shorter search has ended, not all do.
    """
    first = [way for way in ways if way not in PRUNERS]
    found = _at_once({way: functools.partial(search, name, seed, way, trials, epochs, folder) for way in first}, seed)
    # They repeat what was drawn.
    pruners = {way: functools.partial(_pruned, name, seed, way, found[ALONE], epochs, folder) for way in ways if way in PRUNERS}
    return found | _at_once(pruners, seed)


def _at_once(searches: dict[str, Callable[[], dict[str, Trial]]], turn: int = 0) -> dict[str, dict[str, Trial]]:
    """Return what each search found, in the order given; `turn` says which core is the first."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(cores)):
        free.put(cores[(i + turn) % len(cores)])

    def run(work: Callable[[], dict[str, Trial]]) -> dict[str, Trial]:
        core = free.get()
        try:
            # On Linux it is this thread's, and the process begins with it; elsewhere there is no such thing.
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, {core})
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent) as process:
                return process.submit(work).result()
        finally:
            free.put(core)

    with ThreadPoolExecutor(len(cores)) as threads:
        return dict(zip(searches, threads.map(run, searches.values()), strict=True))


def _end_with_parent() -> None:
    """Let this process end as soon as the one that began it has: who goes on with the searches shall be alone with their folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()


def _pruned(name: str, seed: int, way: str, alone: dict[str, Trial], epochs: int, folder: Path) -> dict[str, Trial]:
    """Return the same trials under one of Optuna's pruners."""
    data = data_of(name, seed)
    space = functools.partial(build, features=data.x.shape[1], classes=int(data.y.max()) + 1)
    wanted = {t: trial.hyperparameters for t, trial in alone.items()}
    told = pruned(way, space, data, wanted, functools.partial(seed_of_trial, seed), epochs, _folder(folder, name, seed, way))
    return {t: Trial(*values, wanted[t]) for t, values in told.items()}


def _folder(folder: Path, name: str, seed: int, way: str) -> Path:
    return folder / f"{name}-{seed}-{way.replace(' ', '_')}"


def compare(alone: dict[str, Trial], other: dict[str, Trial], samples: int, commonest: float) -> dict[str, Any]:
    """Return what `other` saved and lost against the trials `alone`; `samples` are those of validation.

    Where the scores steer what is tried, the two have no trials in common: None of the best tenth of one is in the other.
    """
    best_alone, best = max(t.score for t in alone.values()), max(t.score for t in other.values())
    ranked = sorted(alone, key=lambda t: -alone[t].score)
    elite = set(ranked[: max(1, round(BEST * len(ranked)))])
    are_same = all(alone[t].hyperparameters == other[t].hyperparameters for t in alone if t in other)
    is_hopeless = {name: t.score < commonest + MARGIN for name, t in alone.items()}
    alone_cpu = sum(t.cpu_seconds for t in alone.values())
    return {
        "time": sum(t.seconds for t in other.values()) / sum(t.seconds for t in alone.values()),
        "CPU time": sum(t.cpu_seconds for t in other.values()) / alone_cpu,
        # Who knows beforehand which trials are hopeless leaves them out.
        "with foresight": sum(t.cpu_seconds for name, t in alone.items() if not is_hopeless[name]) / alone_cpu,
        "epochs": sum(t.epochs for t in other.values()) / sum(t.epochs for t in alone.values()),
        "best alone": best_alone,
        "best": best,
        "samples lost": round((best_alone - best) * samples),
        "hopeless": sum(is_hopeless.values()) / len(alone),
        "stopped": sum(bool(t.stopped) for t in other.values()) / len(other),
        "elite stopped": sum(bool(other[t].stopped) for t in elite if t in other) if are_same else None,
    }


# Data, seed, way, and what `compare` returns.
Row = tuple[str, int, str, dict[str, Any]]


def rows_of(kept: dict[str, Any]) -> list[Row]:
    """Return the comparisons of a file's searches."""
    rows = []
    for kept_search in kept["searches"]:
        name, seed = kept_search["data"], kept_search["seed"]
        found = {way: {t: Trial(**trial) for t, trial in trials.items()} for way, trials in kept_search.items() if isinstance(trials, dict)}
        rows += rows_of_seed(name, seed, found)
    return rows


def rows_of_seed(name: str, seed: int, found: dict[str, dict[str, Trial]]) -> list[Row]:
    """Return the comparisons of one seed's searches: each with that of the same tuner alone."""
    data = data_of(name, seed)
    base = {way: BAYESIAN if way == BAYESIAN_MONITOR and BAYESIAN in found else ALONE for way in found if way != ALONE}
    return [(name, seed, way, compare(found[base[way]], found[way], len(data.y_validation), data.commonest)) for way in base]


def ratios(kept: dict[str, Any]) -> dict[str, list[float]]:
    """Return, by data and way, the time of each seed's search over that of the same trials without."""
    rows = rows_of(kept)
    kinds = dict.fromkeys((data, way) for data, _, way, _ in rows)
    return {
        f"a search on {data.replace('_', ' ')}, {way} over none": [c["time"] for d, _, w, c in rows if (d, w) == (data, way)]
        for data, way in kinds
    }


def section(kept: dict[str, Any]) -> str:
    """Return the figures as tables in Markdown."""
    return text(rows_of(kept))


def text(rows: Sequence[Row]) -> str:
    """Return the comparisons as a table in Markdown, and their medians."""
    times = ["time", "CPU time", "with foresight", "epochs"]
    head = ["data", "seed", "way", *times, "best alone", "best", "samples lost", "hopeless", "stopped", "of the best tenth stopped"]
    table = []
    for data, seed, way, c in rows:
        cells = [data, str(seed), way, *(f"{c[name]:.2f}" for name in times), *(f"{c[name]:.4f}" for name in ("best alone", "best"))]
        elite = "-" if c["elite stopped"] is None else str(c["elite stopped"])
        cells += [str(c["samples lost"]), f"{c['hopeless']:.0%}", f"{c['stopped']:.0%}", elite]
        table.append(cells)
    lines = [frame.markdown(head, table)]
    for data, way in dict.fromkeys((data, way) for data, _, way, _ in rows):
        mine = [c for d, _, w, c in rows if (d, w) == (data, way)]
        kept = sum(c["samples lost"] <= 1 for c in mine)
        median = ", ".join(f"{name} {statistics.median(c[name] for c in mine):.2f}" for name in times)
        lines.append(f"\n{data}, {way}: median {median}; best score at most one sample lower in {kept} of {len(mine)} searches.")
    return "\n".join(lines)


@click.command()
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where the searches are kept.")
@click.option("--data", "names", default="digits,breast_cancer", show_default=True)
@click.option("--seeds", default=5, show_default=True, help="Seeds 0 to one less.")
@click.option("--trials", default=40, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--ways", default=MONITOR, show_default=True, help=f"Any of {', '.join(WAYS)}, with commas.")
@frame.json_option
def main(folder: Path, names: str, seeds: int, trials: int, epochs: int, ways: str, out: Path | None) -> None:
    """Compare searches with and without hopeless trials stopped."""
    wanted = [way.strip() for way in ways.split(",")]
    header = machine.header(
        f"python -m benchmarks.studies.hopeless_trials --data {names} --seeds {seeds} --trials {trials} --epochs {epochs}"
    )
    kept = []
    for name in names.split(","):
        for seed in range(seeds):
            found = side_by_side(name, seed, (ALONE, *wanted), trials, epochs, folder)
            for row in rows_of_seed(name, seed, found):
                click.echo(text([row]).splitlines()[2], err=True)
            kept.append({"data": name, "seed": seed, **{way: {t: asdict(r) for t, r in trials.items()} for way, trials in found.items()}})
    everything = {"header": header, "searches": kept}
    frame.finish(everything, section(everything), out)


if __name__ == "__main__":
    # What goes to the searches' processes is found there by this module's name, which here is `__main__`.
    from benchmarks.studies.hopeless_trials import main

    main(prog_name="python -m benchmarks.studies.hopeless_trials")
