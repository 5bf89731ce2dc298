"""How often the lowest layer named critical is the broken one: eight networks, one randomly drawn layer of each broken."""

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

from benchmarks.store import Table
from keras_ext import _backend
from keras_ext._backend import keras_private
from keras_ext.callbacks import Finding, SaturationMonitor

CLEAN, SIGMOID, BIAS = "clean", "sigmoid x 5", "bias -10"
# By fault, the factor of the kernels.
FAULTS = {"scale x 30": 30.0, "scale / 30": 1 / 30, "scale 0": 0.0, BIAS: 1.0, SIGMOID: 5.0}
SETS = {
    **{fault: (fault,) for fault in FAULTS},
    "zeros or bias": ("scale 0", BIAS),
    "scaled": ("scale x 30", "scale / 30"),
    "all": (*FAULTS,),
}
TRAINED = 1000
# Worse than the clean network of the same seed by so much: points of validation accuracy, or times its training loss.
POINTS, TIMES = 0.05, 2.0
Run = dict[str, Any]


# Returns the activation of the hidden layer of that name, which is the given one unless the layer is broken.
Activation = Callable[[str, str], str]


@dataclass(frozen=True)
class Architecture:
    """A network as users write it; its hidden layers with kernels are h1, h2, ..., an activation of its own behind h1 is h1_act.

    `blocks` are kinds of layers with their units, filters or pool size. `data` are the digits from 0 to 1 or of mean 0 and variance 1.
    """

    blocks: tuple[tuple[str, int], ...]
    optimizer: str
    rate: float
    shape: tuple[int, ...] = (64,)
    kind: str = "relu"
    initializer: str = "glorot_uniform"
    data: str = "scaled"
    batch: int = 32

    def build(self, activation: Activation) -> Any:
        """Return the network."""
        x = inputs = keras.Input((64,))
        x = layers.Reshape(self.shape)(x)
        names = (f"h{i}" for i in itertools.count(1))
        for block, size in self.blocks:
            x = self._block(block, size, x, names, activation)
        return keras.Model(inputs, layers.Dense(10, "softmax", name="out")(layers.Flatten()(x)))

    def _block(self, block: str, size: int, x: Any, names: Iterator[str], activation: Activation) -> Any:
        if block in ("max pool", "mean pool"):
            return (layers.MaxPooling2D if block == "max pool" else layers.AveragePooling2D)(size)(x)
        name = next(names)
        if block == "lstm":
            return layers.LSTM(size, name=name)(x)
        if block == "normalized":
            x = layers.BatchNormalization(name=f"{name}_normalization")(layers.Dense(size, name=name)(x))
            return layers.Activation(activation(name, self.kind), name=f"{name}_act")(x)
        if block == "conv":
            return layers.Conv2D(size, 3, padding="same", activation=activation(name, self.kind), name=name)(x)
        y = layers.Dense(size, activation(name, self.kind), kernel_initializer=self.initializer, name=name)(layers.Flatten()(x))
        return x + layers.Dense(size, name=next(names))(y) if block == "residual" else y


_DENSE, _IMAGE = (("dense", 64),), (8, 8, 1)
_LENET = (("conv", 8), ("mean pool", 2), ("conv", 16), ("mean pool", 2), ("dense", 64), ("dense", 32))
_CNN = (*(("conv", 8),) * 2, ("max pool", 2), *(("conv", 16),) * 2, ("max pool", 2), ("dense", 64))
ARCHITECTURES = {
    "relu MLP, 4": Architecture(4 * _DENSE, "adam", 1e-3),
    "relu MLP, 10": Architecture(10 * _DENSE, "adam", 1e-3, initializer="he_normal", batch=16),
    "tanh MLP, 5": Architecture(5 * _DENSE, "momentum", 0.05, kind="tanh", data="standard"),
    "LeNet, 4": Architecture(_LENET, "momentum", 0.05, _IMAGE, batch=16, data="standard"),
    "CNN, 5": Architecture(_CNN, "adam", 2e-3, _IMAGE, batch=16),
    "BatchNorm MLP, 4": Architecture(4 * (("normalized", 64),), "momentum", 0.05),
    "residual MLP, 7": Architecture((*_DENSE, *3 * (("residual", 64),)), "momentum", 0.02, data="standard"),
    "LSTM, 3": Architecture((("lstm", 48), ("dense", 48), ("dense", 48)), "adam", 3e-3, (8, 8), batch=16, data="standard"),
}


def digits(scale: str) -> tuple[Any, Any]:
    """Return the shuffled digits, from 0 to 1 (`"scaled"`) or of mean 0 and variance 1 (`"standard"`)."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = x / 16 if scale == "scaled" else (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    return x[order].astype("float32"), y[order].astype("int32")


def damage(layer: Any, fault: str) -> None:
    """Break the weights of a layer; both kernels of a recurrent layer change alike."""
    for weight in layer.trainable_weights:
        if len(weight.shape) >= 2:
            weight.assign(weight * FAULTS[fault])
        elif fault == BIAS:
            weight.assign(keras.ops.full(weight.shape, -10.0))


def trained(name: str, fault: str, seed: int, epochs: int) -> Run:
    """Train a network once, broken or clean, and return what the monitor found and its last losses and accuracies."""
    keras.utils.clear_session()
    _backend.forget_programs()
    what, changeable = ARCHITECTURES[name], list[str]()
    hidden = [layer.name for layer in what.build(lambda layer, kind: changeable.append(layer) or kind).layers]
    places = changeable if fault == SIGMOID else [layer for layer in hidden if re.fullmatch(r"h\d+", layer)]
    broken = None if fault == CLEAN else random.Random(f"{name}, {fault}, {seed}").choice(places)
    keras.utils.set_random_seed(seed)
    model = what.build(lambda layer, kind: "sigmoid" if fault == SIGMOID and layer == broken else kind)
    names = [] if broken is None else [broken, f"{broken}_act", *(x.name for x in keras_private.flatten_layers(model.get_layer(broken)))]
    if broken is not None:
        damage(model.get_layer(broken), fault)
    optimizer: Any = keras.optimizers.Adam(what.rate) if what.optimizer == "adam" else keras.optimizers.SGD(what.rate, momentum=0.9)
    # XLA takes longer to compile these than they take to train.
    jit: Any = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    x, y = digits(what.data)
    monitor = SaturationMonitor(x[:TRAINED], y[:TRAINED], on_critical=None)
    fit = {"batch_size": what.batch, "epochs": epochs, "validation_data": (x[TRAINED:], y[TRAINED:]), "verbose": 0}
    keras.utils.set_random_seed(seed)
    history = model.fit(x[:TRAINED], y[:TRAINED], callbacks=[monitor], **fit).history
    order = [layer.name for layer in keras_private.flatten_layers(model)]
    last = {key: float(history[key][-1]) for key in ("loss", "accuracy", "val_accuracy")}
    return {"network": name, "fault": fault, "seed": seed, "last": last, **verdict(monitor.findings, names, order)}


def verdict(findings: Sequence[Finding], names: Sequence[str], order: Sequence[str]) -> dict[str, Any]:
    """Return what the findings say of a run whose broken layer has these names: `step` and `epoch` are those of its first finding."""
    critical = [f.layer for f in findings if f.severity == "critical"]
    lowest = min((layer for layer in critical if layer in order), key=order.index, default=None)
    step, epoch = next(((f.step, f.epoch) for f in findings if f.layer in names), (None, None))
    return {"findings": len(findings), "critical": bool(critical), "right": lowest in names, "step": step, "epoch": epoch}


def is_harmed(run: Run, clean: Run) -> bool:
    """Return whether the network learned worse than the clean one of the same seed."""
    now, then = run["last"], clean["last"]
    # The moving statistics of batch normalization are made for long trainings.
    key = "accuracy" if "BatchNorm" in run["network"] else "val_accuracy"
    return now[key] < then[key] - POINTS or not now["loss"] <= TIMES * then["loss"]  # not: NaN counts as harm


def measure(seeds: int, epochs: int, networks: int | None = None) -> dict[str, Any]:
    """Train every network with every fault and without, and return the runs."""
    every = itertools.product(list(ARCHITECTURES)[:networks], (CLEAN, *FAULTS), range(seeds))
    return {"runs": [trained(*run, epochs) for run in every]}


def table(kept: dict[str, Any]) -> Table:
    """Return a row for some sets of faults, and one for the clean networks."""
    clean = {(run["network"], run["seed"]): run for run in kept["runs"] if run["fault"] == CLEAN}
    rows: Table = {}

    def share(values: Sequence[bool]) -> float:
        return sum(values) / len(values) if values else float("nan")

    for name, faults in SETS.items():
        runs = [run for run in kept["runs"] if run["fault"] in faults]
        harmed = [run for run in runs if is_harmed(run, clean[run["network"], run["seed"]])]
        rows[name] = {
            "runs": len(runs),
            "harmed": len(harmed),
            "critical": sum(run["critical"] for run in runs),
            "right of critical": share([run["right"] for run in runs if run["critical"]]),
            "reported before step 1": share([run["step"] == 0 for run in runs]),
            "reported by step 10": share([run["epoch"] == 0 and run["step"] <= 10 for run in runs]),
            "harmed, reported in epoch 1": share([run["epoch"] in (0, 1) for run in harmed]),
            "harmed, critical": share([run["critical"] for run in harmed]),
        }
    return {**rows, CLEAN: {"runs": len(clean), "with a finding": sum(run["findings"] > 0 for run in clean.values())}}
