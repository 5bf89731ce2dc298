"""A snapshot of a model: records of plain numbers, and what they say layer by layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_ext.callbacks.monitor.probe.statistics import CHOOSING, RECTIFYING, SATURATING

# A kernel that goes this share of its own length from snapshot to snapshot forgets what it had learned, and needs no longer steps.
FAR = 0.5


@dataclass(frozen=True)
class Activation:
    """One activation's values on the probe; `statistics.activation_statistics` says what the numbers are.

    `kind` is the activation's name. `part` names a gate inside a recurrent layer, such as `"forget gate"`, is `statistics.ATTENTION` for
    the choices of an attention layer, or is empty. An activation that `counts` is a hidden one; the model's output and the softmax of
    attention are measured, and their saturation is no symptom.
    """

    layer: str
    kind: str
    part: str
    is_output: bool
    saturated: float
    saturated_units: float
    dead: float
    zeros: float
    rms: float
    finite: bool
    rank: float = math.nan

    @property
    def counts(self) -> bool:
        """True for hidden activations, whose saturation stops the layers before them."""
        return not self.is_output and self.kind != "softmax"


@dataclass(frozen=True)
class Weight:
    """One weight and its gradient on the probe; `statistics.weight_statistics` says what the numbers are.

    `scale` is the root mean square times the root of the inputs that one output sums up, as the layer means its shape: about 1 where the
    layer keeps its signal's variance. `least_scale` and `most_scale` are the ends of what the usual initializers would give. NaN for what
    is no kernel of a known layer. `update` is how far the weight went since the snapshot before, NaN at the first. What its layer puts out
    is `normalized` where batch, layer, group, RMS or unit normalization follows at once: its scale shows in how far a step goes alone.
    """

    layer: str
    path: str
    is_kernel: bool
    gradient_norm: float
    weight_norm: float
    largest: float
    zero_gradients: float
    finite: bool
    scale: float = math.nan
    update: float = math.nan
    deviation: float = math.nan
    least_scale: float = math.nan
    most_scale: float = math.nan
    normalized: bool = False

    @property
    def gradient_ratio(self) -> float:
        """Gradient norm over weight norm; infinite for weights of 0 with a gradient."""
        return _ratio(self.gradient_norm, self.weight_norm)

    @property
    def update_ratio(self) -> float:
        """Update since the last snapshot over weight norm; NaN at the first snapshot."""
        return _ratio(self.update, self.weight_norm)


@dataclass(frozen=True)
class Output:
    """The predictions of one output on the probe; `statistics.output_statistics` says what the numbers are, `units` is the last axis."""

    units: int
    low: float
    high: float
    sum_off: float
    spread: float
    deviation: float = math.nan


@dataclass(frozen=True)
class Recurrent:
    """The loss's gradient at the inputs of a recurrent layer, time step by time step.

    `norms` are L2 norms in the order in which the layer takes its `steps`, each the root mean square over as many steps as share a number:
    one of 64 steps and fewer. They are 0 where no step before passes anything back, and empty where nothing was measured.
    """

    layer: str
    steps: int
    norms: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Norm at the first step over the largest of all steps; 1 where all are zero."""
        largest = max(self.norms, default=0.0)
        return self.norms[0] / largest if largest > 0 else 1.0

    def reach(self, share: float) -> int:
        """Return over how many steps, counted from the last, the gradient keeps at least that share of its largest norm."""
        least = share * max(self.norms, default=0.0)
        together = -(-self.steps // max(len(self.norms), 1))
        return next((self.steps - i * together for i, norm in enumerate(self.norms) if norm >= least), 0)


@dataclass(frozen=True)
class Normalization:
    """How far the moving statistics of a batch normalization are from the probe's; `statistics.normalization_statistics` says how."""

    layer: str
    shift: float
    ratio: float


@dataclass(frozen=True)
class Ids:
    """The ids that an embedding is given; `statistics.id_statistics` says what the shares are."""

    layer: str
    fractions: float
    outside: float


@dataclass(frozen=True)
class Logged:
    """A loss that a `train_step` logged, and its mean over the last epoch."""

    name: str
    value: float


@dataclass(frozen=True)
class Snapshot:
    """A model at one moment of its training, seen on the probe batch.

    `step` counts the batches of this fit, `epoch` its epochs; both are 0 before the first step. `spread` is 0 where the model predicts the
    same whatever its input, and NaN where it saw one sample alone. `input_rms` is the root mean square of what the first layer with a
    kernel is given, 0 if that is no array of numbers. `clipped` and `skipped` are the shares of steps since the last snapshot that a
    `GradientClipping` changed and left out; NaN without one. `layers` names the layers in the network's order. `recurrent` has the
    gradients through time, `normalizations` what inference will normalize by, `embeddings` the ids of
    embeddings.

    Where a `train_step` of the model's own keeps its loss to itself, `has_loss` is False: gradients are NaN, `loss` is the mean that was
    logged for the last epoch, NaN before the first one ends. `logged` has all losses that were logged for the last epoch, `validation` is
    its validation's loss. `inference` is the loss of the probe in inference, NaN where no batch normalization makes that worth while.
    `penalty` is the part of `loss` that the regularizers of weights make.
    """

    step: int
    epoch: int
    loss: float
    spread: float
    activations: tuple[Activation, ...]
    weights: tuple[Weight, ...]
    is_regular: bool = True
    outputs: tuple[Output, ...] = ()
    input_rms: float = 0.0
    clipped: float = math.nan
    skipped: float = math.nan
    layers: tuple[str, ...] = ()
    recurrent: tuple[Recurrent, ...] = ()
    normalizations: tuple[Normalization, ...] = ()
    embeddings: tuple[Ids, ...] = ()
    has_loss: bool = True
    logged: tuple[Logged, ...] = ()
    validation: float = math.nan
    inference: float = math.nan
    penalty: float = 0.0

    @property
    def loss_on_data(self) -> float:
        """The loss without the penalties on weights, which a constant prediction does not pay."""
        return self.loss - self.penalty

    @property
    def hidden(self) -> tuple[Activation, ...]:
        """The activations whose saturation is a symptom."""
        return tuple(a for a in self.activations if a.counts)

    @property
    def kernels(self) -> tuple[Weight, ...]:
        """The weights with two axes or more, in the order of the layers."""
        return tuple(w for w in self.weights if w.is_kernel)

    @property
    def finite(self) -> bool:
        """False where a loss, an activation, a weight or a gradient is NaN or infinite."""
        losses = [self.loss] if self.has_loss else [logged.value for logged in self.logged]
        return all(map(math.isfinite, losses)) and all(p.finite for p in (*self.activations, *self.weights))

    @property
    def gradient_ratio(self) -> float:
        """Gradient norm of the first kernel over the largest of any kernel; 1 where all are zero or there is none."""
        norms = [w.gradient_norm for w in self.kernels]
        largest = max(norms, default=0.0)
        return norms[0] / largest if largest > 0 else 1.0


@dataclass(frozen=True)
class LayerState:
    """One layer in one snapshot: the worst of its activations, and its kernels taken together. A number that it does not have is NaN.

    `counts` is False for an output or a softmax, whose saturation is no symptom. `values_finite` speaks of the activations,
    `weights_finite` of the weights and their gradients.
    """

    layer: str
    saturated: float
    dead: float
    counts: bool
    gradient_norm: float
    gradient_ratio: float
    update_ratio: float
    has_kernel: bool
    values_finite: bool
    weights_finite: bool


def layer_states(snapshot: Snapshot) -> list[LayerState]:
    """Return the layers of `snapshot` that have an activation, a kernel or a weight that is not finite, in the network's order."""
    shown = {w.layer: None for w in snapshot.weights if w.is_kernel or not w.finite} | {a.layer: None for a in snapshot.activations}
    return [
        _state(layer, [a for a in snapshot.activations if a.layer == layer], [w for w in snapshot.weights if w.layer == layer])
        for layer in dict.fromkeys((*snapshot.layers, *shown))
        if layer in shown
    ]


def layers_of(snapshots: Sequence[Snapshot]) -> list[str]:
    """Return the names of all layers in `snapshots`, in the network order of the last snapshot that has them."""
    orders = {tuple(state.layer for state in layer_states(snapshot)): None for snapshot in reversed(snapshots)}
    return list(dict.fromkeys(name for order in orders for name in order))


def _state(layer: str, activations: Sequence[Activation], weights: Sequence[Weight]) -> LayerState:
    hidden = [a for a in activations if a.counts]
    kernels = [w for w in weights if w.is_kernel]

    def together(field: str) -> float:
        return math.hypot(*(getattr(w, field) for w in kernels)) if kernels else math.nan

    def worst(field: str, kinds: Sequence[str]) -> float:
        """Return the largest share, NaN if no activation is of a kind that can saturate or die."""
        values = [getattr(a, field) for a in hidden or activations if a.kind in kinds or getattr(a, field) > 0]
        return max((v for v in values if not math.isnan(v)), default=math.nan)

    norm, size = together("gradient_norm"), together("weight_norm")
    return LayerState(
        layer,
        saturated=worst("saturated", (*SATURATING, *CHOOSING)),
        dead=worst("dead", RECTIFYING),
        counts=bool(hidden) or not activations,
        gradient_norm=norm,
        gradient_ratio=_ratio(norm, size),
        update_ratio=_ratio(together("update"), size),
        has_kernel=bool(kernels),
        values_finite=all(a.finite for a in activations),
        weights_finite=all(w.finite for w in weights),
    )


def _ratio(a: float, b: float) -> float:
    if math.isnan(a):
        return math.nan
    return a / b if b else (math.inf if a else 0.0)
