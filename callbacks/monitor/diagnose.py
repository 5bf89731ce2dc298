"""A model as it stands: what SaturationMonitor would find in it, without training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
from keras import ops, tree
from rich.console import Group
from rich.text import Text

from keras_ext._atomic import saved, write_text
from keras_ext._checks import bad_argument, flag, integer
from keras_ext._html import shown
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.limits import Limits, checked_choice
from keras_ext.callbacks.monitor.probe.broken import broken
from keras_ext.callbacks.monitor.probe.leakage import leaks
from keras_ext.callbacks.monitor.probe.placeholders import placeholders
from keras_ext.callbacks.monitor.probe.probe import Probe, UnknownLayer, knows_loss
from keras_ext.callbacks.monitor.probe.samples import build, cannot, check_targets, probe_batch
from keras_ext.callbacks.monitor.probe.targets import aims
from keras_ext.callbacks.monitor.probe.training import Training, losses_at_first, training_of
from keras_ext.callbacks.monitor.report.json_report import to_json
from keras_ext.callbacks.monitor.report.table import layer_table, reported
from keras_ext.callbacks.monitor.rules.findings import examine
from keras_ext.callbacks.monitor.rules.mismatch import has_impossible_targets
from keras_ext.callbacks.monitor.snapshot import Snapshot
from keras_ext.callbacks.monitor.wording import grouped, number, verdict

_COLUMNS = ("layer", "saturated", "dead", "gradient norm", "gradient / weight", "weight scale", "worst finding")
_NO_LOSS = "It is not compiled with a loss: nothing is known of its gradients. Call model.compile(loss=...) first."


@dataclass(frozen=True)
class Diagnosis:
    """The findings of one snapshot of a model; `print` shows them in plain lines.

    Args:
        model: the model's name.
        findings: what is outside the limits, the layers nearest to the input first. One snapshot does not show whether a state lasts, so
            only values that are not finite, and targets of classes that the output does not have, are critical.
        snapshot: the numbers. Its `step` is that of the optimizer, 0 without one. Without a loss, loss and gradients are NaN.
        samples: how many samples were observed.
        has_loss: False for a model that is not compiled.

    Examples:
        >>> print(Diagnosis("digits", [], Snapshot(0, 0, 0.7, 1.0, (), ()), 64))
        digits, 64 samples, loss 0.7: nothing found
    """

    model: str
    findings: list[Finding]
    snapshot: Snapshot
    samples: int
    has_loss: bool = True

    def __str__(self) -> str:
        """Return the verdict and each finding with its advice, a line each."""
        return "\n".join([f"{self._heading}: {verdict(self.findings)}", *(line.plain for line in self._lines)])

    def table(self) -> Group:
        """Return a row for each layer (weight scale about 1: it keeps its signal's variance), and what was found, for `rich.print`."""
        return Group(layer_table(self._heading, self.snapshot, self.findings, _COLUMNS), *self._lines)

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a matplotlib Figure of the layers, findings marked; with `path`, save it too."""
        from keras_ext.callbacks.monitor.report.picture import picture

        return saved(picture([self._shown], self.findings), path)

    def _repr_html_(self) -> str:
        return shown(self.table(), self.plot(), "Layers of the model")

    def to_json(self, path: str | Path, **header: Any) -> None:
        """Write snapshot and findings to a file; `keras_ext.callbacks.monitor.report.json_report.from_json` reads it.

        `header` is more to keep, such as the changes of a repair.
        """
        to_json(path, [self.snapshot], self.findings, model=self.model, samples=self.samples, **header)

    def report(self, path: str | Path) -> None:
        """Write a page of findings, picture and table: HTML that needs nothing else."""
        from keras_ext.callbacks.monitor.report.page import page

        write_text(path, page([self._shown], self.findings, f"{self.model}, as it stands"))

    @property
    def _heading(self) -> str:
        loss = f", loss {number(self.snapshot.loss)}" if self.has_loss else ""
        return f"{self.model}, {self.samples} sample{'s' if self.samples > 1 else ''}{loss}"

    @property
    def _lines(self) -> list[Text]:
        return [reported(group, dated=False) for group in grouped(self.findings)] + ([] if self.has_loss else [Text(_NO_LOSS)])

    @property
    def _shown(self) -> Snapshot:
        # A picture takes gradients of NaN for unhealthy ones.
        return self.snapshot if self.has_loss else replace(self.snapshot, weights=tuple(w for w in self.snapshot.weights if not w.finite))


def diagnose(
    model: keras.Model, x: Any, y: Any = None, *, sample_weight: Any = None, layers: Sequence[str] | None = None,
    limits: Limits | None = None, probe_size: int = 256, seed: int = 0, rank: bool = False,
) -> Diagnosis:  # fmt: skip
    """Return what SaturationMonitor finds in `model` as it stands, without training it.

    One batch runs forward and backward as in training, but dropout and noise let their input through. The model stays as it is, bit for
    bit; one without weights gets those that `fit` would begin with. A model that is not compiled is observed without gradients.

    Args:
        model: a Keras model, trained or not.
        x: inputs as `fit` takes them: arrays, or a dataset of batches, whose first samples are taken.
        y: targets likewise; None with a dataset, for models that add their own losses, and for one that is not compiled.
        sample_weight: weights likewise, or None.
        layers: names of the layers to observe; None for all.
        limits: the rules' limits.
        probe_size: samples to observe, at least 1; drawn from `x` with `seed`.
        seed: of that draw, at least 0.
        rank: whether to measure the effective rank of the activations, which costs a decomposition each.

    Raises:
        ValueError: `x` is empty or the arrays differ in length, the model is compiled with a loss and there are no targets, a layer is
            unknown, or the model cannot be built or run on this data.
        TypeError: `model` is no Keras model, or `x` holds no arrays.

    Examples:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(64, 8))
        >>> hidden = keras.layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden")
        >>> model = keras.Sequential([keras.Input((8,)), hidden, keras.layers.Dense(8)])
        >>> model.compile("sgd", "mse")
        >>> diagnose(model, x, x).findings
        []
        >>> _ = hidden.bias.assign(np.full(8, -50.0))
        >>> [(f.symptom, f.layer, f.severity) for f in diagnose(model, x, x).findings][:2]
        [('poor_initialization', 'hidden', 'warning'), ('dead_relu', 'hidden', 'warning')]
    """
    if not isinstance(model, keras.Model):
        raise bad_argument("model", "a keras.Model", type(model).__name__, error=TypeError)
    layers, limits = checked_choice(layers, limits)
    flag("rank", rank)
    data = probe_batch(x, y, sample_weight, size=integer("probe_size", probe_size), seed=integer("seed", seed, 0))
    has_loss = knows_loss(model)
    check_targets(model, data)
    build(model, data)
    targets = aims(model, *data[1:]) if has_loss else ()
    try:
        iterations = getattr(getattr(model, "optimizer", None), "iterations", None)
        steps = 0 if iterations is None else int(ops.convert_to_numpy(iterations))
        snapshot = Probe(model, data, rank, layers, has_loss, slope=limits.slope).snapshot(
            steps, 0, explains=lambda s: has_impossible_targets(s, targets)
        )
    except UnknownLayer:
        raise
    except Exception as error:
        raise cannot("run", model, data, error) from error
    training = training_of(model) if model.compiled else Training()
    training = replace(training, leak=leaks(model, data) or "", placeholder=placeholders(data[0]), **losses_at_first(model, data, snapshot))
    if not snapshot.finite:
        training = replace(training, broken=broken((x, y, sample_weight), data))
    findings = examine([snapshot], limits, aims=targets, training=training)
    samples = len(next(a for a in tree.flatten(data[0]) if a is not None))
    return Diagnosis(model.name, findings, snapshot, samples, has_loss)
