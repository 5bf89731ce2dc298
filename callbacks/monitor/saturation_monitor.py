"""The callback: when to take a snapshot, and what to do with what was found. No arithmetic."""

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_ext._atomic import saved, write_text
from keras_ext._backend import keras_private
from keras_ext._checks import BadInput, a_path, bad_argument, flag, integer, one_of
from keras_ext._html import shown
from keras_ext._warnings import warn
from keras_ext._wording import reason
from keras_ext.callbacks.clipping_log import ClippingShares
from keras_ext.callbacks.monitor.finding import Finding
from keras_ext.callbacks.monitor.fit_repairs import FitRepairs
from keras_ext.callbacks.monitor.limits import Limits, checked_choice
from keras_ext.callbacks.monitor.probe.broken import are_same, broken
from keras_ext.callbacks.monitor.probe.inference import loss_in_inference, may_differ_in_inference
from keras_ext.callbacks.monitor.probe.leakage import leaks
from keras_ext.callbacks.monitor.probe.placeholders import placeholders
from keras_ext.callbacks.monitor.probe.probe import Probe, UnknownLayer, affordable, has_weights
from keras_ext.callbacks.monitor.probe.samples import cannot, is_dataset, probe_batch
from keras_ext.callbacks.monitor.probe.targets import Aim, aims, baseline
from keras_ext.callbacks.monitor.probe.training import Training, losses_at_first, step_of, training_of
from keras_ext.callbacks.monitor.report.json_report import RUN_FILE, new_run, to_json
from keras_ext.callbacks.monitor.report.scalars import Scalars
from keras_ext.callbacks.monitor.report.table import table
from keras_ext.callbacks.monitor.rules.findings import by_layer, examine, passed, worst
from keras_ext.callbacks.monitor.rules.mismatch import has_impossible_targets
from keras_ext.callbacks.monitor.snapshot import Logged, Snapshot
from keras_ext.callbacks.monitor.snapshot_schedule import SnapshotSchedule


class SaturationMonitor(keras.callbacks.Callback):
    """Name the layers that saturate, die, vanish or explode while a model trains, and say what fixes them.

    Before the first step, after steps 1, 10, 100 and 1000 of the first epoch and at the end of each epoch it runs a probe of at most
    `probe_size` samples forward and backward, compiled, and compares a few numbers a layer with `limits`. The model, its optimizer, metrics
    and random state stay as they are. The probe's gradient is that of training without dropout; batch normalization uses the probe's own
    statistics. A model without weights before its first step (a Sequential without `Input`, on TensorFlow) is seen after that step. A model
    that the probe cannot run is trained all the same, with one warning. A fit that goes on at a later epoch (`initial_epoch`,
    BackupAndRestore) goes on counting, without the snapshots of a first epoch.

    Into `logs` at each epoch's end, for History, CSVLogger, EarlyStopping and KerasTuner objectives: `saturation` (share of saturated
    outputs of the worst hidden layer), `dead` (share of dead units of the worst ReLU layer), `gradient_ratio` (first kernel's gradient norm
    over the largest), each also as `..._worst` of the run so far, and `critical` (number of critical findings so far). Callbacks that read
    them come behind the monitor. Each snapshot also has the shares of steps that a `GradientClipping` changed and left out since the last.

    Args:
        x: inputs as `fit` takes them: arrays, or a dataset of batches (tf.data, PyDataset, DataLoader), whose first samples are copied.
        y: targets likewise; None with a dataset, and for models that add their own losses.
        sample_weight: weights likewise, or None.
        every: `"epoch"`, or a number of steps after each of which it takes one instead.
        layers: names of the layers to observe; None for all.
        limits: the rules' limits.
        on_critical: at a critical finding `"warn"` warns (of warnings `findings` alone reports), `"stop"` warns, unless there is an
            `on_finding`, and ends the training as EarlyStopping does (within an epoch Keras takes one execution of steps more, then ends
            that epoch with its validation), `"raise"` raises RuntimeError at once, after the report is written, and None only records it.
            `"repair"` changes at the end of the epoch what keeps the graph: it draws the weights of a dead or badly scaled layer again,
            moves the rate by a factor of 10, or clips gradients (not if the optimizer clips already, nor a rate that is a schedule). It
            warns, says so in the finding's advice, and undoes the change if two epochs later the loss is not 5 % lower. Where no such
            change is for the symptom, it warns alone: `keras_ext.repair` makes the others.
        patience: snapshots in a row, not counting those within the first epoch, for which a state must last while the loss does not fall,
            to be critical. Values that are not finite are critical at once.
        probe_size: samples to observe; drawn from `x` with `seed`. Of a model of large feature maps, whose watched layers put out more than
            32,768 numbers a sample, proportionally fewer, but at least 32, so that a snapshot costs about as much as a step.
        seed: of that draw.
        rank: whether to measure the effective rank of the activations, which costs a decomposition each.
        per_layer: whether to put `saturation/<layer>` and `dead/<layer>` into `logs` too.
        report: file that gets a page of findings, picture and table at the end of the fit (HTML that needs nothing else).
        log_dir: folder in which each fit gets a folder, `run_000001` and so on, with TensorBoard scalars of each snapshot (needs
            tensorboard), and its snapshots and findings in `run.json`; the number is in `logs` as `run`, so that a search keeps it.
        on_finding: function that is called with each new Finding, also inside a search, where KerasTuner works on copies of callbacks.

    Attributes:
        findings: list of `Finding`, oldest first; kept until the next fit begins.
        passed: the warnings whose symptom ended while the network learned; they are no longer in `findings`.
        snapshots: list of `Snapshot`, what was measured.

    Raises:
        ValueError: an argument is outside its rule, or the arrays differ in length; when a training begins, `log_dir` cannot be written
            (what cannot be written later costs a warning).
        TypeError: `x` holds no arrays.

    Examples:
        >>> import numpy as np
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
        self, x: Any = None, y: Any = None, *, sample_weight: Any = None, every: str | int = "epoch", layers: Sequence[str] | None = None,
        limits: Limits | None = None, on_critical: str | None = "warn", patience: int = 2, probe_size: int = 256, seed: int = 0,
        rank: bool = False, per_layer: bool = False, report: str | Path | None = None, log_dir: str | Path | None = None,
        on_finding: Callable[[Finding], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if x is None:
            raise bad_argument(
                "x", "samples as `fit` takes them", None, "Write SaturationMonitor(x, y): it observes the model on them.", TypeError
            )
        if on_finding is not None and not callable(on_finding):
            raise bad_argument("on_finding", "a function of one Finding, or None", on_finding, error=TypeError)
        self.every = every
        self.layers, self.limits = checked_choice(layers, limits)
        self.on_critical = one_of("on_critical", on_critical, ("warn", "stop", "raise", "repair", None))
        self.patience = integer("patience", patience)
        self.probe_size = integer("probe_size", probe_size)
        self.seed = integer("seed", seed, 0)
        self.rank = flag("rank", rank)
        self.per_layer = flag("per_layer", per_layer)
        self.report = report if report is None else a_path("report", report)
        if self.report is not None and self.report.is_dir():
            raise bad_argument("report", "a file", report, 'Such as "report.html" in it.')
        self.log_dir = log_dir if log_dir is None else a_path("log_dir", log_dir)
        if self.log_dir is not None and self.log_dir.is_file():
            raise bad_argument("log_dir", "a folder", log_dir, "That is a file.")
        self.on_finding = on_finding
        self._rhythm = SnapshotSchedule(every)
        self._probes: dict[Any, Probe] | None = None
        self._tracing: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self._many: int | None = None
        self._taken: int | None = None
        self._data = probe_batch(x, y, sample_weight, size=probe_size, seed=seed)
        self._given: dict[str, Any] = {"broken": broken((x, y, sample_weight), self._data), "is_dataset": is_dataset(x)}
        self._given |= {"is_same": are_same(self._data[0]), "placeholder": placeholders(self._data[0])}
        self._step = self._epoch_began = self._epoch = self._run = 0
        self._folder: Path | None = None
        self._scalars: Scalars | None = None
        self._forget_fit()

    def _forget_fit(self) -> None:
        self.findings: list[Finding] = []
        self.passed: list[Finding] = []
        self.snapshots: list[Snapshot] = []
        self._probe: Probe | None = None
        self._aims: tuple[Aim | None, ...] = ()
        self._training = Training()
        self._logged: tuple[Logged, ...] = ()
        self._validation = math.nan
        self._leak: str | None = None
        self._at_first: dict[str, Any] = {}
        self._shares = ClippingShares()
        self._repairs = FitRepairs(self.seed)
        self._is_first_epoch, self._blind = True, False

    def __deepcopy__(self, memo: dict[int, Any]) -> "SaturationMonitor":
        """Return a copy with the same `on_finding`: a method of an object that is copied too would be called on the copy."""
        new: Any = copy.copy(self)
        memo |= {id(self): new, id(self.on_finding): self.on_finding}
        vars(new).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return new

    def set_model(self, model: Any = None) -> None:
        """Set the model of the fit that begins; Keras calls it."""
        if not isinstance(self, SaturationMonitor):  # the model, as `callbacks` has the class itself
            fix = "Write callbacks=[SaturationMonitor(x, y)]."
            raise bad_argument("callbacks", "a list of callbacks", "the class SaturationMonitor", fix, TypeError)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget the last fit, and make the folder of this one."""
        self._forget_fit()
        self._close_scalars()
        if self.log_dir is not None:
            try:
                self._run, self._folder = new_run(self.log_dir)
                self._scalars = Scalars(self._folder)
            except OSError as error:  # reported now, not after hours of training
                fix = "Give another folder, or make room."
                raise BadInput(f"`log_dir` {self.log_dir} cannot be written ({reason(error)}). {fix}") from None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Take a snapshot of the first weights, if they exist yet. Only now is it known whether the fit goes on from an earlier one."""
        self._epoch = epoch
        if not self._is_first_epoch:
            return
        self._step = self._epoch_began = epoch * int((self.params or {}).get("steps") or 0)
        self._rhythm = SnapshotSchedule(self.every, self._step)
        if epoch:
            self._rhythm.end_early_snapshots()
        if has_weights(self.model):
            self._snapshot(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the steps, and take a snapshot where one is due; what the last step left is seen here, before the next one begins."""
        self._step = self._epoch_began + batch
        if batch == 0:
            return
        if self._probe is None and not self._blind:
            # A model without input shape has been built by its first step.
            self._snapshot(self._epoch)
            self._rhythm.is_due(self._step)
        elif self._rhythm.is_due(self._step):
            self._snapshot(self._epoch, self._rhythm.is_regular)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Snapshot, and put the numbers into `logs`."""
        self._step = self._epoch_began = self._epoch_began + self._steps_taken()
        self._is_first_epoch = False
        self._hear(logs or {})
        due = self._rhythm.is_due(self._step)
        self._rhythm.end_early_snapshots()
        if due or not self._rhythm.is_regular or not self.snapshots:
            self._snapshot(epoch + 1)
        if self.on_critical == "repair" and self.snapshots and not self._blind:
            self._repair(epoch + 1)
        if logs is not None and self.snapshots:
            logs.update(worst(self.snapshots), critical=sum(f.severity == "critical" for f in self.findings))
            if self.per_layer:
                logs.update(by_layer(self.snapshots[-1]))
            if self._folder is not None:
                logs["run"] = self._run

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Drop the compiled snapshot, which holds the model, and write what is to be written."""
        self._probe = None
        self._close_scalars()
        try:
            if self._folder is not None:
                self.to_json(self._folder / RUN_FILE)
            if self.report is not None:
                from keras_ext.callbacks.monitor.report.page import page  # brings matplotlib

                title = f"{self.model.name}, as SaturationMonitor saw it"
                write_text(self.report, page(self.snapshots, self.findings, title, self.passed))
        except OSError as error:  # what was trained must not be lost
            warn(f"SaturationMonitor could not write its report. {type(error).__name__}: {error}")

    def steps_to_snapshot(self, done: int) -> int | None:
        """Return after how many steps a snapshot is due, of an epoch with `done` steps so far; None where none is before its end."""
        if self._probe is None and not self._blind:
            return 1
        due = self._rhythm.next_due(self._epoch_began + done)
        return None if due is None else due - self._epoch_began - done

    def take_steps(self, done: int) -> None:
        """Count so many steps for the epoch that ends, whose steps ran without a call between them."""
        self._taken = done

    def share_probes(
        self,
        probes: dict[Any, Probe],
        tracing: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
        many: int | None = None,
    ) -> None:
        """Take the compiled snapshot from `probes`, and leave it there for the next monitor of a model of the same structure.

        A snapshot is traced within `tracing()`, and compiled with more care after `many`.
        """
        self._probes, self._tracing, self._many = probes, tracing, many

    def table(self) -> Any:
        """Return the last snapshot as a table of layers, and the findings with their advice, for `rich.print`."""
        return table(self.snapshots, self.findings, self.passed)

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a matplotlib Figure of layers by snapshots, findings marked; with `path`, save it too."""
        from keras_ext.callbacks.monitor.report.picture import picture

        return saved(picture(self.snapshots, self.findings), path)

    def _repr_html_(self) -> str:
        return shown(self.table(), self.plot() if self.snapshots else None, "Layers by snapshots")

    def to_json(self, path: str | Path) -> None:
        """Write snapshots and findings to a file; `keras_ext.callbacks.monitor.report.json_report.from_json` reads it."""
        to_json(path, self.snapshots, self.findings, passed=[asdict(finding) for finding in self.passed])

    def _steps_taken(self) -> int:
        """Return the steps of the epoch that ends; `stop_training` and data that has run out end one early."""
        if self._taken is not None:
            taken, self._taken = self._taken, None
            return taken
        begun, model, params = self._step - self._epoch_began, self.model, self.params or {}
        steps, has_stopped = params.get("steps"), getattr(model, "stop_training", False)
        # A training loop of the user's own sets no `stop_training`, may tell no number of steps, and may call no hook within an epoch.
        if steps is None and "steps" in params and not has_stopped and keras_private.begins_without_data():
            return begun
        at_once = getattr(model, "steps_per_execution", 1)
        taken = begun + (at_once if isinstance(at_once, int) else 1)
        return min(taken, int(steps or taken))

    def _hear(self, logs: dict[str, Any]) -> None:
        """Take the losses that a `train_step` has logged, in case that nothing else knows them, and that of the validation."""
        self._validation = float(logs.get("val_loss", math.nan))
        means = {name: float(value) for name, value in logs.items() if name.endswith("loss") and not name.startswith("val_")}
        if not self._logged:
            # What the first epoch cost stands for what the first weights did.
            first = means.get("loss", math.nan)
            self.snapshots = [s if s.has_loss else replace(s, loss=first) for s in self.snapshots]
        self._logged = tuple(Logged(name, value) for name, value in means.items())

    def _planned(self, epoch: int) -> float:
        """Return the steps of the whole fit; NaN where an epoch's are not known yet, and where a loop tells no number of epochs."""
        params = self.params or {}
        steps = params.get("steps") or (self._step / epoch if epoch else math.nan)
        return float(params.get("epochs") or math.nan) * float(steps)

    def _close_scalars(self) -> None:
        if self._scalars is not None:
            self._scalars.close()
            self._scalars = None

    def _snapshot(self, epoch: int, is_regular: bool = True) -> None:
        if self._blind:
            return
        try:
            self._see(epoch, is_regular)
        except BaseException:  # fit ends here, and calls no `on_train_end`
            self.on_train_end()
            raise

    def _see(self, epoch: int, is_regular: bool) -> None:
        model = self.model  # read once: on JAX each read brings the training state back into the variables
        try:
            if self._probe is None:
                self._probe = self._probe_of(model)
                self._aims = aims(model, *self._data[1:])
                self._training = replace(training_of(model), samples=self._probe.samples)
            snapshot = self._probe.snapshot(self._step, epoch, is_regular, lambda s: has_impossible_targets(s, self._aims))
            clipped, skipped = self._shares.since_last(model)
            if not snapshot.has_loss:
                loss = next((each.value for each in self._logged if each.name == "loss"), math.nan)
                snapshot = replace(snapshot, loss=loss)
            more: Any = {"logged": self._logged, "validation": self._validation}
            planned = replace(self._training, planned=self._planned(epoch))
            if is_regular and may_differ_in_inference(snapshot, self.limits, planned, baseline(self._aims)):
                more["inference"] = loss_in_inference(model, self._data)
            self.snapshots.append(replace(snapshot, clipped=clipped, skipped=skipped, **more))
            if self._leak is None:
                self._leak = leaks(model, self._data)
            if not self._at_first:
                self._at_first = losses_at_first(model, self._data, snapshot)
        except UnknownLayer:
            raise
        except Exception as error:  # a monitor must not end a training that runs without it
            self._blind = True
            reported = cannot("observed", model, self._data, error)
            warn(f"SaturationMonitor cannot observe this model; training goes on without it. {reported}")
            return
        if self._scalars is not None:
            self._write_scalars(self._scalars)
        training = replace(
            planned,
            step=step_of(getattr(model, "optimizer", None)),
            leak=self._leak or "",
            **self._at_first,
            **self._given,
        )
        state = (self.patience, self._aims, training)
        new = examine(self.snapshots, self.limits, self.findings, *state)
        ended = passed(self.snapshots, self.limits, self.findings, *state)
        self.passed += ended
        self.findings = [*(f for f in self.findings if f not in ended), *new]
        for finding in new:
            if self.on_finding is not None:
                self.on_finding(finding)
        self._act(model, [f for f in new if f.severity == "critical"])

    def _probe_of(self, model: Any) -> Probe:
        key = (
            self.rank,
            self.layers,
            self.limits.slope,
            *(None if a is None else np.asarray(a).tobytes() for a in tree.flatten(self._data)),
        )
        probes = {} if self._probes is None else self._probes
        if key not in probes:
            settings: Any = {
                "rank": self.rank,
                "layers": self.layers,
                "tracing": self._tracing,
                "slope": self.limits.slope,
                "many": self._many,
            }
            probes[key] = Probe(model, affordable(model, self._data), **settings)
        return probes[key].of(model)

    def _write_scalars(self, scalars: Scalars) -> None:
        try:
            scalars.write(self.snapshots[-1])
        except OSError as error:  # what is trained must not be lost
            warn(f"SaturationMonitor: {self._folder} cannot be written ({reason(error)}). Training goes on without its scalars. Make room.")
            self._scalars = None
            with contextlib.suppress(OSError):
                scalars.close()

    def _repair(self, epoch: int) -> None:
        """Make and undo changes, and note them in the findings that they are for."""
        model = self.model
        for finding, what in self._repairs.end_epoch(model, self.snapshots[-1].loss, epoch):
            alike = [
                i for i, f in enumerate(self.findings) if (f.symptom, f.layer, f.severity) == (finding.symptom, finding.layer, "critical")
            ]
            for i in alike:
                self.findings[i] = replace(self.findings[i], advice=f"{self.findings[i].advice} {what}")
            warn(f"SaturationMonitor, {finding.symptom.replace('_', ' ')}: {what}")

    def _act(self, model: Any, critical: list[Finding]) -> None:
        if not critical or self.on_critical is None:
            return
        more = f" And {len(critical) - 1} more in `monitor.findings`." if len(critical) > 1 else ""
        text = f"{critical[0]}{more}"
        if self.on_critical == "raise":
            raise RuntimeError(text)
        if self.on_critical == "repair" and sum(map(self._repairs.hear, critical)):
            return
        if self.on_critical in ("warn", "repair"):
            warn(text)
            return
        model.stop_training = True
        # With `on_finding`, as in a watched search, a warning would say it twice.
        if self.on_finding is None:
            warn(f"training stops: {text}")
