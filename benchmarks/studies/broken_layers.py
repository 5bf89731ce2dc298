"""How often the lowest layer named critical is the broken one: eight networks, one randomly drawn layer of each broken.

`python -m benchmarks.studies.broken_layers --record runs.pkl` trains what the record lacks, and reports. A record holds measurements,
not findings: changed rules are tried without training, since the same command on a full record only replays.
"""

import os
import pickle
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.datasets import load_digits

from benchmarks.measuring import machine
from benchmarks.studies import broken_layers_report, frame
from benchmarks.studies.breakable_networks import ARCHITECTURES
from keras_ext._backend import keras_private
from keras_ext.callbacks import Finding, Limits, SaturationMonitor
from keras_ext.callbacks.judging.findings import examine

FAULTS = ("scale x 30", "scale / 30", "scale 0", "bias -10", "sigmoid x 5")
CLEAN = "clean"
TRAINED = 1000
# Worse than the clean network of the same seed by so much: points of validation accuracy, or times its training loss.
POINTS, TIMES = 0.05, 2.0

Run = dict[str, Any]
Key = tuple[str, str, int]


class KeptMonitor(SaturationMonitor):
    """A monitor that keeps its compiled look for the next fit of the same model, whose weights start anew."""

    _last: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget the last fit's weights."""
        probe = self._last
        super().on_train_begin(logs)
        if probe is not None:
            probe._kept = None
        self._probe = probe

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the compiled look."""
        self._last = self._probe
        super().on_train_end(logs)


class Trainer:
    """Trains one architecture again and again, compiled once for each place of the activation that is exchanged."""

    def __init__(self, name: str, epochs: int) -> None:
        keras.utils.clear_session()
        self.name, self.epochs, self._what = name, epochs, ARCHITECTURES[name]
        x, y = digits(self._what.data)
        self._train, self._validation = (x[:TRAINED], y[:TRAINED]), (x[TRAINED:], y[TRAINED:])
        self._compiled: dict[str | None, tuple[Any, KeptMonitor, list[Any]]] = {}
        self._first_weights: dict[int, list[Any]] = {}
        can_change: list[str] = []
        model = self._what.build(lambda layer, kind: can_change.append(layer) or kind)
        self._hidden = [layer.name for layer in model.layers if re.fullmatch(r"h\d+", layer.name)]
        self._can_change = can_change

    def broken(self, fault: str, seed: int) -> str:
        """Return the layer that is drawn for the fault."""
        layers = self._can_change if fault == "sigmoid x 5" else self._hidden
        return random.Random(f"{self.name}, {fault}, {seed}").choice(layers)

    def run(self, fault: str, seed: int) -> Run:
        """Train once and return what was measured."""
        broken = None if fault == CLEAN else self.broken(fault, seed)
        model, monitor, state = self._model(broken if fault == "sigmoid x 5" else None)
        for variable, value in zip(model.optimizer.variables, state, strict=True):
            variable.assign(value)
        model.set_weights(self._weights(seed))
        if broken is not None:
            damage(model.get_layer(broken), fault)
        keras.utils.set_random_seed(seed)
        (x, y), batch = self._train, self._what.batch
        history = model.fit(
            x, y, batch_size=batch, epochs=self.epochs, validation_data=self._validation, validation_batch_size=1000, verbose=0,
            callbacks=[monitor],
        )  # fmt: skip
        order = [layer.name for layer in keras_private.flatten_layers(model)]
        own = [name for name in (f"{broken}_act", *_inside(model.get_layer(broken))) if name in order] if broken else []
        return {
            "architecture": self.name, "fault": fault, "seed": seed, "broken": broken, "names": [broken, *own] if broken else [],
            "order": order, "looks": list(monitor.looks), "aims": monitor._aims,
            "history": {key: [float(v) for v in values] for key, values in history.history.items()},
        }  # fmt: skip

    def _model(self, changed: str | None) -> tuple[Any, KeptMonitor, list[Any]]:
        if changed not in self._compiled:
            model = self._what.build(lambda layer, kind: "sigmoid" if layer == changed else kind)
            # XLA takes longer to compile these than they take to train.
            jit: Any = False if keras.backend.backend() == "tensorflow" else "auto"
            model.compile(self._what.optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
            model.optimizer.build(model.trainable_variables)
            state = [keras.ops.convert_to_numpy(v).copy() for v in model.optimizer.variables]
            self._compiled[changed] = model, KeptMonitor(*self._train, on_critical=None), state
        return self._compiled[changed]

    def _weights(self, seed: int) -> list[Any]:
        if seed not in self._first_weights:
            keras.utils.set_random_seed(seed)
            self._first_weights[seed] = self._what.build(lambda layer, kind: kind).get_weights()
        return self._first_weights[seed]


def digits(scale: str) -> tuple[Any, Any]:
    """Return the shuffled digits, from 0 to 1 (`"scaled"`) or of mean 0 and variance 1 (`"standard"`)."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = x / 16 if scale == "scaled" else (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    return x[order].astype("float32"), y[order].astype("int32")


def _inside(layer: Any) -> list[str]:
    return [inner.name for inner in keras_private.flatten_layers(layer) if inner is not layer]


def damage(layer: Any, fault: str) -> None:
    """Break the weights of a layer; a recurrent layer has two kernels, which share their fate."""
    factor = {"scale x 30": 30.0, "scale / 30": 1 / 30, "scale 0": 0.0, "sigmoid x 5": 5.0, "bias -10": 1.0}[fault]
    for weight in layer.trainable_weights:
        if len(weight.shape) >= 2:
            weight.assign(weight * factor)
        elif fault == "bias -10":
            weight.assign(keras.ops.full(weight.shape, -10.0))


def replay(run: Run, limits: Limits | None = None, patience: int = 2) -> list[Finding]:
    """Return what the monitor would have found in a recorded run."""
    findings: list[Finding] = []
    for i in range(len(run["looks"])):
        findings += examine(run["looks"][: i + 1], limits or Limits(), findings, patience, run["aims"])
    return findings


def hurt(run: Run, clean: Run) -> bool:
    """Tell whether the network learned worse than the clean one of the same seed.

    With batch normalization by the accuracy in training: the moving statistics, made for long trainings, still hold what it has cancelled.
    """
    now, then = run["history"], clean["history"]
    key = "accuracy" if any("normalization" in name for name in run["order"]) else "val_accuracy"
    worse = now[key][-1] < then[key][-1] - POINTS
    return worse or not now["loss"][-1] <= TIMES * then["loss"][-1]  # not: NaN hurts


@dataclass
class Verdict:
    """What the findings say of one run: the lowest layer named critical, and the first finding of the broken one."""

    run: Run
    findings: list[Finding]
    harmed: bool
    lowest: str | None = field(init=False)
    lowest_of_any: str | None = field(init=False)
    right: bool = field(init=False)
    told: Finding | None = field(init=False)

    def __post_init__(self) -> None:
        names = self.run["names"]
        self.lowest, self.lowest_of_any = self._lowest(self.critical), self._lowest(self.findings)
        self.right = self.lowest in names
        self.told = next((f for f in self.findings if f.layer in names), None)

    @property
    def critical(self) -> list[Finding]:
        """The critical findings."""
        return [f for f in self.findings if f.severity == "critical"]

    def _lowest(self, findings: Sequence[Finding]) -> str | None:
        order = self.run["order"]
        return min((f.layer for f in findings if f.layer in order), key=order.index, default=None)


def verdicts(runs: dict[Key, Run], limits: Limits | None = None, patience: int = 2) -> list[Verdict]:
    """Return the verdict on each run whose clean network was trained too."""
    pairs = [(run, runs.get((name, CLEAN, seed))) for (name, _, seed), run in runs.items()]
    return [Verdict(run, replay(run, limits, patience), hurt(run, clean)) for run, clean in pairs if clean is not None]


# What each symptom is, whatever the limits are: the layers that have it in one look.
def _by_definition(look: Any) -> Iterator[tuple[str, str | None]]:
    if not look.finite:
        yield "non_finite", None
        return
    for a in look.hidden:
        if a.saturated > 0.5:
            yield "saturated", a.layer
        if a.dead >= 0.5:
            yield "dead_relu", a.layer
        if a.rms > 1e4:
            yield "exploding_activation", a.layer
    for w in look.kernels:
        if w.gradient_norm > 1e3:
            yield "exploding_gradient", w.layer
        if w.largest > 1e3:
            yield "exploding_weight", w.layer
    norms = [w.gradient_norm for w in look.kernels]
    if max(norms) == 0:
        yield "zero_gradient", None
    elif norms[0] < 1e-3 and look.gradient_ratio < 1e-3:
        yield "vanishing_gradient", look.kernels[0].layer


def onsets(run: Run, findings: Sequence[Finding]) -> Iterator[tuple[str, str]]:
    """Yield each symptom and whether it was told `"at once"`, where its definition first held for a layer, `"late"` or `"never"`."""
    first: dict[tuple[str, str | None], int] = {}
    for look in run["looks"]:
        for state in _by_definition(look):
            first.setdefault(state, look.step)
    for (symptom, layer), step in first.items():
        steps = [f.step for f in findings if f.symptom == symptom and (f.layer == layer or symptom == "non_finite")]
        yield symptom, "never" if not steps else "at once" if min(steps) <= step else "late"


def summary(found: Sequence[Verdict]) -> dict[str, Any]:
    """Return the figures of the report."""
    sick, clean = [v for v in found if v.run["fault"] != CLEAN], [v for v in found if v.run["fault"] == CLEAN]
    kinds = list(dict.fromkeys(v.run["architecture"] for v in found))
    told: dict[str, Counter[str]] = {}
    for verdict in found:
        for symptom, when in onsets(verdict.run, verdict.findings):
            told.setdefault(symptom, Counter())[when] += 1
    return {
        "faults": {fault: _shares([v for v in sick if v.run["fault"] == fault]) for fault in FAULTS},
        "architectures": {kind: _shares([v for v in sick if v.run["architecture"] == kind]) for kind in kinds},
        "all": _shares(sick),
        "clean": {
            "runs": len(clean),
            "false alarms": [_failure(v) for v in clean if v.critical],
            "with a warning": sum(bool(v.findings) for v in clean),
            "accuracy": {
                kind: min((v.run["history"]["val_accuracy"][-1] for v in clean if v.run["architecture"] == kind), default=None)
                for kind in kinds
            },
        },
        "onset": {fault: dict(Counter(_place(v.told) for v in sick if v.run["fault"] == fault)) for fault in FAULTS},
        "by definition": {symptom: dict(counts) for symptom, counts in sorted(told.items())},
        "failures": [_failure(v) for v in sick if v.lowest not in v.run["names"]],
    }


def _shares(found: Sequence[Verdict]) -> dict[str, int]:
    harmed = [v for v in found if v.harmed]
    return {
        "runs": len(found),
        "harmed": len(harmed),
        "critical": sum(bool(v.critical) for v in found),
        "critical, harmed": sum(bool(v.critical) for v in harmed),
        "right": sum(v.right for v in found),
        "right, harmed": sum(v.right for v in harmed),
        "right, of any severity": sum(v.lowest_of_any in v.run["names"] for v in found),
        "right, of any severity, harmed": sum(v.lowest_of_any in v.run["names"] for v in harmed),
        "told in epoch 1": sum(v.told is not None and v.told.epoch <= 1 for v in found),
        "told in epoch 1, harmed": sum(v.told is not None and v.told.epoch <= 1 for v in harmed),
    }


def _place(finding: Finding | None) -> str:
    if finding is None:
        return "never"
    return f"step {finding.step}" if finding.epoch == 0 else f"end of epoch {finding.epoch}"


def _failure(verdict: Verdict) -> dict[str, Any]:
    run, last = verdict.run, verdict.run["history"]
    return {
        "architecture": run["architecture"], "fault": run["fault"], "seed": run["seed"], "broken": run["broken"], "harmed": verdict.harmed,
        "accuracy": last["val_accuracy"][-1], "loss": last["loss"][-1],
        "lowest": verdict.lowest, "critical": [f"{f.symptom} {f.layer or '-'}" for f in verdict.critical],
        "warnings": [f"{f.symptom} {f.layer or '-'}" for f in verdict.findings if f.severity != "critical"],
    }  # fmt: skip


def section(kept: dict[str, Any]) -> str:
    """Return the report for a page."""
    return f"```text\n{broken_layers_report.report(kept)}\n```"


def train(
    record: dict[str, Any], names: Sequence[str], seeds: int, epochs: int, say: Callable[[str], None], save: Callable[[], None]
) -> None:
    """Train the runs that `record` lacks, and save it after each architecture."""
    for name in names:
        missing = [(fault, s) for s in range(seeds) for fault in (CLEAN, *FAULTS) if (name, fault, s) not in record["runs"]]
        if not missing:
            continue
        begin = time.perf_counter()
        trainer = Trainer(name, epochs)
        for i, (fault, seed) in enumerate(missing):
            record["runs"][name, fault, seed] = run = trainer.run(fault, seed)
            last = run["history"]
            say(
                f"{name} {i + 1}/{len(missing)}, {time.perf_counter() - begin:.0f} s: {fault} {run['broken'] or ''} seed {seed}: "
                f"accuracy {last['val_accuracy'][-1]:.1%}, loss {last['loss'][-1]:.3g}"
            )
        save()


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    if value is not None and value not in ARCHITECTURES:
        raise click.BadParameter(f"must be one of {'; '.join(ARCHITECTURES)}, got {value!r}.")
    return [value] if value else list(ARCHITECTURES)


@click.command()
@click.option("--seeds", default=10, show_default=True, help="Seeds 0 to one less.")
@click.option("--epochs", default=4, show_default=True)
@click.option("--record", "path", type=click.Path(dir_okay=False, path_type=Path), help="Pickle of the runs; what it has is not trained.")
@click.option("--only", "names", callback=_names, help="One architecture.")
@frame.json_option
def main(seeds: int, epochs: int, path: Path | None, names: list[str], out: Path | None) -> None:
    """Break one layer of clean networks and tell how often the monitor names it."""
    words = [f"--seeds {seeds}", f"--epochs {epochs}"] + ([f'--only "{names[0]}"'] if len(names) == 1 else [])
    settings = {"backend": keras.backend.backend(), "epochs": epochs}
    header = machine.header(" ".join(["python -m benchmarks.studies.broken_layers", *words]))
    record = {**settings, "header": header, "runs": {}}
    if path is not None and path.exists():
        record = pickle.loads(path.read_bytes())
        record["header"]["command"] = header["command"]
        if any(record[key] != value for key, value in settings.items()):
            raise click.ClickException(f"{path.name} holds runs of {record['backend']}, {record['epochs']} epochs.")

    def save() -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_bytes(pickle.dumps(record))
            new.replace(path)

    train(record, names, seeds, epochs, lambda line: click.echo(line, err=True), save)
    runs = {key: run for key, run in record["runs"].items() if key[0] in names and key[2] < seeds}
    figures = summary(verdicts(runs))
    frame.finish({"header": record["header"], **figures}, broken_layers_report.text(figures), out)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.studies.broken_layers")
