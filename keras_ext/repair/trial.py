"""A short training of a copy, watched by the monitor: what is found, and what loss it ends with."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from keras_ext.callbacks import Finding, Limits, SaturationMonitor
from keras_ext.callbacks.monitor.probe.samples import cannot
from keras_ext.callbacks.monitor.probe.targets import aims, baseline
from keras_ext.callbacks.monitor.wording import latest
from keras_ext.remedies.table import OF_CAUSES, remedies

# Snapshots of a trial; and samples that its end is judged on.
_SNAPSHOTS = 10
_JUDGED = 1024
# Share of the loss that must be gone for one training to be better than another, and share that is noise.
GAIN, _NOISE = 0.05, 0.01
# Of losses that no training brought down: how many times lower the first must be.
_LOWER_START = 10.0


@dataclass(frozen=True)
class Trial:
    """The findings and the losses of a short training of a copy.

    Args:
        findings: of the monitor, without warnings that became critical.
        loss: at the end, as in inference; infinite where it is not finite, NaN where the model has none.
        first: the loss before the first step.
        constant: the loss of the best constant prediction; NaN where it is not known.
    """

    findings: tuple[Finding, ...]
    loss: float
    first: float
    constant: float

    @property
    def critical(self) -> tuple[Finding, ...]:
        """The critical findings."""
        return tuple(f for f in self.findings if f.severity == "critical")

    def is_below(self, share: float) -> bool:
        """Return whether the loss has come below that share of what a constant prediction costs, or else of the first loss."""
        reference = self.first if math.isnan(self.constant) else self.constant
        if reference <= 0 or not math.isfinite(reference):
            return self.loss < reference if math.isfinite(reference) else math.isfinite(self.loss)
        return self.loss <= share * reference

    def is_healthy(self, limits: Limits) -> bool:
        """Return whether nothing is critical, and the network has begun to learn where a finding names a cause that it may not."""
        if math.isinf(self.loss) or any(f.symptom == "output_mismatch" for f in self.findings):
            return False  # a loss that cannot use the output falls, and means nothing
        causes = [f for f in self.findings if any(remedy in OF_CAUSES for remedy in remedies(f.symptom)[:1])]
        return not self.critical and (not causes or self.is_below(limits.begun) or math.isnan(self.loss))

    def is_lower_than(self, other: "Trial") -> bool:
        """Return whether its loss is clearly lower, or finite where the other's is not."""
        if not math.isfinite(other.loss) or not math.isfinite(self.loss):
            return math.isfinite(self.loss) and not math.isfinite(other.loss)
        return other.loss - self.loss > GAIN * abs(other.loss)

    def is_better_than(self, other: "Trial") -> bool:
        """Return whether it ends with a loss that is clearly lower, or with fewer critical findings and no higher loss.

        Of two losses that are not finite the one is better that began far lower.
        """
        if math.isnan(self.loss) or math.isnan(other.loss):
            return len(self.critical) < len(other.critical)
        if math.isinf(self.loss) and math.isinf(other.loss):
            return other.first > _LOWER_START * abs(self.first)
        if self.is_lower_than(other) or not math.isfinite(other.loss) or not math.isfinite(self.loss):
            return self.is_lower_than(other)
        return len(self.critical) < len(other.critical) and self.loss - other.loss < _NOISE * abs(other.loss)


def tried(model: Any, data: tuple[Any, Any, Any], *, steps: int, batch_size: int, seed: int, limits: Limits) -> Trial:
    """Train `model` for about `steps` steps on `data`, in its order, and return what is found.

    Raises:
        ValueError: the model cannot be trained on this data.
    """
    x, y, sample_weight = data
    count = next(len(a) for a in tree.flatten(x) if a is not None)
    epochs = max(1, round(steps / math.ceil(count / batch_size)))
    planned = epochs * math.ceil(count / batch_size)
    monitor = SaturationMonitor(
        x, y, sample_weight=sample_weight, every=max(1, planned // _SNAPSHOTS), on_critical=None, limits=limits, seed=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fitted = model.fit(
                x, y, sample_weight=sample_weight, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0,
                callbacks=[monitor, _End()],
            )  # fmt: skip
            loss = _loss(model, data, count, batch_size, fitted.history)
        except Exception as error:
            raise cannot("trained", model, data, error) from error
    first = next((s.loss for s in monitor.snapshots), math.nan)
    constant = baseline(aims(model, y, sample_weight)) if model.compiled else math.nan
    return Trial(tuple(latest(monitor.findings)), loss, first, constant)


def _loss(model: Any, data: tuple[Any, Any, Any], count: int, batch_size: int, history: dict[str, list[float]]) -> float:
    logged = float(history["loss"][-1]) if history.get("loss") else math.nan
    if type(model).test_step is keras.Model.test_step and type(model).train_step is keras.Model.train_step:
        part = tree.map_structure(lambda a: None if a is None else a[:: math.ceil(count / _JUDGED)], data)
        logged = float(
            model.evaluate(part[0], part[1], sample_weight=part[2], batch_size=max(batch_size, 32), verbose=0, return_dict=True)["loss"]
        )
    elif not history.get("loss"):
        return math.nan
    return logged if math.isfinite(logged) else math.inf


class _End(keras.callbacks.Callback):
    """Ends a training whose loss is not finite: nothing more is to be learned from it."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            self.model.stop_training = True
