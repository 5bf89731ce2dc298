"""The callback: when to look, and what to do with what was found. No arithmetic."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._backend import keras_private
from keras_ext._checks import bad_argument, one_of, whole
from keras_ext.callbacks.findings import Finding, Limits, examine, worst
from keras_ext.callbacks.probe import Look, Probe


class SaturationMonitor(keras.callbacks.Callback):
    """Name the layers that saturate, die, vanish or explode while a model trains, and say what mends them.

    Before the first step and at the end of each epoch it runs a probe of at most `probe_size` samples forward and backward, compiled, and
    compares a few numbers a layer with `limits`. The model, its optimizer, metrics and random state stay as they are. The probe's gradient
    is that of training without dropout; batch normalization uses the probe's own statistics. A model that has no weights before its first
    step (a Sequential without `Input`, on TensorFlow) is first looked at after that step. A model that the probe cannot run is trained all
    the same, with one warning.

    Into `logs` at each epoch's end, for History, CSVLogger, EarlyStopping and KerasTuner objectives: `saturation` (share of saturated
    outputs of the worst hidden layer), `dead` (share of dead units of the worst ReLU layer), `gradient_ratio` (first kernel's gradient norm
    over the largest), each also as `..._worst` of the run so far, and `critical` (number of critical findings so far).

    Args:
        x: inputs as `fit` takes them: an array, or a list or dict of arrays.
        y: targets likewise; None only for models that add their own losses.
        sample_weight: weights likewise, or None.
        limits: the rules' limits.
        on_critical: at a critical finding `"warn"` warns (of warnings `findings` alone tells), `"stop"` ends the training as EarlyStopping
            does, `"raise"` raises RuntimeError, and None only records it.
        probe_size: samples to look at; drawn from `x` with `seed`.
        seed: of that draw.
        on_finding: function that is called with each new Finding. A function survives the copies that KerasTuner makes of callbacks, so
            it is the way to hear of findings inside a search.

    Attributes:
        findings: list of `Finding`, oldest first; kept until the next fit begins.
        looks: list of `Look`, what was measured.

    Raises:
        ValueError: the arrays differ in length, `probe_size` is under 1, or `on_critical` is unknown.
        TypeError: `x` holds no arrays.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(64, 8)), rng.integers(0, 2, 64)
        >>> model = keras.Sequential([keras.layers.Dense(8, "sigmoid"), keras.layers.Dense(1, "sigmoid")])
        >>> model.compile("sgd", "binary_crossentropy")
        >>> monitor = SaturationMonitor(x, y)
        >>> history = model.fit(50 * x, y, epochs=2, verbose=0, callbacks=[monitor])
        >>> monitor.findings, sorted(history.history)[:3]
        ([], ['critical', 'dead', 'dead_worst'])
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        limits: Limits | None = None,
        on_critical: str | None = "warn",
        probe_size: int = 256,
        seed: int = 0,
        on_finding: Callable[[Finding], None] | None = None,
    ) -> None:
        super().__init__()
        if limits is not None and not isinstance(limits, Limits):
            raise bad_argument("limits", "a keras_ext.callbacks.Limits or None", limits, error=TypeError)
        if on_finding is not None and not callable(on_finding):
            raise bad_argument("on_finding", "a function of one Finding, or None", on_finding, error=TypeError)
        self.limits = limits or Limits()
        self.on_critical = one_of("on_critical", on_critical, ("warn", "stop", "raise", None))
        self.probe_size = whole("probe_size", probe_size)
        self.seed = whole("seed", seed, 0)
        self.on_finding = on_finding
        self.findings: list[Finding] = []
        self.looks: list[Look] = []
        self._data = _sample((x, y, sample_weight), probe_size, seed)
        self._probe: Probe | None = None
        self._step = self._epoch_began = 0
        self._blind = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget the last fit, and look at the first weights if they exist yet."""
        self.findings, self.looks = [], []
        self._step, self._epoch_began, self._probe, self._blind = 0, 0, None, False
        if _is_built(self.model):
            self._look(0)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps; take the first look once a model without input shape has been built by its first step."""
        self._step = self._epoch_began + batch
        if self._probe is None and self._step > 0:
            self._look(0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look, and put the numbers into `logs`."""
        self._step = self._epoch_began = self._epoch_began + ((self.params or {}).get("steps") or self._step - self._epoch_began + 1)
        self._look(epoch + 1)
        if logs is not None and self.looks:
            logs.update(worst(self.looks), critical=sum(f.severity == "critical" for f in self.findings))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Drop the compiled look, which holds the model."""
        self._probe = None

    def _look(self, epoch: int) -> None:
        if self._blind:
            return
        model = self.model  # read once: on JAX each read brings the training state back into the variables
        try:
            self._probe = self._probe or Probe(model, self._data)
            self.looks.append(self._probe.look(self._step, epoch))
        except Exception as error:  # a monitor must not end a training that runs without it
            self._blind = True
            reason = " ".join(str(error).split())
            reason = reason if len(reason) <= 300 else f"{reason[:150]} ... {reason[-140:]}"
            warnings.warn(
                f"SaturationMonitor cannot look at this model; training goes on without it. {type(error).__name__}: {reason}", stacklevel=2
            )
            return
        new = examine(self.looks, self.limits, self.findings)
        self.findings.extend(new)
        for finding in new:
            if self.on_finding is not None:
                self.on_finding(finding)
        critical = [f for f in new if f.severity == "critical"]
        if critical:
            self._act(model, critical)

    def _act(self, model: Any, critical: list[Finding]) -> None:
        more = f" And {len(critical) - 1} more in `monitor.findings`." if len(critical) > 1 else ""
        if self.on_critical == "warn":
            warnings.warn(f"{critical[0]}{more}", stacklevel=2)
        elif self.on_critical == "stop":
            model.stop_training = True
        elif self.on_critical == "raise":
            raise RuntimeError(f"{critical[0]}{more}")


def _is_built(model: Any) -> bool:
    return model.built and all(layer.built for layer in keras_private.flatten_layers(model))


def _sample(data: tuple[Any, Any, Any], size: int, seed: int) -> tuple[Any, Any, Any]:
    """Return `size` samples, or all if there are fewer, drawn without repetition and copied."""
    arrays = [np.asarray(a) for a in tree.flatten(data) if a is not None]
    if not arrays or any(a.ndim == 0 or a.dtype == object for a in arrays):
        raise bad_argument(
            "x", "an array, or a list or dict of arrays", type(data[0]).__name__,
            "Give the monitor a few hundred samples as arrays, whatever `fit` is given.", TypeError,
        )  # fmt: skip
    lengths = {len(a) for a in arrays}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError(f"`x`, `y` and `sample_weight` must have the same number of samples, at least 1, got {sorted(lengths)}.")
    chosen = np.sort(np.random.default_rng(seed).permutation(lengths.pop())[:size])
    return tree.map_structure(lambda a: None if a is None else np.asarray(a)[chosen], data)
